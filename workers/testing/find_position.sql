-- Where one ready job stands.
SELECT r.queue, r.priority, r.pos FROM tandem.ready AS r WHERE r.job_id = %(job_id)s::bigint
