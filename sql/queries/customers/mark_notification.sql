-- Writes that a notification was sent, or that sending was given up.
UPDATE public.customer_notifications AS n
SET sent_at = CASE WHEN %(sent)s::boolean THEN tandem.clock() END, failed_at = CASE WHEN NOT %(sent)s::boolean THEN tandem.clock() END
WHERE n.id = %(id)s AND n.sent_at IS NULL
