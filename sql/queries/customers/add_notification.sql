-- Notes a notification for the channel that the customer has now; nothing when the occasion was told before.
INSERT INTO public.customer_notifications (id, customer_id, topic, once, job_id, channel, facts, created_at)
SELECT %(id)s, c.customer_id, %(topic)s, %(once)s, %(job_id)s, c.notify_by, %(facts)s::jsonb, tandem.clock()
FROM public.customers AS c WHERE c.customer_id = %(customer_id)s
ON CONFLICT (customer_id, once) DO NOTHING
RETURNING channel
