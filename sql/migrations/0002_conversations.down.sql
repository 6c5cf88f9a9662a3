-- Removes the conversations application with its data. Its jobs in the queue stay: the workers report an unknown kind.
DROP VIEW public.conversation_event_status;
DROP TABLE public.conversation_events, public.friendship_status, public.agent_candidates, public.friendship_agent_mapping,
    public.agent_prompting;
