"""Order per key: one message of a key at a time and in order, whoever consumes, whatever fails; changed at run time."""

import asyncio
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.client import Message, publish_many
from tests.support import topics
from tests.support.conversations import serving
from tests.support.waiting import eventually
from tests.support.worker_process import WorkerProcess, worker_process

TOPIC, GROUP = "ordered", "strict"
AT = f"/v1/topics/{TOPIC}/groups/{GROUP}"
STEPS = "CREATE TABLE step (id bigserial, key text, n int, phase text, pid int)"


def make(url: str, *, ordered: bool = True, dead_head: str = "skip", tries: int = 5) -> None:
    topics.make_topic(url, TOPIC, groups=())
    call = (
        "SELECT tandem.create_topic_group(%s, %s, ordered => %s, dead_head => %s, max_attempts => %s,"
        " retry_delay_ms => 20)"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(call, (TOPIC, GROUP, ordered, dead_head, tries))
    topics.fill_all(url)


def send(url: str, keys: int, each: int, first: int = 0, **marks: dict[tuple[int, int], Any]) -> None:
    """For each key the bodies n = first, first + 1, …; `marks` say which (key, n) fail or die."""
    with psycopg.connect(url) as connection:
        for n in range(first, first + each):
            bodies = [
                Message(
                    {"n": n} | {name: of[key, n] for name, of in marks.items() if (key, n) in of},
                    key=f"k{key}",
                )
                for key in range(keys)
            ]
            publish_many(connection, TOPIC, bodies)
            connection.commit()


def violations(steps: list[Any]) -> list[Any]:
    """Steps that came before the one before them had ended."""
    ended: dict[str, int] = defaultdict(lambda: -1)
    wrong = []
    for step in steps:
        if step.n > ended[step.key] + 1 or step.n < ended[step.key]:
            wrong.append(step)
        if step.phase == "end":
            ended[step.key] = step.n
    return wrong


async def test_worker_processes_keep_the_order_through_failures_and_kills(
    db_url: str, tmp_path: Path
) -> None:
    make(db_url)
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute(STEPS)
    options: dict[str, Any] = {"queues": {f"topic.{TOPIC}..{GROUP}": 1}, "lease_seconds": 2.0, "slots": 6}
    keys, each = 8, 25
    fails = {(random.randrange(keys), random.randrange(each)): random.randint(1, 3) for _ in range(25)}
    late = psycopg.connect(db_url)
    with late, worker_process(db_url, tmp_path, **options) as a, worker_process(db_url, tmp_path, **options):
        publish_many(late, TOPIC, [Message({"n": n}, key="late") for n in range(3)])
        send(db_url, keys, each, fails=fails, dies={(0, 3): True})
        eventually(lambda: a.process.poll() is not None or len(topics.rows(db_url, "SELECT FROM step")) > 100)
        with worker_process(db_url, tmp_path, **options) as c:
            killed: WorkerProcess = c if a.process.poll() is not None else a
            killed.started().killed()
            with worker_process(db_url, tmp_path, **options):
                late.commit()
                count = "SELECT count(DISTINCT (key, n)) AS n FROM step WHERE phase = 'end'"
                eventually(
                    lambda: topics.rows(db_url, count)[0].n == keys * each + 3 and not _waiting(db_url),
                    timeout=90,
                )
    steps = topics.rows(db_url, "SELECT key, n, phase FROM step ORDER BY id")
    assert violations(steps) == []
    assert {step.n for step in steps if step.key == "late"} == {0, 1, 2}
    assert len([step for step in steps if step.phase == "start"]) > keys * each + 3 + len(fails)


def _waiting(url: str) -> int:
    query = "SELECT (SELECT count(*) FROM tandem.blocked) + (SELECT count(*) FROM tandem.lease) AS n"
    return int(topics.rows(url, query)[0].n)


async def call(client: httpx.AsyncClient, path: str, body: Any) -> Any:
    response = await client.post(f"{AT}/{path}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def take(client: httpx.AsyncClient, most: int = 10, **options: Any) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = (await call(client, "consume", {"most": most, **options}))["messages"]
    return answer


async def test_programs_over_http_keep_the_order_with_returns(db_url: str) -> None:
    make(db_url, tries=50)
    keys, each = 5, 12
    send(db_url, keys, each)
    done: dict[str, list[int]] = defaultdict(list)
    running: set[str] = set()

    async def consume(client: httpx.AsyncClient, name: str) -> None:
        choose = random.Random(name)
        while sum(map(len, done.values())) < keys * each:
            for one in await take(client, 3, wait_seconds=0.2, consumer=name):
                assert one["key"] not in running
                running.add(one["key"])
                assert one["message"]["n"] == len(done[one["key"]])
                await asyncio.sleep(0)
                good = choose.random() < 0.7
                running.discard(one["key"])
                if good:
                    done[one["key"]].append(one["message"]["n"])
                body = {"receipts": [one["receipt"]]}
                await call(
                    client, "ack" if good else "nack", body if good else body | {"delay_seconds": 0.01}
                )

    async with serving(db_url) as client:
        await asyncio.gather(*(consume(client, f"c{n}") for n in range(4)))
    assert dict(done) == {f"k{key}": list(range(each)) for key in range(keys)}


@pytest.mark.parametrize("dead_head", ["skip", "block"])
async def test_a_dead_head_is_passed_over_or_stops_its_key(db_url: str, dead_head: str) -> None:
    make(db_url, dead_head=dead_head, tries=1)
    send(db_url, 2, 2)
    async with serving(db_url) as client:
        first = await take(client)
        assert [(one["key"], one["message"]["n"]) for one in first] == [("k0", 0), ("k1", 0)]
        await call(client, "nack", {"receipts": [first[0]["receipt"]]})
        await call(client, "ack", {"receipts": [first[1]["receipt"]]})
        found = [(one["key"], one["message"]["n"]) for one in await take(client)]
        state = (await client.get(AT)).json()
        assert (state["dead_head"], state["dead"]) == (dead_head, 1)
        if dead_head == "skip":
            assert sorted(found) == [("k0", 1), ("k1", 1)]
            assert state["halted"] == 0
            return
        assert found == [("k1", 1)]
        assert state["halted"] == 1
        retried = await client.post("/api/v1/queue/dlq/retry", json={"topic": TOPIC})
        assert retried.json() == {"retried": 1, "errors": 0}
        [again] = await take(client)
        assert (again["key"], again["message"]["n"]) == ("k0", 0)
        await call(client, "ack", {"receipts": [again["receipt"]]})
        assert [one["message"]["n"] for one in await take(client)] == [1]


async def test_order_is_changed_while_messages_wait_and_messages_without_key_have_none(db_url: str) -> None:
    make(db_url, ordered=False)
    send(db_url, 1, 4)
    topics.publish(db_url, 3, TOPIC)
    async with serving(db_url) as client:
        running = await take(client, 1)
        state = await call(client, "order", {"ordered": True, "dead_head": "block"})
        assert (state["ordered"], state["dead_head"], state["blocked"], state["ready"]) == (
            True,
            "block",
            6,
            0,
        )
        found = await take(client)
        assert [one["key"] for one in found] == [None] * 3, "k0 has one that runs already"
        await call(client, "ack", {"receipts": [one["receipt"] for one in running + found]})
        [second] = await take(client)
        assert (second["key"], second["message"]["n"]) == ("k0", 1)
        state = await call(client, "order", {"ordered": False})
        assert (state["ordered"], state["dead_head"], state["blocked"], state["ready"]) == (False, None, 0, 2)
        assert sorted(one["message"]["n"] for one in await take(client)) == [2, 3]
        audited = topics.rows(
            db_url, "SELECT detail FROM tandem.audit_entry WHERE action = 'order' ORDER BY id"
        )
        assert [one.detail["ordered"] for one in audited] == [True, False]
