-- The conversations application: events, friendships, agents, candidates. Frozen: later changes come as later migrations.

CREATE TABLE public.conversation_events (
    id               uuid        NOT NULL PRIMARY KEY,
    conversation_id  text COLLATE "C" NOT NULL CONSTRAINT conversation_events_conversation UNIQUE,
    user_id          text COLLATE "C" NOT NULL,
    bot_type         text COLLATE "C" NOT NULL CONSTRAINT conversation_events_bot_type
                     CHECK (bot_type IN ('TALK', 'GREETING', 'GAME_ACTIVITY')),
    bot_id           text        NOT NULL,
    bot_name         text        NOT NULL,
    start_time       timestamptz NOT NULL,
    end_time         timestamptz NOT NULL,
    conversation_log jsonb       NOT NULL,
    body_hash        bytea       NOT NULL,
    status           text COLLATE "C" NOT NULL DEFAULT 'PENDING' CONSTRAINT conversation_events_status
                     CHECK (status IN ('PENDING', 'PROCESSED', 'FAILED')),
    attempt_count    smallint    NOT NULL DEFAULT 0,
    next_attempt_at  timestamptz,
    job_id           bigint,
    created_at       timestamptz NOT NULL,
    processed_at     timestamptz,
    friendship_score_change numeric(8, 1),
    new_friendship_level text COLLATE "C",
    score            jsonb,
    error_code       text COLLATE "C",
    error_details    text,
    CONSTRAINT conversation_events_times CHECK (end_time >= start_time),
    CONSTRAINT conversation_events_waits CHECK (status <> 'PENDING' OR next_attempt_at IS NOT NULL),
    CONSTRAINT conversation_events_outcome CHECK (status <> 'PROCESSED' OR
        (processed_at IS NOT NULL AND friendship_score_change IS NOT NULL AND new_friendship_level IS NOT NULL))
);
CREATE INDEX conversation_events_pending ON public.conversation_events (next_attempt_at) WHERE status = 'PENDING';
COMMENT ON TABLE public.conversation_events IS 'One row per ended conversation: what was said, and what became of it';
COMMENT ON COLUMN public.conversation_events.next_attempt_at IS
    'While PENDING: when a retry is due, or from when on the fallback may look whether the job is still there';
COMMENT ON COLUMN public.conversation_events.score IS 'What the log gave: turns, questions, emotion, topics, parts of the change';

CREATE TABLE public.friendship_status (
    user_id          text COLLATE "C" NOT NULL PRIMARY KEY,
    friendship_score numeric(14, 1) NOT NULL DEFAULT 0,
    friendship_level text COLLATE "C" NOT NULL DEFAULT 'PHASE1_STRANGER' CONSTRAINT friendship_status_level
                     CHECK (friendship_level IN ('PHASE1_STRANGER', 'PHASE2_ACQUAINTANCE', 'PHASE3_FRIEND')),
    conversations    integer     NOT NULL DEFAULT 0,
    topic_metrics    jsonb       NOT NULL DEFAULT '{}',
    recent_agents    jsonb       NOT NULL DEFAULT '[]',
    last_conversation_at timestamptz,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE public.friendship_status IS 'One row per user: the sum of all processed conversations, in whatever order they came';
COMMENT ON COLUMN public.friendship_status.recent_agents IS 'The agents of the last conversations by end time, newest first';

CREATE TABLE public.agent_prompting (
    agent_id         text COLLATE "C" NOT NULL PRIMARY KEY,
    agent_name       text        NOT NULL,
    bot_type         text COLLATE "C" NOT NULL CONSTRAINT agent_prompting_bot_type
                     CHECK (bot_type IN ('TALK', 'GREETING', 'GAME_ACTIVITY')),
    topics           text[]      NOT NULL DEFAULT '{}',
    prompt_en        text        NOT NULL DEFAULT '',
    prompt_vi        text        NOT NULL DEFAULT '',
    enabled          boolean     NOT NULL DEFAULT true
);
COMMENT ON TABLE public.agent_prompting IS 'The agents: what they talk about and how they are prompted';

CREATE TABLE public.friendship_agent_mapping (
    friendship_level text COLLATE "C" NOT NULL CONSTRAINT friendship_agent_mapping_level
                     CHECK (friendship_level IN ('PHASE1_STRANGER', 'PHASE2_ACQUAINTANCE', 'PHASE3_FRIEND')),
    agent_id         text COLLATE "C" NOT NULL REFERENCES public.agent_prompting (agent_id) ON DELETE CASCADE,
    weight           double precision NOT NULL DEFAULT 1 CONSTRAINT friendship_agent_mapping_weight CHECK (weight > 0),
    enabled          boolean     NOT NULL DEFAULT true,
    PRIMARY KEY (friendship_level, agent_id)
);
COMMENT ON TABLE public.friendship_agent_mapping IS 'Which agents may be chosen at which friendship level, and how gladly';

CREATE TABLE public.agent_candidates (
    user_id          text COLLATE "C" NOT NULL PRIMARY KEY,
    greeting_agent   text,
    talk_candidates  text[]      NOT NULL,
    game_candidates  text[]      NOT NULL,
    friendship_level text COLLATE "C" NOT NULL,
    event_id         uuid        NOT NULL,
    source_end_time  timestamptz NOT NULL,
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE public.agent_candidates IS
    'Who may talk to a user next, until expires_at; a conversation with an older end_time never replaces it';

CREATE VIEW public.conversation_event_status AS
SELECT e.id AS event_id, e.conversation_id, e.user_id, e.bot_type, e.bot_id, e.bot_name, e.start_time, e.end_time,
       CASE WHEN e.status = 'PENDING' AND j.status = 'RUNNING' THEN 'PROCESSING' ELSE e.status END AS status,
       e.attempt_count, e.next_attempt_at, e.created_at, e.processed_at, e.friendship_score_change, e.new_friendship_level,
       e.score, e.error_code, e.error_details, e.job_id, j.status AS job_status, j.waiting_for AS job_waiting_for,
       j.attempt AS job_attempt, j.next_attempt_at AS job_next_attempt_at, j.started_at AS job_started_at,
       j.expires_at AS job_lease_expires_at, j.finished_at AS job_finished_at, j.created_at AS job_created_at
FROM public.conversation_events AS e
LEFT JOIN LATERAL (  -- OFFSET keeps the planner from joining whole tables: each event asks for its own job by index
    SELECT s.status, s.waiting_for, s.attempt, s.next_attempt_at, s.started_at, s.expires_at, s.finished_at, s.created_at
    FROM tandem.job_status AS s WHERE s.job_id = e.job_id OFFSET 0
) AS j ON true;
COMMENT ON VIEW public.conversation_event_status IS
    'Events with the state of their jobs; PROCESSING is derived from the job''s lease and never stored';
