-- A stretch of the chain with its entries; an entry that is gone has no id.
SELECT c.seq, c.entry_id, c.hash, e.id, to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS at, e.xid::text AS xid,
       e.actor, e.action, e.topic, e.group_name, e.items, e.detail
FROM tandem.audit_chain AS c LEFT JOIN tandem.audit_entry AS e ON e.id = c.entry_id
WHERE c.seq > %(after)s ORDER BY c.seq LIMIT %(most)s
