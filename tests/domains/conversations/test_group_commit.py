"""Ends of conversations that come while a transaction is under way: written together, answered as if alone."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import psycopg
import pytest

from app import events
from app.api.facts import Gathered
from tests.support.conversations import END, body, counts, end, make_settings, read, serving, write
from tests.support.cut_answers import CuttingProxy
from tests.support.membership import check_membership
from tests.support.waiting import eventually_async

WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'tandem api' AND datname = current_database()"
    " AND wait_event_type = 'Lock'"
)
HOLD = "LOCK TABLE tandem.job IN ACCESS EXCLUSIVE MODE"


@contextmanager
def _sizes() -> Iterator[list[Gathered]]:
    found: list[Gathered] = []
    leave = events.subscribe(Gathered, found.append)
    try:
        yield found
    finally:
        leave()


PATIENT = make_settings(database={"lock_timeout_ms": 60_000}, api={"request_seconds": 60.0})


@asynccontextmanager
async def _gathered(
    db_url: str,
    client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    *bodies: dict[str, Any],
    wait: bool = True,
) -> AsyncIterator[list[asyncio.Task[httpx.Response]]]:
    """Calls that wait behind one that waits for a lock; at the end of the block they go on, all together."""
    monkeypatch.setattr("app.api.gathering.PATIENCE", 600.0)
    with psycopg.connect(db_url) as holder:
        holder.execute(HOLD)
        first = asyncio.create_task(client.post(END, json=body("first")))
        await eventually_async(lambda: bool(read(db_url, WAITING)))
        tasks = [asyncio.create_task(client.post(END, json=one)) for one in bodies]
        ends = client._transport.app.state.conversation_ends  # type: ignore[attr-defined]
        await eventually_async(lambda: len(ends._waiting) == len(bodies))
        yield tasks
        holder.rollback()
        assert (await first).status_code == 202
        if wait:
            await asyncio.wait(tasks)


async def test_one_transaction_and_one_notification_for_all_of_them(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [
        body(f"conv_{number}", f"user_{number}", bot_name=f'"{number}",\\{{}} NULL') for number in range(9)
    ]
    with psycopg.connect(db_url, autocommit=True) as listener, _sizes() as sizes:
        async with (
            serving(db_url, PATIENT) as client,
            _gathered(db_url, client, monkeypatch, *bodies) as tasks,
        ):
            [lane] = listener.execute("SELECT tandem.wake_lane('conversations')").fetchone() or [None]
            listener.execute(f"LISTEN tandem_wake_{lane}".encode())
        answers = [task.result() for task in tasks]
        heard = list(listener.notifies(timeout=0.1))
    assert [answer.status_code for answer in answers] == [202] * 9
    assert [one.size for one in sizes] == [1, 9]
    assert len(heard) <= 2, "one for the first, one for all the others"
    rows = read(
        db_url,
        "SELECT e.conversation_id, e.user_id, e.bot_name, e.id::text, e.job_id, e.xmin, e.conversation_log,"
        " j.payload ->> 'event_id' AS payload, j.event_id::text AS event, j.context FROM conversation_events AS e"
        " JOIN tandem.job AS j ON j.id = e.job_id WHERE e.conversation_id <> 'first' ORDER BY e.job_id",
    )
    assert [row.conversation_id for row in rows] == [one["conversation_id"] for one in bodies], (
        "in their order"
    )
    assert [(row.user_id, row.bot_name) for row in rows] == [(o["profile_id"], o["bot_name"]) for o in bodies]
    assert len({row.xmin for row in rows}) == 1
    for row, answer in zip(rows, answers, strict=True):
        assert answer.json() == {"event_id": row.id, "job_id": row.job_id, "status": "PENDING"}
        assert row.payload == row.event == row.id
        assert row.context == {
            "request_id": answer.headers["x-request-id"], "conversation_id": row.conversation_id,
        }  # fmt: skip
        assert row.conversation_log == body()["conversation_log"]
    check_membership(db_url)


async def test_repeats_conflicts_and_twins_within_one_transaction(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(db_url, PATIENT) as client:
        known = await end(client, "known")
        bodies = [
            body("known"), body("known", bot_name="Other"),
            body("twin"), body("new"), body("twin"), body("twin", bot_name="Other"),
        ]  # fmt: skip
        with _sizes() as sizes:
            async with _gathered(db_url, client, monkeypatch, *bodies) as tasks:
                pass
        again = await end(client, "twin")
    answers = [task.result() for task in tasks]
    assert [answer.status_code for answer in answers] == [202, 409, 202, 202, 202, 409]
    assert answers[0].json() == known
    assert (
        answers[1].json()["type"] == answers[5].json()["type"] == "urn:tandem:problem:conversation-conflict"
    )
    assert answers[2].json() == answers[4].json() == again
    assert [(one.size, one.failed) for one in sizes] == [(1, False), (6, False)]
    assert counts(db_url) == (4, 4)
    assert read(db_url, "SELECT FROM conversation_events WHERE bot_name = 'Other'") == []
    check_membership(db_url)


async def test_a_batch_of_repeats_alone_writes_nothing(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(db_url, PATIENT) as client:
        known = [await end(client, f"conv_{number}") for number in range(3)]
        bodies = [body(f"conv_{number}") for number in range(3)]
        async with _gathered(db_url, client, monkeypatch, *bodies) as tasks:
            pass
    assert [task.result().json() for task in tasks] == known
    assert counts(db_url) == (4, 4)


async def test_one_that_cannot_be_written_fails_alone(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        db_url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$",
    )
    write(
        db_url,
        "CREATE TRIGGER refuse BEFORE INSERT ON conversation_events FOR EACH ROW"
        " WHEN (NEW.user_id = 'user_bad') EXECUTE FUNCTION refuse()",
    )
    bodies = [body("conv_1"), body("conv_2", "user_bad"), body("conv_3")]
    with _sizes() as sizes:
        async with (
            serving(db_url, PATIENT) as client,
            _gathered(db_url, client, monkeypatch, *bodies) as tasks,
        ):
            pass
    answers = [task.result() for task in tasks]
    assert [answer.status_code for answer in answers] == [202, 503, 202]
    assert answers[1].json()["type"] == "urn:tandem:problem:database-full"
    assert [(one.size, one.failed) for one in sizes] == [(1, False), (3, True)]
    assert counts(db_url) == (3, 3)
    check_membership(db_url)


async def test_a_rival_holds_up_its_own_conversation_only(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program has the id of one of them in a transaction that does not end."""
    bodies = [body("conv_1"), body("conv_2"), body("conv_3")]
    with psycopg.connect(db_url) as rival:
        rival.execute(
            "INSERT INTO conversation_events (id, conversation_id, user_id, bot_type, bot_id, bot_name, start_time,"
            " end_time, conversation_log, body_hash, next_attempt_at, created_at) VALUES (gen_random_uuid(),"
            " 'conv_2', 'u', 'TALK', 'b', 'b', now(), now(), '[]', '', now(), now())"
        )
        async with serving(db_url, PATIENT) as client:
            async with _gathered(db_url, client, monkeypatch, *bodies, wait=False) as tasks:
                pass
            assert [(await task).status_code for task in tasks[::2]] == [202, 202]
            assert not tasks[1].done()
            rival.rollback()
            assert (await tasks[1]).status_code == 202
    assert counts(db_url) == (4, 4)
    check_membership(db_url)


