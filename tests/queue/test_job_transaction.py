"""job.transaction() as a handler uses it: on a psycopg connection, in a SQLAlchemy session, in a thread."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.engine import make_engine, make_session_factory
from app.errors import AppError, InvalidInput
from app.queue.job import ClaimedJob
from app.queue.kinds import Kind
from app.queue.lease import LeaseLost
from app.queue.running import Job
from tests.support.claims import add, claim, worker_connection
from tests.support.jobs import outcome
from tests.support.membership import check_membership


async def handler(_: Job[Any]) -> None:
    return None


class Rig:
    """A claimed job and the ways to connections that a worker gives it."""

    def __init__(self, url: str, claimed: ClaimedJob) -> None:
        self.url = url
        self.claimed = claimed

    @asynccontextmanager
    async def _open_async(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            yield connection

    @contextmanager
    def _open_sync(self) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self.url) as connection:
            yield connection

    def job(self, *, token: int | None = None, opened: bool = True) -> Job[Any]:
        claimed = self.claimed
        if token is not None:
            claimed = claimed._replace(token=token)
        ways: dict[str, Any] = (
            {"open_async": self._open_async, "open_sync": self._open_sync} if opened else {}
        )
        return Job(claimed, Kind("test", handler), **ways)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        engine = make_engine(self.url, name="handlers")
        try:
            async with make_session_factory(engine)() as session:
                yield session
        finally:
            await engine.dispose()

    def facts(self) -> tuple[str, Any, int]:
        """(where the job stands, its result, effects)."""
        with psycopg.connect(self.url) as connection:
            effects = connection.execute("SELECT count(*) FROM effect").fetchone()
            result = connection.execute("SELECT result FROM tandem.done").fetchone()
        assert effects is not None
        return outcome(self.url, self.claimed.id), result and result[0], effects[0]


@pytest.fixture
async def rig(db_url: str) -> AsyncIterator[Rig]:
    """One claimed job, and a table for effects."""
    async with await worker_connection(db_url) as connection:
        await connection.execute("CREATE TABLE effect (n int)")
        await add(connection)
        [claimed] = await claim(connection)
    yield Rig(db_url, claimed)
    check_membership(db_url)


INSERT = "INSERT INTO effect VALUES (1)"


async def test_a_connections_effects_commit_with_the_job_and_its_result(rig: Rig) -> None:
    job = rig.job()
    async with job.transaction() as opened:
        await opened.connection.execute(INSERT)
        opened.result = {"score": 7}
    assert job.completed
    assert rig.facts() == ("SUCCEEDED", {"score": 7}, 1)


async def test_a_sessions_effects_commit_with_the_job_and_its_result(rig: Rig) -> None:
    job = rig.job()
    async with rig.session() as session, job.transaction(session) as opened:
        await session.execute(text(INSERT))
        opened.result = [1]
    assert job.completed
    assert rig.facts() == ("SUCCEEDED", [1], 1)


async def test_a_threads_effects_commit_with_the_job_and_its_result(rig: Rig) -> None:
    job = rig.job()
    with job.transaction_sync() as opened:
        opened.connection.execute(INSERT)
        opened.result = "done"
    assert job.completed
    assert rig.facts() == ("SUCCEEDED", "done", 1)


@pytest.mark.parametrize("way", ["connection", "session", "thread"])
async def test_what_a_block_raises_takes_its_effects_back_and_leaves_the_job_running(
    rig: Rig, way: str
) -> None:
    job = rig.job()
    with pytest.raises(ZeroDivisionError):
        if way == "thread":
            with job.transaction_sync() as opened:
                opened.connection.execute(INSERT)
                raise ZeroDivisionError
        elif way == "session":
            async with rig.session() as session, job.transaction(session):
                await session.execute(text(INSERT))
                raise ZeroDivisionError
        else:
            async with job.transaction() as opened:
                await opened.connection.execute(INSERT)
                raise ZeroDivisionError
    assert not job.completed
    assert rig.facts() == ("RUNNING", None, 0)


@pytest.mark.parametrize("way", ["connection", "session", "thread"])
async def test_a_stale_try_is_stopped_before_its_effects(rig: Rig, way: str) -> None:
    job = rig.job(token=rig.claimed.token ^ 1)
    with pytest.raises(LeaseLost):
        if way == "thread":
            with job.transaction_sync():
                pytest.fail("the block must not run")
        elif way == "session":
            async with rig.session() as session, job.transaction(session):
                pytest.fail("the block must not run")
        else:
            async with job.transaction():
                pytest.fail("the block must not run")
    assert rig.facts() == ("RUNNING", None, 0)


async def test_a_block_that_swallows_an_sql_error_does_not_count_as_done(rig: Rig) -> None:
    job = rig.job()
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        async with job.transaction() as opened:
            await opened.connection.execute(INSERT)
            with pytest.raises(psycopg.errors.DivisionByZero):
                await opened.connection.execute("SELECT 1 / 0")
    assert not job.completed
    assert rig.facts() == ("RUNNING", None, 0)


@pytest.mark.parametrize("result", [object(), "a\0b", float("nan"), "x" * 300_000])
async def test_a_result_that_cannot_be_stored_takes_the_effects_back(rig: Rig, result: object) -> None:
    with pytest.raises(InvalidInput):
        async with rig.job().transaction() as opened:
            await opened.connection.execute(INSERT)
            opened.result = result
    assert rig.facts() == ("RUNNING", None, 0)


async def test_a_job_ends_once(rig: Rig) -> None:
    job = rig.job()
    async with job.transaction():
        pass
    with pytest.raises(AppError, match="completed by an earlier transaction"):
        async with job.transaction():
            pytest.fail("the block must not run")
    with pytest.raises(AppError, match="completed by an earlier transaction"), job.transaction_sync():
        pytest.fail("the block must not run")


async def test_a_session_with_a_snapshot_that_does_not_move_is_refused(rig: Rig) -> None:
    with psycopg.connect(rig.url, autocommit=True) as connection:
        name = psycopg.sql.Identifier(connection.info.dbname)
        level = "ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'"
        connection.execute(psycopg.sql.SQL(level).format(name))
    async with rig.session() as session:
        with pytest.raises(InvalidInput, match="needs READ COMMITTED"):
            async with rig.job().transaction(session):
                pytest.fail("the block must not run")
    assert rig.facts()[0] == "RUNNING"


async def test_an_executor_without_that_kind_of_connection_says_so(rig: Rig) -> None:
    with pytest.raises(AppError, match=r"transaction_sync\(\)"):
        async with rig.job(opened=False).transaction():
            pytest.fail("the block must not run")
    with (
        pytest.raises(AppError, match=r"async with transaction\(\)"),
        rig.job(opened=False).transaction_sync(),
    ):
        pytest.fail("the block must not run")


async def test_a_connection_that_was_only_lent_leaves_the_job_running(rig: Rig) -> None:
    job = rig.job()
    async with job.connection() as connection:
        await connection.execute(INSERT)
    assert not job.completed
    assert rig.facts() == ("RUNNING", None, 1)
    with pytest.raises(AppError, match=r"transaction_sync\(\)"):
        async with rig.job(opened=False).connection():
            pytest.fail("the block must not run")
