-- The queue's clock.
SELECT tandem.clock() AS at
