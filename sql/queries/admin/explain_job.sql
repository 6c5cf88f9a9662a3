-- Why a job does not run, or how it ended; at least one row for any id.
SELECT e.reason, e.explanation, e.since, e.until FROM tandem.explain(%(job_id)s::bigint) AS e
