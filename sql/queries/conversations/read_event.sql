-- What the handler needs of an event; the log as text, so that a large one can be decoded in a thread.
SELECT e.conversation_id, e.user_id, e.bot_type, e.bot_id, e.start_time, e.end_time, e.status,
       e.conversation_log::text AS log
FROM public.conversation_events AS e
WHERE e.id = %(event_id)s
