"""The check-up on real databases: healthy ones, and each illness by itself, with its way out."""

import contextlib
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from app.config import Settings, WorkerSettings
from app.database.connect import connect
from app.observability.doctor import examination, limits, server, storage, wakeups, work
from app.observability.doctor.examination import count_checks, examine
from app.observability.doctor.finding import Check, Finding, Patient, worst
from app.observability.doctor.store import DoctorStore
from app.observability.doctor.wakeups import Pids
from app.queue.store import Store
from tests.support.claims import add, value
from tests.support.proxy import Proxy
from tests.support.states import ALIVE, SILENT, States, fill

NAMES = [
    "connection",
    "server",
    "settings",
    "connections",
    "pooler",
    "notify",
    "schema",
    "horizon",
    "dead-rows",
    "leases",
    "sweeper",
    "queues",
    "workers",
    "floors",
    "limits",
    "secrets",
    "membership",
]
DIRECT = Settings()


@asynccontextmanager
async def patient(
    url: str, settings: Settings = DIRECT, listen_url: str | None = None
) -> AsyncIterator[Patient]:
    """A patient on a connection of its own."""
    async with await connect(url, name="doctor") as connection:
        yield Patient(connection, url, listen_url or url, settings)


async def found(check: Check, url: str, **options: Any) -> Finding:
    """What one check finds."""
    async with patient(url, **options) as examined:
        return await check(examined)


async def everything(url: str, *, quick: bool = False) -> dict[str, Finding]:
    """The whole check-up, by name."""
    steps: list[int] = []
    findings = await examine(DIRECT, url, url, quick=quick, on_progress=steps.append)
    assert steps == sorted(steps)
    return {finding.name: finding for finding in findings}


async def run(url: str, *statements: str) -> None:
    """Execute and commit."""
    async with await connect(url, name="test") as connection:
        for text in statements:
            await connection.execute(text.encode())


