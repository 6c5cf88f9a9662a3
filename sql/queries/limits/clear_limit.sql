-- Removes a limit; false where there was none.
SELECT tandem.clear_limit(%(target)s::text) AS cleared
