"""Documents that other SQL clients stored: no worker and no answer may break over them."""

import asyncio
import json

import httpx
import psycopg
import pytest

from app.queue.job import MOST_TRIES
from app.queue.kinds import Registry
from app.queue.retry import Failure, Retrying, RetryPolicy
from app.queue.stored_json import read_mapping, read_stored
from tests.support.claims import claim, worker_connection
from tests.support.command_line import facts
from tests.support.conversations import serving
from tests.support.jobs import outcome
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async

STRANGE = {
    "6,000 digits": '{"x": ' + "9" * 6_000 + "}",
    "digits beyond a double": '{"x": ' + "9" * 400 + ".5}",
    "1e999": '{"x": 1e999}',
    "500 levels": "[" * 500 + "]" * 500,
    "3,000 levels": "[" * 3_000 + "]" * 3_000,
    "number": "7",
    "null": "null",
    "text": '"max_attempts"',
    "list": '[{"max_attempts": 1}]',
    "limits of other types": '{"max_attempts": "5", "crash_limit": null, "request_id": {"a": []}}',
    "limits out of range": '{"max_attempts": 99999999999, "crash_limit": -5, "request_id": 7}',
}


def test_what_can_be_read_is_the_document_and_everything_else_its_text() -> None:
    assert read_stored('{"a": [1, 2.5, "[[["]}') == {"a": [1, 2.5, "[[["]}
    assert read_stored(b"[" * 100 + b"]" * 100) == json.loads("[" * 100 + "]" * 100)
    for name in ("6,000 digits", "digits beyond a double", "500 levels", "3,000 levels"):
        assert read_stored(STRANGE[name]) == STRANGE[name]
        assert read_mapping(STRANGE[name]) == {}
    quoted = json.dumps(['"[' * 200, "\\"])
    assert read_stored(quoted) == json.loads(quoted)


@pytest.mark.parametrize("name", sorted(STRANGE))
async def test_a_job_with_a_strange_document_runs_and_is_shown(
    db_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it may break the worker: its job ends, and so do its mates."""
    registry, seen = Registry(), list[int]()

    @registry.handler("strange", payload=object)
    async def strange(job: object) -> None:
        seen.append(1)

    with psycopg.connect(db_url, autocommit=True) as connection:
        ids = [
            row[0]
            for column in ("payload", "policy", "context")
            for row in connection.execute(
                psycopg.sql.SQL("SELECT tandem.enqueue('strange', {} => %s::jsonb)").format(
                    psycopg.sql.Identifier(column)
                ),
                (STRANGE[name],),
            )
        ]
    async with supervised(db_url, registry):
        await eventually_async(lambda: all(outcome(db_url, job) == "SUCCEEDED" for job in ids))
    assert len(seen) == len(ids)
    async with serving(db_url) as client:
        for job in ids:
            for path in ("", "/result", "/explain"):
                answer: httpx.Response = await client.get(f"/v1/jobs/{job}{path}")
                assert answer.status_code == 200, answer.text
    monkeypatch.setenv("DATABASE_URL", db_url)
    shown = [await asyncio.to_thread(facts, "jobs", "show", str(job)) for job in ids]
    assert [one["job_id"] for one in shown] == ids


async def test_no_number_of_tries_makes_a_job_that_cannot_be_claimed(db_url: str) -> None:
    """A try more than its column holds would fail every claim of the queue."""
    failure = Failure("temporary", "f", "m", "t")
    endless = Retrying(own=RetryPolicy(10**9))
    assert endless.decide(failure, MOST_TRIES - 1).delay is not None
    assert endless.decide(failure, MOST_TRIES).delay is None
    assert endless.decide(failure, MOST_TRIES, max_attempts=10**9).delay is None
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("SELECT tandem.enqueue('test', policy => '{\"max_attempts\": 99999}')")
        connection.execute("UPDATE tandem.ready SET attempt = %s", (MOST_TRIES - 1,))
    async with await worker_connection(db_url) as worker:
        [last] = await claim(worker)
    assert (last.attempt, last.own_limit("max_attempts")) == (MOST_TRIES, MOST_TRIES)
