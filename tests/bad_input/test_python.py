"""The catalogue of bad input through the Python client: the code of each refusal, before anything is sent."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.client import Job, Unique, enqueue, enqueue_many
from app.client.errors import InvalidInput
from app.database.deadline import BoundedConnection
from app.queue.outcomes import Retry, Snooze


def nested(levels: int) -> list[Any]:
    """Lists in lists."""
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


NOW = datetime.now(UTC)
PAYLOADS: dict[str, tuple[Any, str]] = {
    "NUL": ({"a": "\0"}, "nul-character"),
    "NUL in a key": ({"\0": 1}, "nul-character"),
    "lone surrogate": ({"a": "\ud800"}, "invalid-unicode"),
    "lone surrogate in a key": ({"\udfff": 1}, "invalid-unicode"),
    "bytes that are not text": ({"a": b"\xff"}, "invalid-payload"),
    "NaN": ({"a": math.nan}, "invalid-payload"),
    "infinity": ({"a": -math.inf}, "invalid-payload"),
    "1e999": ({"a": float("1e999")}, "invalid-payload"),
    "5,000 digits": ({"a": 10**5000}, "invalid-payload"),
    "100,000 levels": (nested(100_000), "invalid-payload"),
    "over the limit": ({"a": "x" * 262_144}, "payload-too-large"),
    "over the limit in bytes": ({"a": "\u01a1" * 131_072}, "payload-too-large"),
    "a key that is no text": ({(1, 2): 1}, "invalid-payload"),
    "an object": ({"a": object()}, "invalid-payload"),
}
OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "queue": ({"queue": "'; DROP TABLE tandem.job; --"}, "invalid-queue"),
    "queue of 64": ({"queue": "x" * 64}, "invalid-queue"),
    "queue with NUL": ({"queue": "a\0"}, "invalid-queue"),
    "look-alike letter": ({"queue": "ma\u0456l"}, "invalid-queue"),
    "priority below": ({"priority": -1}, "invalid-priority"),
    "priority above": ({"priority": 2**63}, "invalid-priority"),
    "priority true": ({"priority": True}, "invalid-priority"),
    "priority 1.0": ({"priority": 1.0}, "invalid-priority"),
    "priority text": ({"priority": "5"}, "invalid-priority"),
    "due without zone": ({"run_at": datetime(2030, 1, 1)}, "invalid-run-at"),  # noqa: DTZ001 - the point of it
    "due in 9999": ({"run_at": datetime.max.replace(tzinfo=UTC)}, "invalid-run-at"),
    "due as text": ({"run_at": "infinity"}, "invalid-run-at"),
    "due in 367 days": ({"run_at": NOW + timedelta(days=367)}, "invalid-run-at"),
    "event as text": ({"event_id": "0199f2d0-c0de-7000-a1b2-c3d4e5f60718"}, "invalid-event-id"),
    "empty partition key": ({"partition_key": ""}, "invalid-partition-key"),
    "partition key of 256": ({"partition_key": "k" * 256}, "invalid-partition-key"),
    "policy as text": ({"policy": "{}"}, "invalid-policy"),
    "policy with NaN": ({"policy": {"max_attempts": math.nan}}, "invalid-policy"),
    "policy over 8 KiB": ({"policy": {"x": "x" * 8192}}, "policy-too-large"),
    "context over 8 KiB": ({"context": {"x": "x" * 8192}}, "context-too-large"),
}
KEYS: dict[str, tuple[Any, ...]] = {
    "empty": ("",),
    "256": ("k" * 256,),
    "NUL": ("a\0",),
    "lone surrogate": ("\ud800",),
    "a number": (7,),
    "unknown scope": ("k", "day"),
    "no period": ("k", "period"),
    "negative period": ("k", "period", timedelta(seconds=-1)),
    "endless period": ("k", "period", timedelta.max),
}


def assert_nothing_written(tx: BoundedConnection) -> None:
    """No job, and a transaction that still works."""
    assert tx.execute("SELECT count(*) FROM tandem.job").fetchone() == (0,)


@pytest.mark.parametrize("name", sorted(PAYLOADS))
def test_a_payload_that_cannot_be_stored(tx: BoundedConnection, name: str) -> None:
    payload, code = PAYLOADS[name]
    with pytest.raises(InvalidInput) as refused:
        enqueue(tx, "test", payload)
    assert refused.value.code == code
    assert_nothing_written(tx)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_an_option_that_does_not_fit(tx: BoundedConnection, name: str) -> None:
    options, code = OPTIONS[name]
    with pytest.raises(InvalidInput) as refused:
        enqueue(tx, "test", {}, **options)
    assert refused.value.code == code
    assert_nothing_written(tx)


@pytest.mark.parametrize("name", sorted(KEYS))
def test_a_unique_key_that_is_none(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Unique(*KEYS[name])
    assert refused.value.code == "invalid-unique-key"


@pytest.mark.parametrize("seconds", [math.inf, -math.inf, math.nan, 1e300, 367 * 86_400])
def test_a_delay_that_no_calendar_has(seconds: float) -> None:
    for decision in (Snooze, Retry):
        with pytest.raises(InvalidInput) as refused:
            decision(seconds)
        assert refused.value.code == "invalid-delay"


def test_one_bad_job_of_a_batch_and_none_is_written(tx: BoundedConnection) -> None:
    with pytest.raises(InvalidInput) as refused:
        enqueue_many(tx, [Job("test", {"n": n}) for n in range(5)] + [Job("test", {"n": math.nan})])
    assert refused.value.code == "invalid-payload"
    with pytest.raises(InvalidInput) as large:
        enqueue_many(tx, [Job("test")] * 1001)
    assert large.value.code == "batch-too-large"
    assert_nothing_written(tx)
