-- When what waits in a queue now will have been started.
SELECT e.basis, e.waiting, e.waiting_exact, e.servers, e.mean_seconds, e.drained_at, e.drained_low, e.drained_high
FROM tandem.queue_eta(%(queue)s::text) AS e