async def test_a_lost_answer_is_unknown_to_all_of_them_and_repeats_tell(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [body(f"conv_{number}") for number in range(4)]
    with CuttingProxy(db_url) as proxy:
        async with serving(proxy.url, PATIENT) as client:
            async with _gathered(db_url, client, monkeypatch, *bodies) as tasks:
                proxy.cut_answer("tandem api", "conv_3")
            answers = await asyncio.gather(*tasks)
            assert proxy.cuts == 1
            assert counts(db_url) == (5, 5), "it was committed"
            for answer in answers:
                assert answer.status_code == 503
                assert answer.json()["type"] == "urn:tandem:problem:outcome-unknown"
                assert int(answer.headers["retry-after"]) >= 1
            for one in bodies:
                assert (await client.post(END, json=one)).status_code == 202
    assert counts(db_url) == (5, 5)
    check_membership(db_url)


async def test_a_server_process_that_is_killed_under_a_batch_leaves_nothing(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [body(f"conv_{number}") for number in range(4)]
    write(
        db_url,
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NEW; END $$",
    )
    write(
        db_url,
        "CREATE TRIGGER die BEFORE INSERT ON conversation_events FOR EACH ROW"
        " WHEN (NEW.conversation_id = 'conv_2') EXECUTE FUNCTION die()",
    )
    async with serving(db_url, PATIENT) as client:
        async with _gathered(db_url, client, monkeypatch, *bodies) as tasks:
            pass
        answers = await asyncio.gather(*tasks)
        assert [answer.status_code for answer in answers] == [503] * 4
        assert {answer.json()["type"] for answer in answers} == {"urn:tandem:problem:database-unavailable"}
        assert counts(db_url) == (1, 1)
        write(db_url, "DROP TRIGGER die ON conversation_events")
        for one in bodies:
            assert (await client.post(END, json=one)).status_code == 202
    assert counts(db_url) == (5, 5)


async def test_a_client_who_goes_away_takes_nobody_along(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [body(f"conv_{number}") for number in range(3)]
    async with serving(db_url, PATIENT) as client:
        async with _gathered(db_url, client, monkeypatch, *bodies) as tasks:
            tasks[0].cancel()
        assert [(await task).status_code for task in tasks[1:]] == [202, 202]
        assert tasks[0].cancelled()
    assert {row.conversation_id for row in read(db_url, "SELECT conversation_id FROM conversation_events")} == {
        "first", "conv_1", "conv_2",
    }  # fmt: skip


async def test_more_than_the_limit_come_back_later(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = make_settings(
        api={"gather_limit": 2, "request_seconds": 60.0}, database={"lock_timeout_ms": 60_000}
    )
    async with serving(db_url, small) as client:
        async with _gathered(db_url, client, monkeypatch, body("conv_1"), body("conv_2")) as tasks:
            refused = await client.post(END, json=body("conv_3"))
            assert refused.status_code == 503
            assert refused.json()["type"] == "urn:tandem:problem:database-busy"
            assert int(refused.headers["retry-after"]) >= 1
        assert [(await task).status_code for task in tasks] == [202, 202]
        await end(client, "conv_3")
    assert counts(db_url) == (4, 4)


@pytest.mark.parametrize("most", [3, 64])
async def test_many_callers_with_few_ids_at_once(db_url: str, most: int) -> None:
    """Two processes, conversations that both report, each body in two versions: one event, one job, one winner each."""
    settings = make_settings(api={"gather_most": most})
    found: dict[str, set[str]] = {}
    async with (
        serving(db_url, settings) as one,
        serving(db_url, settings) as other,
        asyncio.TaskGroup() as tasks,
    ):

        async def call(number: int) -> None:
            name = f"conv_{number * 7 % 10}"
            sent = body(name, bot_name=f"Bot {number // 20 % 2}")
            answer = await (one, other)[number // 10 % 2].post(END, content=json.dumps(sent), headers=HEADERS)
            assert answer.status_code in (202, 409), answer.text
            if answer.status_code == 202:
                found.setdefault(name, set()).add(answer.text)

        for number in range(80):
            tasks.create_task(call(number))
    assert {len(texts) for texts in found.values()} == {1}
    assert counts(db_url) == (10, 10)
    check_membership(db_url)


HEADERS = {"content-type": "application/json"}


async def test_switched_off_each_has_a_transaction_of_its_own(db_url: str) -> None:
    settings = make_settings(api={"gather_most": 1})
    with _sizes() as sizes:
        async with serving(db_url, settings) as client:
            await asyncio.gather(*(end(client, f"conv_{number}") for number in range(20)))
    assert sizes == []
    assert len(read(db_url, "SELECT DISTINCT xmin::text FROM conversation_events")) == 20


async def test_metrics_count_what_was_written_together(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(db_url, PATIENT) as client:
        async with _gathered(db_url, client, monkeypatch, body("conv_1"), body("conv_2"), body("conv_3")):
            pass
        scrape = (await client.get("/metrics")).text
    assert "tandem_http_gathered_requests_count 2.0" in scrape
    assert "tandem_http_gathered_requests_sum 4.0" in scrape
    assert "tandem_http_gathered_failed_total 0.0" in scrape


async def test_a_commit_that_no_standby_confirmed_is_unknown_to_all(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        db_url,
        "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE WARNING 'canceling wait for synchronous replication' USING ERRCODE = '01000'; RETURN NEW; END $$",
    )
    write(
        db_url,
        "CREATE TRIGGER warn AFTER INSERT ON conversation_events FOR EACH ROW"
        " WHEN (NEW.conversation_id = 'conv_2') EXECUTE FUNCTION warn()",
    )
    bodies = [body("conv_1"), body("conv_2")]
    async with serving(db_url, PATIENT) as client, _gathered(db_url, client, monkeypatch, *bodies) as tasks:
        pass
    for task in tasks:
        assert task.result().json()["type"] == "urn:tandem:problem:outcome-unknown"
    assert counts(db_url) == (3, 3)
