-- Entries whose transactions have ended and that no batch has sealed, in the order in which they will be chained; with
-- the end of the last batch, its hash, and where this batch ends (as tell_ends answered).
WITH last AS MATERIALIZED (
    SELECT h.seq, h.hash, h.xid_end FROM tandem.audit_head AS h ORDER BY h.seq DESC LIMIT 1
), bound AS MATERIALIZED (
    SELECT coalesce((SELECT l.seq FROM last AS l), 0) AS seq, coalesce((SELECT l.hash FROM last AS l), '\x') AS hash,
           coalesce((SELECT l.xid_end FROM last AS l), '0'::xid8) AS xid_start, %(xid_end)s::text::xid8 AS xid_end
)
SELECT b.seq AS last_seq, b.hash AS last_hash, b.xid_end::text AS xid_end, e.id,
       to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS at, e.xid::text AS xid, e.actor, e.action, e.topic, e.group_name,
       e.items, e.detail
FROM bound AS b JOIN tandem.audit_entry AS e ON e.xid >= b.xid_start AND e.xid < b.xid_end
ORDER BY e.xid, e.id
