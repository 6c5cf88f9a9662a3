-- Changes, the newest first.
SELECT a.id, a.at, a.actor, a.action, a.target, a.before, a.after
FROM public.customer_audit AS a
WHERE a.id < %(before)s AND (%(target)s::text IS NULL OR a.target = %(target)s)
ORDER BY a.id DESC LIMIT %(most)s
