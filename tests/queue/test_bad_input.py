"""What enqueue refuses: clearly, before anything is written, from Python and from plain SQL alike."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest

from app.client.bulk import enqueue_copy
from app.database.deadline import BoundedConnection
from app.errors import InvalidInput
from app.queue.enqueue import enqueue, enqueue_many
from app.queue.job import PAYLOAD_LIMIT_BYTES, NewJob, Unique
from tests.support.membership import check_membership

NAMES = [
    "",
    "Upper",
    "1digit",
    "with space",
    "x" * 64,
    "new\nline",
    "end\n",
    "nul\0",
    "ümlaut",
    "-dash",
    "a/b",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="not a name"):
        NewJob(name)
    with pytest.raises(InvalidInput, match="not a name"):
        NewJob("test", queue=name)


@pytest.mark.parametrize("name", [name for name in NAMES if "\0" not in name])
def test_a_bad_name_is_refused_by_sql(tx: BoundedConnection, name: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        tx.execute("SELECT tandem.enqueue(%s)", (name,))


@pytest.mark.parametrize("priority", [-1, 10, 32768, 2**40])
def test_a_priority_outside_its_bands_is_refused(tx: BoundedConnection, priority: int) -> None:
    with pytest.raises(InvalidInput, match="priority is 0 to 9"):
        NewJob("test", priority=priority)
    if priority < 2**31:
        with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.NumericValueOutOfRange)):
            tx.execute("SELECT tandem.enqueue('test', priority => %s::int)", (priority,))


PAYLOADS: dict[str, Any] = {
    "NUL": {"text": "a\0b"},
    "NUL in a key": {"a\0b": 1},
    "NUL behind backslashes": {"text": "\\\\\0"},
    "unpaired surrogate": {"text": "\ud800"},
    "NaN": {"x": math.nan},
    "infinity": {"x": math.inf},
    "not JSON": {"x": object()},
    "bytes": {"x": b"raw"},
    "circle": None,
}


@pytest.mark.parametrize("name", sorted(PAYLOADS))
def test_a_payload_that_could_not_be_stored_is_refused(tx: BoundedConnection, name: str) -> None:
    payload = PAYLOADS[name]
    if payload is None:
        payload = []
        payload.append(payload)
    with pytest.raises(InvalidInput):
        enqueue(tx, NewJob("test", payload))
    assert tx.execute("SELECT count(*) FROM tandem.job").fetchone() == (0,)


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "a\\", "\u2028", "\U0010ffff", "\ufffe", "é" * 50])
def test_what_only_looks_dangerous_is_stored_as_it_is(tx: BoundedConnection, text: str) -> None:
    answer = enqueue(tx, NewJob("test", {"text": text}))
    row = tx.execute("SELECT payload ->> 'text' FROM tandem.job WHERE id = %s", (answer.job_id,)).fetchone()
    assert row == (text,)


def test_the_payload_limit_counts_bytes(tx: BoundedConnection) -> None:
    fits = {"x": "é" * ((PAYLOAD_LIMIT_BYTES - len('{"x": ""}')) // 2)}
    enqueue(tx, NewJob("test", fits))
    with pytest.raises(InvalidInput, match="store the data in a table") as refused:
        enqueue(tx, NewJob("test", {"x": fits["x"] + "é"}))
    assert refused.value.code == "payload-too-large"


def test_what_python_takes_at_the_limit_sql_takes_as_well(tx: BoundedConnection) -> None:
    # [0, 0, ...]: of all documents the one to which PostgreSQL adds most.
    fits = [0] * (PAYLOAD_LIMIT_BYTES // 3)
    ways: list[Callable[[NewJob], object]] = [
        lambda job: enqueue(tx, job),
        lambda job: enqueue_many(tx, [job]),
        lambda job: enqueue_copy(tx, [job]),
    ]
    for way in ways:
        way(NewJob("test", fits))
        with pytest.raises(InvalidInput, match="store the data in a table"):
            way(NewJob("test", [*fits, 0]))


LARGE = "jsonb_build_object('x', repeat('x', {}))"
WAYS = {
    "enqueue": "SELECT tandem.enqueue('test', {payload}, policy => {policy}, context => {context})",
    "enqueue_jobs": "SELECT tandem.enqueue_jobs(ARRAY['test', 'test'], ARRAY['{{}}', {payload}],"
    " policies => ARRAY[NULL, {policy}], contexts => ARRAY[NULL, {context}])",
    "enqueue_copied": "SELECT tandem.begin_copy(); INSERT INTO pg_temp.tandem_copy (kind, payload, policy, context)"
    " VALUES ('test', {payload}, {policy}, {context}); SELECT tandem.enqueue_copied()",
}


def run_sql(tx: BoundedConnection, way: str, **given: str) -> None:
    """One job with these documents, in a savepoint."""
    documents = {"payload": "'{}'::jsonb", "policy": "NULL::jsonb", "context": "NULL::jsonb", **given}
    tx.execute("SELECT 1")
    with tx.transaction():
        for statement in WAYS[way].format(**documents).split("; "):
            tx.execute(statement.encode())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("what", "limit"), [("payload", 262144), ("policy", 16384), ("context", 16384)])
def test_every_way_of_sql_has_the_limits(tx: BoundedConnection, way: str, what: str, limit: int) -> None:
    fits = limit - len('{"x": ""}')
    run_sql(tx, way, **{what: LARGE.format(fits)})
    with pytest.raises(
        psycopg.errors.ProgramLimitExceeded, match=f"of {limit + 1} bytes is over the limit of {limit}"
    ):
        run_sql(tx, way, **{what: LARGE.format(fits + 1)})


@pytest.mark.parametrize("way", WAYS)
def test_numbers_that_are_short_to_store_count_as_written(tx: BoundedConnection, way: str) -> None:
    numbers = ", ".join(["'1e131000'::jsonb"] * 30)
    with pytest.raises(psycopg.errors.ProgramLimitExceeded):
        run_sql(tx, way, payload=f"jsonb_build_array({numbers})")


def test_a_due_time_without_a_time_zone_is_refused() -> None:
    with pytest.raises(InvalidInput, match="time zone"):
        NewJob("test", run_at=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of it


def test_a_due_time_beyond_a_year_is_refused(tx: BoundedConnection) -> None:
    east = timezone(timedelta(hours=14))
    for far in (datetime.now(east) + timedelta(days=367), datetime.max.replace(tzinfo=UTC)):
        with pytest.raises(InvalidInput, match="366 days"):
            NewJob("test", run_at=far)
    NewJob("test", run_at=datetime.now(UTC) + timedelta(days=365, hours=23))


@pytest.mark.parametrize("when", ["infinity", "2999-01-01", "now() + interval '368 days'"])
def test_sql_refuses_a_due_time_that_could_not_be_read_back(tx: BoundedConnection, when: str) -> None:
    # One 'infinity' in `scheduled` would end every run of the promotion with an error.
    at = when if when.startswith("now") else f"'{when}'"
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="366 days"):
        tx.execute(psycopg.sql.SQL("SELECT tandem.enqueue('test', run_at => {})").format(psycopg.sql.SQL(at)))


@pytest.mark.parametrize("key", ["", "x" * 256, "a\0b", "\ud800"])
def test_a_bad_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput):
        Unique(key)
    with pytest.raises(InvalidInput):
        NewJob("test", partition_key=key)


def test_a_period_goes_with_its_scope_alone(tx: BoundedConnection) -> None:
    with pytest.raises(InvalidInput):
        Unique("k", "period")
    with pytest.raises(InvalidInput):
        Unique("k", "forever", timedelta(hours=1))
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="period"):
        tx.execute("SELECT tandem.enqueue('test', unique_key => 'k', unique_scope => 'period')")


def test_an_unknown_scope_is_refused(tx: BoundedConnection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        tx.execute("SELECT tandem.enqueue('test', unique_key => 'k', unique_scope => 'sometimes')")


def test_a_connection_of_something_else_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot enqueue through object"):
        enqueue(object(), NewJob("test"))  # type: ignore[call-overload]


def test_a_refused_job_leaves_the_callers_transaction_as_it_was(db_url: str) -> None:
    with psycopg.connect(db_url) as connection:
        enqueue(connection, NewJob("test", {"n": 1}))
        with pytest.raises(InvalidInput):
            enqueue(connection, NewJob("test", {"n": math.nan}))
        enqueue(connection, NewJob("test", {"n": 2}))
    check_membership(db_url)
