-- Delivers the next messages of one fill.
SELECT tandem.fill_topic(%(fill)s, %(most)s) AS delivered
