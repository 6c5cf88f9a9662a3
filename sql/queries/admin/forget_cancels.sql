-- Removes the cancel requests of jobs that ended before they could be cancelled.
DELETE FROM tandem.cancel_intent AS i USING tandem.done AS d
WHERE i.job_id = ANY (%(job_ids)s::bigint[]) AND d.job_id = i.job_id
