-- end_conversation for many at once, in one transaction: one answer for each, in the order given. Of two with one
-- conversation_id the later is answered like a repeat. Events are written in the order of their ids, so that two such
-- statements do not wait for each other in a circle. On any error, a rival's and a wait for somebody's lock included,
-- nothing is written and the caller sends them one by one: so long as the limit here may one hold up the others.
WITH input AS MATERIALIZED (
    SELECT u.ord, u.id, u.conversation_id COLLATE "C" AS conversation_id, u.user_id, u.bot_type, u.bot_id, u.bot_name,
           u.start_time, u.end_time, u.conversation_log, u.body_hash, u.context
    FROM (SELECT set_config('lock_timeout', '100ms', true)) AS patience CROSS JOIN
    unnest(%(ids)s::uuid[], %(conversation_ids)s::text[], %(user_ids)s::text[], %(bot_types)s::text[],
           %(bot_ids)s::text[], %(bot_names)s::text[], %(start_times)s::timestamptz[], %(end_times)s::timestamptz[],
           %(conversation_logs)s::jsonb[], %(body_hashes)s::bytea[], %(contexts)s::jsonb[]) WITH ORDINALITY
        AS u(id, conversation_id, user_id, bot_type, bot_id, bot_name, start_time, end_time, conversation_log, body_hash,
             context, ord)
), first AS MATERIALIZED (
    SELECT i.ord, e.id, e.job_id, e.status, e.body_hash
    FROM input AS i CROSS JOIN LATERAL (
        SELECT e.id, e.job_id, e.status, e.body_hash
        FROM public.conversation_events AS e WHERE e.conversation_id = i.conversation_id OFFSET 0) AS e
), fresh AS MATERIALIZED (
    SELECT d.ord, row_number() OVER (ORDER BY d.ord) AS place FROM (
        SELECT DISTINCT ON (i.conversation_id) i.ord FROM input AS i
        WHERE i.ord NOT IN (SELECT f.ord FROM first AS f) ORDER BY i.conversation_id, i.ord) AS d
), queued AS MATERIALIZED (
    SELECT j.ord AS place, j.job_id FROM (
        SELECT array_agg('process_conversation_event'::text) AS kinds, array_agg('conversations'::text) AS queues,
               array_agg(jsonb_build_object('event_id', i.id) ORDER BY i.ord) AS payloads,
               array_agg(i.id ORDER BY i.ord) AS events, array_agg(i.context ORDER BY i.ord) AS contexts
        FROM fresh AS f JOIN input AS i USING (ord) HAVING count(*) > 0) AS b
    CROSS JOIN LATERAL tandem.enqueue_jobs(b.kinds, b.payloads, b.queues, event_ids => b.events, contexts => b.contexts) AS j
), written AS (
    INSERT INTO public.conversation_events
        (id, conversation_id, user_id, bot_type, bot_id, bot_name, start_time, end_time, conversation_log, body_hash,
         next_attempt_at, created_at, job_id)
    SELECT i.id, i.conversation_id, i.user_id, i.bot_type, i.bot_id, i.bot_name, i.start_time, i.end_time,
           i.conversation_log, i.body_hash, c.at + %(fallback)s::interval, c.at, q.job_id
    FROM fresh AS f JOIN queued AS q USING (place) JOIN input AS i USING (ord)
    CROSS JOIN (SELECT tandem.clock() AS at) AS c
    ORDER BY i.conversation_id
    RETURNING id, conversation_id, job_id, status, body_hash
)
SELECT coalesce(f.id, w.id)::text, coalesce(f.job_id, w.job_id), coalesce(f.status, w.status),
       w.id IS NOT DISTINCT FROM i.id AS created, coalesce(f.body_hash, w.body_hash) = i.body_hash AS same_body
FROM input AS i LEFT JOIN first AS f USING (ord) LEFT JOIN written AS w ON w.conversation_id = i.conversation_id
ORDER BY i.ord
