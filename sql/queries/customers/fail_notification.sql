-- Marks the notification that a sending job could not send.
UPDATE public.customer_notifications AS n SET failed_at = tandem.clock()
FROM tandem.job AS j
WHERE j.id = %(job_id)s AND n.id = (j.payload ->> 'notification_id')::uuid AND n.sent_at IS NULL
