-- Notes that a suspect now runs alone in its process: only a crash while alone counts against the crash limit.
UPDATE tandem.lease SET alone = true WHERE job_id = %(job_id)s AND token = %(token)s RETURNING job_id
