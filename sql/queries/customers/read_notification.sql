-- A notification with the address it goes to, as the customer has it now.
SELECT n.id, n.customer_id, n.topic, n.job_id, n.channel, n.facts, n.created_at, n.sent_at, c.language, c.email,
       c.webhook_url, c.webhook_secret
FROM public.customer_notifications AS n JOIN public.customers AS c USING (customer_id)
WHERE n.id = %(id)s