async def test_a_healthy_database_has_nothing_to_complain_of(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (server, wakeups):
        monkeypatch.setattr(module, "SLOW_MS", float("inf"))  # how busy this machine is, is not the question
    async with await connect(db_url, name="test") as connection:
        store = Store(connection)
        await store.declare_queues(["default"])
        await store.register_worker(
            worker=ALIVE, name="host:1", mode="hybrid", queues=["default"], concurrency=4, version="1"
        )
        await store.acquire_leadership(name="sweeper", holder=ALIVE, token=1, lease=timedelta(minutes=5))
        await add(connection, 2)
    findings = await everything(db_url)
    assert list(findings) == NAMES
    assert count_checks(quick=False) == len(NAMES)
    # The tests' own server is careless on purpose.
    bad = {name: one for name, one in findings.items() if one.verdict != "ok" and name != "settings"}
    assert bad == {}
    assert findings["sweeper"].text.startswith("host:1 leads since 0:00:")
    assert findings["workers"].text == "1 alive with 4 slots"
    assert findings["notify"].facts["round_trip_ms"] > 0
    assert all(one.remedy == "" for one in findings.values() if one.verdict == "ok")


async def test_everything_in_every_state_is_judged(db_url: str) -> None:
    await fill(db_url)
    findings = await everything(db_url, quick=True)
    assert list(findings) == NAMES[:-1]
    assert {
        name: findings[name].verdict for name in ("leases", "sweeper", "queues", "workers", "floors")
    } == {
        "leases": "warn",
        "sweeper": "fail",
        "queues": "warn",
        "workers": "warn",
        "floors": "ok",
    }
    assert findings["leases"].facts["overdue"] == 1
    assert 85 < findings["leases"].facts["oldest_expired_lease_seconds"] < 600
    assert "nobody leads the sweep, and 1 jobs have been due for up to 0:03:" in findings["sweeper"].text
    assert findings["queues"].facts == {
        "paused": ["mail"],
        "unserved": ["reports"],
        "not_claimed": ["default"],
    }
    assert findings["queues"].remedy == "tandem worker --queues reports"
    assert "1 silent ones hold leases (host:2)" in findings["workers"].text
    assert worst(list(findings.values())) == "fail"


# --- the server ------------------------------------------------------------------------------------------------


async def test_without_a_server_there_is_one_finding() -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/nowhere?connect_timeout=2"
    [only] = await examine(DIRECT, nowhere, nowhere, quick=False, on_progress=lambda _: None)
    assert (only.name, only.verdict) == ("connection", "fail")
    assert only.remedy


async def test_without_a_schema_only_the_server_is_examined(empty_db_url: str) -> None:
    findings = await everything(empty_db_url)
    assert list(findings) == NAMES[: NAMES.index("schema") + 1]
    assert (findings["schema"].verdict, findings["schema"].remedy) == ("fail", "run `tandem db upgrade`")


@pytest.mark.parametrize(
    ("version", "text"), [("0001", "at 0001, this code needs"), ("9999", "newer than this code")]
)
async def test_another_schema_is_named(db_url: str, version: str, text: str) -> None:
    async with await connect(db_url, name="test") as connection:
        await connection.execute("UPDATE tandem.alembic_version SET version_num = %s", (version,))
    finding = await found(server.check_schema, db_url)
    assert finding.verdict == "fail"
    assert text in finding.text


async def test_a_release_behind_its_fixes_is_named(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await found(server.check_server, db_url)).verdict == "ok"
    monkeypatch.setattr(server, "FIRST_SOUND", dict.fromkeys(range(15, 30), 99))
    finding = await found(server.check_server, db_url)
    assert (finding.verdict, finding.remedy[:9]) == ("warn", "update to")


async def test_a_database_that_takes_no_writes_is_named(db_url: str) -> None:
    name = db_url.partition("?")[0].rpartition("/")[2]
    await run(db_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    finding = await found(server.check_server, db_url)
    assert finding.verdict == "fail"
    assert "read-only" in finding.text


async def test_a_commit_that_is_not_flushed_is_named(db_url: str) -> None:
    name = db_url.partition("?")[0].rpartition("/")[2]
    await run(db_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    finding = await found(server.check_settings, db_url)
    assert "synchronous_commit is off" in finding.text
    assert "synchronous_commit = on" in finding.remedy


async def test_the_limit_of_idle_sessions_is_read(db_url: str) -> None:
    name = db_url.partition("?")[0].rpartition("/")[2]
    await run(db_url, f"ALTER DATABASE {name} SET idle_session_timeout = '5s'")
    assert (await found(server.check_settings, db_url)).facts["idle_session_timeout"] == "5000"


@pytest.mark.parametrize(
    ("name", "setting", "verdict"),
    [
        ("idle_session_timeout", "5000", "warn"),
        ("fsync", "off", "fail"),
        ("full_page_writes", "off", "fail"),
        ("autovacuum", "off", "fail"),
        ("track_counts", "off", "fail"),
        ("synchronous_commit", "local", "warn"),
        ("synchronous_commit", "remote_apply", "ok"),
    ],
)
async def test_settings_that_lose_data_are_named(
    db_url: str, monkeypatch: pytest.MonkeyPatch, name: str, setting: str, verdict: str
) -> None:
    async def settings(_: object) -> dict[str, str]:
        good = dict.fromkeys(("fsync", "full_page_writes", "autovacuum", "track_counts"), "on")
        return {**good, "synchronous_commit": "on", name: setting}

    monkeypatch.setattr(DoctorStore, "read_settings", settings)
    finding = await found(server.check_settings, db_url)
    assert finding.verdict == verdict
    assert (setting in finding.text) == (verdict != "ok")


async def test_a_slow_and_a_crowded_server_are_named(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await found(server.check_connections, db_url)).verdict == "ok"
    monkeypatch.setattr(server, "CROWDED", 0.0)
    assert (await found(server.check_connections, db_url)).verdict == "warn"
    monkeypatch.setattr(server, "FULL", 0.0)
    assert (await found(server.check_connections, db_url)).verdict == "fail"
    monkeypatch.setattr(server, "SLOW_MS", 0.0)
    assert (await found(server.check_connection, db_url)).verdict == "warn"


# --- storage ---------------------------------------------------------------------------------------------------


async def test_who_holds_an_old_snapshot_is_named(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "OLD", timedelta())
    monkeypatch.setattr(storage, "MANY_XIDS", 2**62)
    async with await connect(db_url, name="forgotten", autocommit=False) as holder:
        await holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await holder.execute("SELECT count(*) FROM tandem.ready")
        finding = await found(storage.check_horizon, db_url)
        held = [one for one in finding.facts["holders"] if one["id"] == str(holder.info.backend_pid)]
    assert finding.verdict == "warn"
    assert held[0]["detail"].startswith("tandem forgotten: idle in transaction")
    assert finding.remedy.startswith("SELECT pg_terminate_backend(")


async def test_a_role_that_sees_only_itself_is_told(db_url: str) -> None:
    role = f"tandem_doctor_{secrets.token_hex(4)}"
    await run(db_url, f"CREATE ROLE {role}")
    try:
        async with patient(db_url) as examined:
            await examined.connection.execute(f"SET ROLE {role}".encode())
            finding = await storage.check_horizon(examined)
    finally:
        await run(db_url, f"DROP ROLE {role}")
    assert (finding.verdict, finding.remedy) == ("warn", f"GRANT pg_read_all_stats TO {role}")


async def test_a_table_full_of_dead_rows_is_named(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MANY_DEAD", 50)
    async with await connect(db_url, name="test") as connection:
        await add(connection, 100)
        await connection.execute("DELETE FROM tandem.ready")
        await connection.execute("SELECT pg_stat_force_next_flush()")
        await connection.execute("SELECT 1")
    finding = await found(storage.check_dead_rows, db_url)
    assert finding.verdict == "warn"
    assert finding.text.startswith("ready has 100 dead rows beside 0 live ones")
    assert "VACUUM tandem.ready" in finding.remedy


# --- wake-ups --------------------------------------------------------------------------------------------------


class Masking(Proxy):
    """Tells clients another server process than theirs, as poolers do."""

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                head, key, rest = data.partition(b"K\x00\x00\x00\x0c")
                sink.sendall(head + key + (b"\x00\x00\x00\x01" + rest[4:] if key else rest))
            sink.shutdown(socket.SHUT_WR)


async def test_a_pooler_is_noticed_by_what_it_tells_clients(db_url: str) -> None:
    with Masking(db_url) as pooler:
        finding = await found(wakeups.check_pooler, pooler.url)
    assert finding.facts["pooler"] == "session"
    assert (await found(wakeups.check_pooler, db_url)).facts["pooler"] is None


def test_statements_that_move_tell_a_transaction_pooler() -> None:
    assert Pids(7, 7, 7).pooler is None
    assert Pids(1, 7, 7).pooler == "session"
    assert Pids(1, 7, 8).pooler == Pids(7, 7, 8).pooler == "transaction"


async def test_a_transaction_pooler_needs_another_way_for_listen(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def moved(*_: object) -> Pids:
        return Pids(1, 7, 8)

    monkeypatch.setattr(wakeups, "look_for_pooler", moved)
    finding = await found(wakeups.check_pooler, db_url)
    assert (finding.verdict, finding.remedy) == ("warn", wakeups.DIRECT)
    other = db_url + "&keepalives=1"
    assert (await found(wakeups.check_pooler, db_url, listen_url=other)).verdict == "ok"
    polling = Settings(worker=WorkerSettings(mode="poll"))
    assert (await found(wakeups.check_pooler, db_url, settings=polling)).verdict == "ok"


async def test_nothing_listens_through_a_pooler(db_url: str) -> None:
    with Masking(db_url) as pooler:
        finding = await found(wakeups.check_notify, db_url, listen_url=pooler.url)
    assert (finding.verdict, finding.remedy) == ("warn", wakeups.DIRECT)
    assert "pooler" in finding.text


async def test_notifications_that_do_not_arrive_are_named(
    db_url: str, empty_db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "PATIENCE_SECONDS", 0.2)
    finding = await found(
        wakeups.check_notify, db_url, listen_url=empty_db_url
    )  # another database hears nothing
    assert (finding.verdict, finding.remedy) == ("fail", wakeups.DIRECT)
    polling = Settings(worker=WorkerSettings(mode="poll"))
    assert (
        await found(wakeups.check_notify, db_url, listen_url=empty_db_url, settings=polling)
    ).verdict == "ok"
    monkeypatch.setattr(wakeups, "SLOW_MS", 0.0)
    assert (await found(wakeups.check_notify, db_url)).verdict == "warn"


# --- the work --------------------------------------------------------------------------------------------------


@pytest.fixture
async def states(db_url: str) -> States:
    """Jobs in every state."""
    return await fill(db_url)


async def test_a_lease_that_nobody_takes_back_fails_in_the_end(
    states: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "VERY_LATE", timedelta(seconds=60))
    assert (await found(work.check_leases, states.url)).verdict == "fail"
    await run(states.url, "DELETE FROM tandem.lease WHERE expires_at < clock_timestamp()")
    assert (await found(work.check_leases, states.url)).verdict == "ok"
    await run(states.url, "DELETE FROM tandem.lease")
    assert (await found(work.check_leases, states.url)).facts["held"] == 0


async def test_a_leader_that_does_not_sweep_is_named(states: States) -> None:
    async with await connect(states.url, name="test") as connection:
        await Store(connection).acquire_leadership(
            name="sweeper", holder=SILENT, token=1, lease=timedelta(minutes=5)
        )
    finding = await found(work.check_sweeper, states.url)
    assert finding.verdict == "fail"
    assert finding.text.startswith("host:2 leads since")
    await run(states.url, "DELETE FROM tandem.scheduled WHERE next_attempt_at < clock_timestamp()")
    assert (await found(work.check_sweeper, states.url)).verdict == "ok"


async def test_workers_of_two_versions_are_named(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        for worker, version in ((ALIVE, "1"), (SILENT, "2")):
            await Store(connection).register_worker(
                worker=worker, name="w", mode="poll", queues=["default"], concurrency=2, version=version
            )
    finding = await found(work.check_workers, db_url)
    assert (finding.verdict, finding.text) == ("warn", "2 alive with 4 slots of versions 1, 2")


async def test_a_job_below_the_floor_is_named(states: States) -> None:
    async with await connect(states.url, name="test") as connection:
        past = await value(connection, "SELECT max(pos) + 1 FROM tandem.ready WHERE queue = 'default'")
        await connection.execute("INSERT INTO tandem.lane_floor VALUES ('default', 5, %s)", (past,))
    finding = await found(work.check_floors, states.url)
    assert finding.verdict == "fail"
    assert finding.text.startswith("3 ready jobs lie below")


async def test_a_job_in_no_place_is_named(states: States) -> None:
    job = states.jobs["ready"][0]
    async with await connect(states.url, name="test") as connection:
        await connection.execute("DELETE FROM tandem.ready WHERE job_id = %s", (job,))
    finding = await found(work.check_membership, states.url)
    assert (finding.verdict, finding.facts["wrong"][0]["job_id"]) == ("fail", job)
    assert f"{job} (nowhere)" in finding.text


async def test_a_check_that_cannot_run_hides_no_other(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check_leases(_: Patient) -> Finding:
        raise psycopg.errors.InsufficientPrivilege("permission denied for table lease\nmore")

    monkeypatch.setattr(examination, "QUEUE", (check_leases, work.check_floors))
    findings = await everything(db_url, quick=True)
    assert findings["leases"].text == "cannot be checked: permission denied for table lease"
    assert (findings["leases"].verdict, findings["floors"].verdict) == ("fail", "ok")


async def test_a_limited_kind_in_a_plain_queue_is_named_with_the_way_out(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        await add(connection, kind="render", queue="reports")
        assert (await found(limits.check_limits, db_url)).verdict == "ok"
        await connection.execute("SELECT tandem.set_limit('kind:render', 2)")
        loose = await found(limits.check_limits, db_url)
        assert (loose.verdict, loose.remedy) == ("warn", "tandem queues manage reports")
        assert loose.text == "kind render also runs in reports: plain, so its limit does not hold there"
        await connection.execute("SELECT tandem.manage_queue('reports')")
        assert (await found(limits.check_limits, db_url)).verdict == "ok"
