-- Notes what programs published through their own connections: the messages of the transactions that this batch seals
-- which no entry tells of yet, one entry for each topic and stretch of positions (so that entries stay small). The
-- batch ends where tell_ends has said, not where a later snapshot would.
WITH bound AS MATERIALIZED (
    SELECT coalesce((SELECT h.xid_end FROM tandem.audit_head AS h ORDER BY h.seq DESC LIMIT 1), '0'::xid8) AS xid_start,
           %(xid_end)s::text::xid8 AS xid_end
), told AS MATERIALIZED (
    SELECT e.xid::text::bigint AS xid, e.topic, range_agg(int8range((p.run ->> 0)::bigint, (p.run ->> 1)::bigint, '[]')) AS places
    FROM tandem.audit_entry AS e CROSS JOIN LATERAL jsonb_array_elements(
        CASE jsonb_typeof(e.detail -> 'positions') WHEN 'array' THEN e.detail -> 'positions' ELSE '[]' END) AS p(run)
    WHERE e.xid >= (SELECT b.xid_start FROM bound AS b) AND e.xid < (SELECT b.xid_end FROM bound AS b) AND e.action = 'publish'
    GROUP BY 1, 2
), untold AS MATERIALIZED (
    SELECT t.name AS topic, max(m.published_at) AS at, min(m.xid) AS first_xid, max(m.xid) AS last_xid, count(*) AS items,
           range_agg(int8range(m.position, m.position, '[]')) AS places
    FROM tandem.message AS m JOIN tandem.topic AS t ON t.id = m.topic_id
    LEFT JOIN told AS o ON o.xid = m.xid AND o.topic = t.name
    WHERE m.xid >= (SELECT b.xid_start::text::bigint FROM bound AS b) AND m.xid < (SELECT b.xid_end::text::bigint FROM bound AS b)
      AND (o.places IS NULL OR NOT m.position <@ o.places)
    GROUP BY t.name, m.position / 10000
)
INSERT INTO tandem.audit_entry (at, xid, actor, action, topic, items, detail)
SELECT u.at, u.last_xid::text::xid8, %(actor)s, 'publish', u.topic, u.items, jsonb_build_object(
    'positions', (SELECT jsonb_agg(jsonb_build_array(lower(r.run), upper(r.run) - 1) ORDER BY r.run) FROM unnest(u.places) AS r(run)),
    'xids', jsonb_build_array(u.first_xid, u.last_xid))
FROM untold AS u
