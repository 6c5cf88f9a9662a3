-- A customer's latest notifications.
SELECT n.id, n.topic, n.job_id, n.channel, n.facts, n.created_at, n.sent_at, n.failed_at
FROM public.customer_notifications AS n WHERE n.customer_id = %(customer_id)s
ORDER BY n.created_at DESC, n.id DESC LIMIT %(most)s
