-- Writes an ended conversation's event and its job, or answers those of the first call with this conversation_id.
-- One statement, so that in autocommit it is one transaction and one round trip. tandem.enqueue runs only if the row
-- is new; a rival that commits in between makes it fail with unique_violation, job and all, and the caller repeats.
WITH first AS MATERIALIZED (
    SELECT e.id, e.job_id, e.status, e.body_hash
    FROM public.conversation_events AS e WHERE e.conversation_id = %(conversation_id)s
), written AS (
    INSERT INTO public.conversation_events
        (id, conversation_id, user_id, bot_type, bot_id, bot_name, start_time, end_time, conversation_log, body_hash,
         next_attempt_at, created_at, job_id)
    SELECT %(id)s::uuid, %(conversation_id)s, %(user_id)s, %(bot_type)s, %(bot_id)s, %(bot_name)s, %(start_time)s,
           %(end_time)s, %(conversation_log)s::jsonb, %(body_hash)s, c.at + %(fallback)s::interval, c.at,
           tandem.enqueue('process_conversation_event', jsonb_build_object('event_id', %(id)s::uuid), 'conversations',
                          event_id => %(id)s::uuid, context => %(context)s::jsonb)
    FROM (SELECT tandem.clock() AS at) AS c
    WHERE NOT EXISTS (SELECT FROM first)
    RETURNING id, job_id, status
)
SELECT w.id::text, w.job_id, w.status, true AS created, true AS same_body FROM written AS w
UNION ALL
SELECT f.id::text, f.job_id, f.status, false, f.body_hash = %(body_hash)s FROM first AS f
