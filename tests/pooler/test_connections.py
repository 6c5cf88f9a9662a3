"""Connections through PgBouncer: noticed, each transaction with its settings, nothing left behind (F19, F20)."""

import asyncio
import os
import signal
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from app.config import DatabaseSettings
from app.database.connect import connect, connect_sync, is_pooled
from app.database.engine import make_engine, make_sync_engine
from app.database.pooled import ServerChanged, moves
from app.queue.store import PINNED_PLANS
from tests.support.pgbouncer import FOUND, leaked, pgbouncer

SESSION = {**PINNED_PLANS, "synchronous_commit": "off", "lock_timeout": "1234ms"}
SEEN = "SELECT current_setting('lock_timeout'), current_setting('synchronous_commit'), current_setting('jit')"


async def test_a_pooler_is_noticed_and_a_direct_connection_is_not_taken_for_one(
    pooled_url: str, db_url: str
) -> None:
    async with await connect(pooled_url, name="x", session=SESSION) as pooled:
        assert is_pooled(pooled)
    async with await connect(db_url, name="x", session=SESSION) as direct:
        assert not is_pooled(direct)
        row = await (await direct.execute(SEEN)).fetchone()
        assert row == ("1234ms", "off", "off")
    with connect_sync(pooled_url, name="x", session=SESSION) as one, connect_sync(db_url, name="x") as other:
        assert (is_pooled(one), is_pooled(other)) == (True, False)


@pytest.mark.parametrize("autocommit", [True, False])
async def test_every_transaction_has_the_settings_and_nobody_else_has(
    pooled_url: str, autocommit: bool
) -> None:
    async with await connect(pooled_url, name="x", session=SESSION, autocommit=autocommit) as connection:
        for _ in range(8):
            assert await (await connection.execute(SEEN)).fetchone() == ("1234ms", "off", "off")
            if not autocommit:
                await connection.commit()
            async with connection.transaction():
                assert await (await connection.execute(SEEN)).fetchone() == ("1234ms", "off", "off")
                with pytest.raises(psycopg.errors.DivisionByZero):
                    async with connection.transaction():
                        await connection.execute("SELECT 1/0")
                assert await (await connection.execute(SEEN)).fetchone() == ("1234ms", "off", "off")
        assert leaked(pooled_url) == []


@pytest.mark.parametrize("autocommit", [True, False])
def test_the_same_for_synchronous_code(pooled_url: str, autocommit: bool) -> None:
    with connect_sync(pooled_url, name="x", session=SESSION, autocommit=autocommit) as connection:
        for _ in range(8):
            assert connection.execute(SEEN, prepare=True).fetchone() == ("1234ms", "off", "off")
            if not autocommit:
                connection.rollback()
            with connection.transaction():
                assert connection.execute(SEEN).fetchone() == ("1234ms", "off", "off")
        assert leaked(pooled_url) == []


async def test_a_failing_statement_leaves_the_connection_usable(pooled_url: str) -> None:
    async with await connect(pooled_url, name="x", session=SESSION) as connection:
        for _ in range(3):
            with pytest.raises(psycopg.errors.DivisionByZero):
                await connection.execute("SELECT 1/0")
            assert await (await connection.execute("SELECT 1")).fetchone() == (1,)


async def test_tasks_that_share_a_connection_do_not_share_a_transaction(pooled_url: str) -> None:
    async with await connect(pooled_url, name="x", session=SESSION) as connection:
        await connection.execute("CREATE TABLE seen (n int)")

        async def writes(number: int) -> None:
            await connection.execute("INSERT INTO seen VALUES (%s)", (number,))

        async def fails() -> None:
            with pytest.raises(psycopg.errors.DivisionByZero):
                async with connection.transaction():
                    await connection.execute("INSERT INTO seen VALUES (-1)")
                    await connection.execute("SELECT 1/0 FROM pg_sleep(0.02)")

        await asyncio.gather(
            *(writes(n) for n in range(10)), fails(), *(writes(n) for n in range(10, 20)), fails()
        )
        rows = await (await connection.execute("SELECT n FROM seen ORDER BY n")).fetchall()
        assert [row[0] for row in rows] == list(range(20))


async def test_pools_of_sqlalchemy_work_and_keep_nothing(pooled_url: str) -> None:
    engine = make_engine(pooled_url, name="x")
    try:

        async def ask(_: int) -> Any:
            async with engine.begin() as connection:
                return (await connection.execute(text("SELECT current_setting('lock_timeout')"))).scalar()

        assert set(await asyncio.gather(*(ask(n) for n in range(40)))) == {"2s"}
        async with engine.connect() as opened:
            auto = await opened.execution_options(isolation_level="AUTOCOMMIT")
            assert (await auto.execute(text("SELECT current_setting('lock_timeout')"))).scalar() == "2s"
    finally:
        await engine.dispose()
    sync = make_sync_engine(pooled_url, name="x")
    with sync.begin() as connection:
        assert connection.execute(text("SELECT current_setting('lock_timeout')")).scalar() == "2s"
    sync.dispose()


async def test_the_settings_decide_over_what_is_seen(pooled_url: str) -> None:
    told = DatabaseSettings(pooler="transaction")
    async with await connect(pooled_url, name="x", settings=told, session=SESSION) as connection:
        assert is_pooled(connection)
        assert await (await connection.execute(SEEN)).fetchone() == ("1234ms", "off", "off")


async def test_statements_that_move_are_seen_by_two_connections(pooled_url: str, db_url: str) -> None:
    async with await connect(pooled_url, name="x") as one, await connect(pooled_url, name="x") as two:
        assert await moves(one, two)
    async with await connect(db_url, name="x") as one, await connect(db_url, name="x") as two:
        assert not await moves(one, two)


@pytest.mark.skipif(FOUND is None, reason="no pgbouncer on this machine")
def test_the_proof_sees_what_an_ordinary_client_leaves(db_url: str) -> None:
    """The negative control: settings, channels and locks of a session do reach other clients of the pooler."""
    with (
        pgbouncer(db_url, pool=2) as url,
        psycopg.connect(url, autocommit=True, prepare_threshold=None) as careless,
    ):
        careless.execute("SELECT set_config('synchronous_commit', 'off', false)")
        careless.execute("LISTEN something")
        careless.execute("SELECT pg_advisory_lock(7)")
        kinds = {kind for kind, _ in leaked(url, pool=2)}
    assert kinds == {"setting", "channel", "advisory"}


@pytest.mark.parametrize("crash", [True, False])
async def test_a_server_that_crashed_behind_the_pooler_is_noticed(make_server: Any, crash: bool) -> None:
    """Floors and caches rest on what the server gave out; the pooler keeps our connection over its crash."""
    if FOUND is None:
        pytest.skip("no pgbouncer on this machine (Debian: apt-get install pgbouncer)")
    with make_server({"restart_after_crash": "on"}) as (cluster, direct), pgbouncer(direct) as url:
        async with await connect(url, name="x", session=SESSION) as connection:
            row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
            assert row is not None
            if crash:
                os.kill(row[0], signal.SIGKILL)
            else:
                cluster.stop(mode="immediate")
                cluster.start()
            with pytest.raises(psycopg.OperationalError) as raised:
                for _ in range(50):
                    try:
                        await connection.execute("SELECT 1")
                    except ServerChanged:
                        raise
                    except psycopg.OperationalError:
                        if connection.closed:
                            raise
            assert isinstance(raised.value, ServerChanged) or connection.closed
