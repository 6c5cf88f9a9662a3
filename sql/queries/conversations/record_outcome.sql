-- Writes what a conversation led to, once: an event that is PROCESSED already changes nothing. The caller holds the
-- lock on the user's friendship. Candidates of a conversation that ended later stay, unless they have expired.
WITH clock AS MATERIALIZED (SELECT tandem.clock() AS at), marked AS (
    UPDATE public.conversation_events AS e
    SET status = 'PROCESSED', processed_at = c.at, attempt_count = %(attempt)s, next_attempt_at = NULL,
        friendship_score_change = %(change)s, new_friendship_level = %(level)s, score = %(score)s::jsonb,
        error_code = NULL, error_details = NULL
    FROM clock AS c
    WHERE e.id = %(event_id)s AND e.status <> 'PROCESSED'
    RETURNING e.id, e.user_id, e.end_time
), added AS (
    UPDATE public.friendship_status AS f
    SET friendship_score = %(total)s, friendship_level = %(level)s, conversations = %(conversations)s,
        topic_metrics = %(topic_metrics)s::jsonb, recent_agents = %(recent_agents)s::jsonb, updated_at = c.at,
        last_conversation_at = greatest(f.last_conversation_at, m.end_time)
    FROM marked AS m, clock AS c
    WHERE f.user_id = m.user_id
    RETURNING f.user_id
), stored AS (
    INSERT INTO public.agent_candidates AS a
        (user_id, greeting_agent, talk_candidates, game_candidates, friendship_level, event_id, source_end_time,
         created_at, expires_at)
    SELECT m.user_id, %(greeting_agent)s::text, %(talk_candidates)s::text[], %(game_candidates)s::text[], %(level)s, m.id, m.end_time,
           c.at, c.at + %(ttl)s::interval
    FROM marked AS m CROSS JOIN clock AS c
    ON CONFLICT (user_id) DO UPDATE
    SET greeting_agent = excluded.greeting_agent, talk_candidates = excluded.talk_candidates,
        game_candidates = excluded.game_candidates, friendship_level = excluded.friendship_level,
        event_id = excluded.event_id, source_end_time = excluded.source_end_time, created_at = excluded.created_at,
        expires_at = excluded.expires_at
    WHERE a.source_end_time <= excluded.source_end_time OR a.expires_at <= excluded.created_at
    RETURNING a.user_id
)
SELECT (SELECT count(*) FROM added) AS added, (SELECT count(*) FROM stored) AS stored
