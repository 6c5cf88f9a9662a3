-- end_conversation for many at once, in one transaction: one answer for each, in the order given. Of two with one
-- conversation_id the later is answered like a repeat. Events are written in the order of their ids, so that two such
-- statements do not wait for each other in a circle. On any error, a rival's and a wait for somebody's lock included,
-- nothing is written and the caller sends them one by one: so long as the limit here may one hold up the others.
WITH input AS MATERIALIZED (
    SELECT u.ord, u.id, u.conversation_id COLLATE "C" AS conversation_id, u.user_id, u.bot_type, u.bot_id, u.bot_name,
           u.start_time, u.end_time, u.conversation_log, u.body_hash, u.context,
           f.id AS first_id, f.job_id AS first_job_id, f.status AS first_status, f.body_hash AS first_hash
    FROM (SELECT set_config('lock_timeout', '250ms', true)) AS patience CROSS JOIN
    unnest(%(ids)s::uuid[], %(conversation_ids)s::text[], %(user_ids)s::text[], %(bot_types)s::text[],
           %(bot_ids)s::text[], %(bot_names)s::text[], %(start_times)s::timestamptz[], %(end_times)s::timestamptz[],
           %(conversation_logs)s::jsonb[], %(body_hashes)s::bytea[], %(contexts)s::jsonb[]) WITH ORDINALITY
        AS u(id, conversation_id, user_id, bot_type, bot_id, bot_name, start_time, end_time, conversation_log, body_hash,
             context, ord)
    LEFT JOIN LATERAL (  -- with OFFSET it cannot become a join that reads the whole table
        SELECT e.id, e.job_id, e.status, e.body_hash
        FROM public.conversation_events AS e WHERE e.conversation_id = u.conversation_id OFFSET 0) AS f ON true
), written AS (
    INSERT INTO public.conversation_events
        (id, conversation_id, user_id, bot_type, bot_id, bot_name, start_time, end_time, conversation_log, body_hash,
         next_attempt_at, created_at, job_id)
    SELECT n.id, n.conversation_id, n.user_id, n.bot_type, n.bot_id, n.bot_name, n.start_time, n.end_time,
           n.conversation_log, n.body_hash, c.at + %(fallback)s::interval, c.at,
           tandem.enqueue('process_conversation_event', jsonb_build_object('event_id', n.id), 'conversations',
                          event_id => n.id, context => n.context)
    FROM (SELECT DISTINCT ON (i.conversation_id) i.id, i.conversation_id, i.user_id, i.bot_type, i.bot_id, i.bot_name,
                 i.start_time, i.end_time, i.conversation_log, i.body_hash, i.context
          FROM input AS i WHERE i.first_id IS NULL ORDER BY i.conversation_id, i.ord) AS n
    CROSS JOIN (SELECT tandem.clock() AS at) AS c
    RETURNING id, conversation_id, job_id, status, body_hash
)
SELECT coalesce(i.first_id, w.id)::text, coalesce(i.first_job_id, w.job_id), coalesce(i.first_status, w.status),
       w.id IS NOT DISTINCT FROM i.id AS created, coalesce(i.first_hash, w.body_hash) = i.body_hash AS same_body
FROM input AS i LEFT JOIN written AS w ON w.conversation_id = i.conversation_id
ORDER BY i.ord
