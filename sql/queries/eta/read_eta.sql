-- When a job is expected to start and end; no row when it has ended or there is none.
SELECT e.basis, e."position", e.position_exact, e.start_at, e.start_low, e.start_high, e.finish_at, e.finish_low, e.finish_high
FROM tandem.eta(%(job_id)s::bigint) AS e
