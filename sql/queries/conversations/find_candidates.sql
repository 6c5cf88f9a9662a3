-- The agents that talk to a user next, unless they have expired.
SELECT c.user_id, c.greeting_agent, c.talk_candidates, c.game_candidates, c.friendship_level, c.event_id,
       c.source_end_time, c.created_at, c.expires_at
FROM public.agent_candidates AS c
WHERE c.user_id = %(user_id)s AND c.expires_at > (SELECT tandem.clock())
