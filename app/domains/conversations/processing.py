"""What a worker does with an ended conversation: score it outside any transaction, then write everything at once.

The write shares the transaction in which the job ends, so a crash or a repeat never counts a score twice.
"""

import asyncio
import json
import logging
import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any, Final, NamedTuple
from uuid import UUID
from weakref import WeakValueDictionary

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app import events
from app.api.sqlstates import driver_error
from app.config import ConversationSettings
from app.context import bind
from app.database.sessions import OpenSession
from app.domains.conversations import processing_store
from app.domains.conversations.errors import event_missing
from app.domains.conversations.facts import ProcessingStarted
from app.domains.conversations.formula import Formula, ProcessConversation
from app.domains.conversations.friendship import FriendshipStatus, add_conversation
from app.domains.conversations.processing_store import EventToProcess
from app.domains.conversations.scoring import ConversationScore, score_conversation
from app.domains.conversations.selection import (
    AgentMapping,
    AgentPrompting,
    choose_candidates,
)
from app.domains.conversations.topic_metrics import topics_as_json
from app.queue.running import Job

LARGE_LOG: Final = 16 * 1024
"""Characters of a log from which it is scored in a thread, so that the other jobs' coroutines go on."""
PASSING: Final = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
)
PATIENCE: Final = (0.05, 0.2)
"""At most so many seconds before the transaction is tried again."""
CARRIED: Final = ("request_id", "conversation_id")
_log = logging.getLogger(__name__)


class Agents(NamedTuple):
    """The two tables of agents as they were read."""

    mapping: Sequence[AgentMapping]
    prompting: Mapping[str, AgentPrompting]


class Scored(NamedTuple):
    """An event with what its log gave."""

    event_id: UUID
    event: EventToProcess
    agents: Agents
    score: ConversationScore


class Processor:
    """The handler of `process_conversation_event`; one per worker process."""

    def __init__(self, sessions: OpenSession, settings: ConversationSettings) -> None:
        self._sessions = sessions
        self._settings = settings
        self._formula = Formula.of(settings)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._agents: Agents | None = None
        self._agents_read_at = 0.0

    async def handle(self, job: Job[ProcessConversation]) -> None:
        """Process one conversation exactly once, however often the job runs."""
        events.publish(ProcessingStarted(job.waited))
        with bind(job_id=job.id, **_ids(job.claimed.context)):
            scored = await self._compute(job.payload.event_id)
            if scored is None:
                return  # processed already: the worker ends the job, there is nothing left to count
            async with self._turn(scored.event.user_id):
                await self._write(job, scored)

    # --- outside any transaction -----------------------------------------------------------------------------

    async def _compute(self, event_id: UUID) -> Scored | None:
        """The event with its score; None when it is processed. Raises HandlerError when it is gone."""
        async with self._sessions() as session:
            event = await processing_store.read_event(session, event_id)
            agents = await self._read_agents(session)
        if event is None:
            raise event_missing(event_id)
        if event.status == "PROCESSED":
            return None
        return Scored(event_id, event, agents, await self._score(event, agents))

    async def _score(self, event: EventToProcess, agents: Agents) -> ConversationScore:
        agent = agents.prompting.get(event.bot_id)
        topic = agent.topics[0] if agent is not None and agent.topics else None

        def score() -> ConversationScore:
            return score_conversation(
                json.loads(event.log),
                bot_type=event.bot_type,
                bot_id=event.bot_id,
                topic=topic,
                start_time=event.start_time,
                end_time=event.end_time,
                weights=self._formula.weights,
            )

        return await asyncio.to_thread(score) if len(event.log) > LARGE_LOG else score()

    # --- in the job's transaction ----------------------------------------------------------------------------

    def _turn(self, user_id: str) -> asyncio.Lock:
        """One conversation of a user at a time in this process.

        They would wait for each other's row lock anyway, but each with a connection that others could use.
        """
        return self._turns.setdefault(user_id, asyncio.Lock())

    async def _write(self, job: Job[ProcessConversation], scored: Scored) -> None:
        """Effects and the job's end. What passes by itself (a lock, a deadlock) does not cost the job a try."""
        for patience in (*PATIENCE, None):
            try:
                async with self._sessions() as session, job.transaction(session) as transaction:
                    transaction.result = await self._record(session, job, scored)
                return
            except (DBAPIError, psycopg.Error) as error:
                if patience is None or not isinstance(driver_error(error), PASSING):
                    raise
                _log.info("the transaction is tried again: %s", str(error).partition("\n")[0])
            await asyncio.sleep(random.uniform(0.0, patience))  # noqa: S311 - spreads load

    async def _record(
        self, session: AsyncSession, job: Job[ProcessConversation], scored: Scored
    ) -> dict[str, Any]:
        """Add the score to the user's friendship, choose the next agents, mark the event."""
        event, score, agents = scored.event, scored.score, scored.agents
        before, recent = await processing_store.lock_friendship(session, event.user_id)
        after = add_conversation(before, score, self._formula.thresholds)
        recent = with_recent(recent, event, scored.event_id, most=len(self._formula.rules.recent))
        chosen = choose_candidates(
            after,
            agents.mapping,
            agents.prompting.values(),
            seed=f"{event.user_id}:{scored.event_id}",
            recent_agents=[str(one["agent"]) for one in recent],
            rules=self._formula.rules,
        )
        added = await processing_store.record_outcome(
            session,
            {
                "event_id": scored.event_id,
                "attempt": job.attempt,
                "change": score.friendship_score_change,
                "score": json.dumps(score.as_json(), ensure_ascii=False),
                **_friendship(after),
                "recent_agents": json.dumps(recent, ensure_ascii=False),
                "greeting_agent": chosen.greeting_agent,
                "talk_candidates": list(chosen.talk_candidates),
                "game_candidates": list(chosen.game_candidates),
                "ttl": timedelta(hours=self._settings.candidates_ttl_hours),
            },
        )
        if not added:
            return {"already_processed": True}
        return {"friendship_score_change": float(score.friendship_score_change), "level": after.level.value}

    # --- agents ----------------------------------------------------------------------------------------------

    async def _read_agents(self, session: AsyncSession) -> Agents:
        """The agents' tables, read again when they are older than the settings allow."""
        agents, now = self._agents, monotonic()
        if agents is None or now - self._agents_read_at >= self._settings.agents_fresh_seconds:
            mapping, prompting = await processing_store.read_agents(session)
            agents = Agents(mapping, {agent.agent_id: agent for agent in prompting})
            self._agents, self._agents_read_at = agents, now
        return agents


def _ids(context: Mapping[str, Any]) -> dict[str, str]:
    """The producer's ids for this job's log lines; any SQL client may have written the context."""
    return {name: context[name] for name in CARRIED if isinstance(context.get(name), str)}


def _friendship(status: FriendshipStatus) -> dict[str, Any]:
    return {
        "total": status.score,
        "level": status.level.value,
        "conversations": status.conversations,
        "topic_metrics": json.dumps(topics_as_json(status.topic_metrics), ensure_ascii=False),
    }


def with_recent(
    recent: Sequence[Mapping[str, Any]], event: EventToProcess, event_id: UUID, *, most: int
) -> list[dict[str, Any]]:
    """The agents of the last `most` conversations by end time, newest first; any order of adding gives the same."""
    mine = {"agent": event.bot_id, "end_time": event.end_time.isoformat(), "event_id": str(event_id)}
    entries = [dict(one) for one in recent] + [mine]
    entries.sort(key=lambda one: (one["end_time"], one["event_id"]), reverse=True)
    return entries[:most]
