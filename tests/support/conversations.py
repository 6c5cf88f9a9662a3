"""The conversations as tests drive them: bodies, the API in this process, a worker beside it, rows read by SQL."""

import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.config import ApiSettings, ConversationSettings, DatabaseSettings, Settings
from app.database.connect import connect
from app.database.engine import make_engine, make_session_factory
from app.domains.conversations import jobs
from app.domains.conversations.schemas import EXAMPLE
from app.main import create_app
from app.queue.job import ClaimedJob
from app.queue.kinds import Kind, Registry
from app.queue.running import Job
from tests.support.claims import claim, every_lane
from tests.support.supervised import supervised
from workers.supervisor import Supervisor
from workers.sweeper.reconcile import Reconciler

END = "/v1/conversations/end"
START = datetime(2025, 11, 25, 18, 0, tzinfo=UTC)


def body(conversation_id: str = "conv_1", user: str = "user_1", **changes: Any) -> dict[str, Any]:
    """A good body; keywords replace its fields."""
    made = copy.deepcopy(EXAMPLE) | {"conversation_id": conversation_id, "profile_id": user}
    return made | changes


def ended_at(minutes: float) -> str:
    """An end_time so many minutes after every body's start."""
    return (START + timedelta(minutes=minutes)).isoformat()


def make_settings(
    *,
    api: Mapping[str, Any] | None = None,
    conversations: Mapping[str, Any] | None = None,
    database: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings of which a test states only what matters to it."""
    return Settings(
        api=ApiSettings(**(api or {})),
        conversations=ConversationSettings(**(conversations or {})),
        database=DatabaseSettings(**(database or {})),
    )


@asynccontextmanager
async def serving(url: str, settings: Settings | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API, which runs in this process. What the API does not handle reaches the test as it is."""
    app = create_app(settings or make_settings(), url=url)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client,
    ):
        yield client


async def end(client: httpx.AsyncClient, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Report the end of a conversation that must be accepted; answers the ids."""
    response = await client.post(END, json=body(*args, **kwargs))
    assert response.status_code == 202, response.text
    answer: dict[str, Any] = response.json()
    return answer


@asynccontextmanager
async def working(
    url: str, settings: Settings | None = None, *, sweep: bool = False, **worker: Any
) -> AsyncIterator[Supervisor]:
    """A worker that processes conversations, in this process."""
    settings = settings or make_settings()
    async with opened_sessions(url) as sessions:
        registry = registered(sessions, settings)
        reconcilers = [Reconciler(name, repair, 0.1) for name, repair, _ in jobs.reconcilers(settings)]
        queues = {"queues": {jobs.QUEUE: 1}}
        async with supervised(
            url, registry, sweep=sweep, reconcilers=reconcilers, **{**queues, **worker}
        ) as supervisor:
            yield supervisor


@asynccontextmanager
async def opened_sessions(url: str) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Sessions as a worker's handlers get them."""
    engine = make_engine(url, name="handlers")
    try:
        yield make_session_factory(engine)
    finally:
        await engine.dispose()


def registered(sessions: async_sessionmaker[AsyncSession], settings: Settings | None = None) -> Registry:
    """A registry that knows the conversations."""
    registry = Registry()
    jobs.register(registry, sessions=sessions, settings=settings or make_settings())
    return registry


def kind_of(registry: Registry) -> Kind:
    """The conversations' kind."""
    kind = registry.get(jobs.KIND)
    assert kind is not None
    return kind


async def claim_one(url: str, **options: Any) -> ClaimedJob:
    """Claim the oldest job of a conversation, as a worker would."""
    async with await connect(url, name="claimer") as connection:
        [claimed] = await claim(connection, 1, lanes=every_lane((jobs.QUEUE,)), **options)
    return claimed


async def handle(registry: Registry, claimed: ClaimedJob) -> Job[Any]:
    """Run the handler on a claimed job, without a worker."""
    kind = kind_of(registry)
    job: Job[Any] = Job(claimed, kind)
    await kind.handler(job)
    return job


def read(url: str, query: str, *params: Any) -> list[Any]:
    """Rows of a fixed query, columns by name."""
    with psycopg.connect(url, autocommit=True, row_factory=namedtuple_row) as connection:
        return connection.execute(query.encode(), params or None).fetchall()


def write(url: str, statement: str, *params: Any) -> None:
    """Run a fixed statement and commit it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode(), params or None)


def event(url: str, conversation_id: str = "conv_1") -> Any:
    """The event's row, with what the view derives beside what is stored."""
    query = (
        "SELECT s.event_id, s.status, e.status AS stored, s.attempt_count, s.next_attempt_at, s.processed_at,"
        " s.friendship_score_change, s.new_friendship_level, s.score, s.error_code, s.error_details, s.job_id,"
        " s.job_status, s.created_at FROM conversation_event_status AS s"
        " JOIN conversation_events AS e ON e.id = s.event_id WHERE s.conversation_id = %s"
    )
    [row] = read(url, query, conversation_id)
    return row


def friendship(url: str, user: str = "user_1") -> Any:
    """The user's row of friendship_status."""
    query = (
        "SELECT friendship_score, friendship_level, conversations, topic_metrics, recent_agents,"
        " last_conversation_at FROM friendship_status WHERE user_id = %s"
    )
    [row] = read(url, query, user)
    return row


def counts(url: str) -> tuple[int, int]:
    """How many events and how many jobs there are."""
    query = "SELECT (SELECT count(*) FROM conversation_events) AS events, (SELECT count(*) FROM tandem.job) AS jobs"
    [row] = read(url, query)
    return row.events, row.jobs
