-- Lets those run, or be cancelled, who waited for these jobs.
SELECT r.job_id, r.queue, r.doomed FROM tandem.release_dependents(%(parents)s::bigint[]) AS r
