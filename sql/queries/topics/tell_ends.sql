-- Notes how tries of deliveries by workers ended: entries of what `delivery_end` holds of the transactions that this batch
-- seals, which then leaves it; one for each group, worker, try and stretch of positions. Answers where the batch ends, and
-- whether more can be sealed behind it. A delivery without a position (its job is gone, or no publish made it) is told by job.
WITH start AS MATERIALIZED (
    SELECT coalesce((SELECT h.xid_end FROM tandem.audit_head AS h ORDER BY h.seq DESC LIMIT 1), '0'::xid8) AS first,
           pg_snapshot_xmin(pg_current_snapshot()) AS past
), bound AS MATERIALIZED (
    SELECT s.first, s.past, least(s.past, nullif((
        SELECT e.xid FROM tandem.delivery_end AS e WHERE e.xid >= s.first AND e.xid < s.past ORDER BY e.xid OFFSET %(most)s LIMIT 1
    ), s.first)) AS xid_end FROM start AS s
), gone AS (
    DELETE FROM tandem.delivery_end AS e
    WHERE e.xid >= (SELECT b.first FROM bound AS b) AND e.xid < (SELECT b.xid_end FROM bound AS b)
    RETURNING e.xid, e.queue, e.action, e.worker, e.attempt, e.started_at, e.ended_at, e.job_ids
), single AS MATERIALIZED (
    SELECT g.xid, g.queue, g.action, g.worker, g.attempt, g.started_at, g.ended_at, u.job_id,
           (SELECT substring(j.payload ->> 'position' FROM '^[0-9]{1,18}$')::bigint FROM tandem.job AS j WHERE j.id = u.job_id) AS place
    FROM gone AS g CROSS JOIN LATERAL unnest(g.job_ids) AS u(job_id)
), told AS (
    SELECT t.name AS topic, k.name AS group_name, s.action, s.worker, s.attempt, max(s.xid) AS xid, min(s.started_at) AS started_at,
           max(s.ended_at) AS at, count(*) AS items, range_agg(int8range(s.place, s.place, '[]')) FILTER (WHERE s.place IS NOT NULL) AS places,
           jsonb_agg(s.job_id ORDER BY s.job_id) FILTER (WHERE s.place IS NULL) AS jobs
    FROM single AS s JOIN tandem.topic_group AS k ON k.queue = s.queue JOIN tandem.topic AS t ON t.id = k.topic_id
    GROUP BY t.name, k.name, s.action, s.worker, s.attempt, s.place / 10000
), noted AS (
    INSERT INTO tandem.audit_entry (at, xid, actor, action, topic, group_name, items, detail)
    SELECT o.at, o.xid, coalesce('worker:' || w.name, concat('process:', o.worker)), o.action, o.topic, o.group_name, o.items,
           jsonb_strip_nulls(jsonb_build_object('positions', (
               SELECT jsonb_agg(jsonb_build_array(lower(r.run), upper(r.run) - 1) ORDER BY r.run) FROM unnest(o.places) AS r(run)),
               'jobs', o.jobs, 'attempt', o.attempt, 'worker', o.worker, 'started', o.started_at))
    FROM told AS o LEFT JOIN tandem.worker AS w ON w.id = o.worker ORDER BY o.xid
)
SELECT b.xid_end::text AS xid_end, b.xid_end < b.past AS more FROM bound AS b
