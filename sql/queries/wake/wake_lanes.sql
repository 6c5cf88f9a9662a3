-- Notifies the lanes on which somebody sleeps; runs after the commit.
SELECT tandem.wake(%(lanes)s::integer[]) AS notified
