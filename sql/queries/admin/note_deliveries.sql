-- Notes in the audit log of topics what was done with these jobs, in the transaction that does it: one entry for each group,
-- actor and reason, none for queues that are no group's. `places` are the positions of jobs that are gone by now.
WITH told AS (
    SELECT t.name AS topic, g.name AS group_name, coalesce(u.actor, 'unknown') AS actor, u.reason, count(*) AS items,
           range_agg(int8range(u.job_id, u.job_id, '[]')) AS jobs,
           range_agg(int8range(p.place, p.place, '[]')) FILTER (WHERE p.place IS NOT NULL) AS places
    FROM unnest(%(queues)s::text[], %(job_ids)s::bigint[], %(places)s::bigint[], %(actors)s::text[], %(reasons)s::text[])
        AS u(queue, job_id, place, actor, reason)
    JOIN tandem.topic_group AS g ON g.queue = u.queue JOIN tandem.topic AS t ON t.id = g.topic_id
    LEFT JOIN tandem.job AS j ON j.id = u.job_id
    CROSS JOIN LATERAL (
        SELECT coalesce(u.place, substring(j.payload ->> 'position' FROM '^[0-9]{1,18}$')::bigint) AS place
    ) AS p
    GROUP BY t.name, g.name, u.actor, u.reason
)
INSERT INTO tandem.audit_entry (at, xid, actor, action, topic, group_name, items, detail)
SELECT tandem.clock(), pg_current_xact_id(), o.actor, %(action)s, o.topic, o.group_name, o.items,
       jsonb_strip_nulls(jsonb_build_object(
           'jobs', (SELECT jsonb_agg(jsonb_build_array(lower(r.run), upper(r.run) - 1) ORDER BY r.run) FROM unnest(o.jobs) AS r(run)),
           'positions', (SELECT jsonb_agg(jsonb_build_array(lower(r.run), upper(r.run) - 1) ORDER BY r.run) FROM unnest(o.places) AS r(run)),
           'reason', o.reason))
FROM told AS o ORDER BY o.topic, o.group_name
