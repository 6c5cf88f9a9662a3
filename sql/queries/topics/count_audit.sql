-- The compliance report's counts: what was done by whom to which topic within a time.
SELECT e.action, e.topic, e.group_name, e.actor, count(*) AS entries, sum(e.items)::bigint AS items, min(e.at) AS first_at, max(e.at) AS last_at
FROM tandem.audit_entry AS e WHERE e.at >= %(since)s AND e.at < %(until)s
GROUP BY e.action, e.topic, e.group_name, e.actor ORDER BY e.action, e.topic, e.group_name, e.actor
