"""The catalogue of bad input through plain SQL: the SQLSTATE that each call gets, and nothing left behind."""

import pytest
from psycopg import errors

from app.database.deadline import BoundedConnection

CALL = "SELECT tandem.enqueue('test', {})"
BATCH = "SELECT * FROM tandem.enqueue_jobs({})"
Refusal = type[Exception]
CASES: dict[str, tuple[str, Refusal]] = {
    "NUL in a text": ("""payload => '{"a": "\\u0000"}'""", errors.UntranslatableCharacter),
    "NUL in a key": ("""payload => '{"\\u0000": 1}'""", errors.UntranslatableCharacter),
    "lone surrogate": ("""payload => '{"a": "\\ud800"}'""", errors.InvalidTextRepresentation),
    "invalid UTF-8": ("payload => to_jsonb(convert_from('\\xff', 'UTF8'))", errors.CharacterNotInRepertoire),
    "NaN": ("""payload => '{"a": NaN}'""", errors.InvalidTextRepresentation),
    "a number over all limits": ("payload => '1e400000'", errors.NumericValueOutOfRange),
    "100,000 levels": ("payload => repeat('[', 100000)::jsonb", errors.StatementTooComplex),
    "truncated": ("""payload => '{"a": '""", errors.InvalidTextRepresentation),
    "empty text": ("payload => ''", errors.InvalidTextRepresentation),
    "no payload": ("payload => NULL", errors.NotNullViolation),
    "payload over the limit": ("payload => to_jsonb(repeat('x', 262144))", errors.ProgramLimitExceeded),
    "priority below": ("priority => -1", errors.CheckViolation),
    "priority above": ("priority => 10", errors.CheckViolation),
    "priority beyond smallint": ("priority => 70000", errors.CheckViolation),
    "priority beyond integer": ("priority => 9999999999", errors.UndefinedFunction),
    "no priority": ("priority => NULL", errors.NotNullViolation),
    "no queue": ("queue => NULL", errors.NullValueNotAllowed),
    "due at infinity": ("run_at => 'infinity'", errors.InvalidParameterValue),
    "due in 10000": ("run_at => '10000-01-01'", errors.InvalidParameterValue),
    "due on 30 February": ("run_at => '2026-02-30'", errors.DatetimeFieldOverflow),
    "due some day": ("run_at => 'some day'", errors.InvalidDatetimeFormat),
    "event that is no UUID": ("event_id => 'conv_1'", errors.InvalidTextRepresentation),
    "empty key": ("unique_key => ''", errors.CheckViolation),
    "key over 255": ("unique_key => repeat('k', 256)", errors.CheckViolation),
    "key of 10,000": ("unique_key => repeat(md5('k'), 312)", errors.CheckViolation),
    "unknown scope": ("unique_key => 'k', unique_scope => 'day'", errors.CheckViolation),
    "period of another scope": ("unique_key => 'k', unique_period => '1 day'", errors.InvalidParameterValue),
    "no period": ("unique_key => 'k', unique_scope => 'period'", errors.InvalidParameterValue),
    "period over all times": (
        "unique_key => 'k', unique_scope => 'period', unique_period => '178000000 years'",
        errors.DatetimeFieldOverflow,
    ),
    "empty partition key": ("partition_key => ''", errors.CheckViolation),
    "partition key over 255": ("partition_key => repeat('k', 256)", errors.CheckViolation),
}
QUEUES = [
    "''; DROP TABLE tandem.job; --", '"', "../x", "x" * 64, "", "ma\u0456l", "%00", "Mail", "a b", "a\nb", "1a",
    "-a", "\u202ea", "e\u0301",
]  # fmt: skip
LEFT = """
SELECT (SELECT count(*) FROM tandem.job), (SELECT count(*) FROM tandem.ready), (SELECT count(*) FROM tandem.scheduled),
       (SELECT count(*) FROM tandem.unique_key), (SELECT count(*) FROM tandem.wake_request)
"""


def refused(tx: BoundedConnection, statement: str, by: Refusal, *params: str) -> None:
    """The statement fails with this error, and nothing of it is there."""
    with pytest.raises(by), tx.transaction():
        tx.execute(statement.encode(), params or None)
    assert tx.execute(LEFT).fetchone() == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_server_refuses_with_its_own_code(tx: BoundedConnection, name: str) -> None:
    given, by = CASES[name]
    refused(tx, CALL.format(given), by)


@pytest.mark.parametrize("name", QUEUES)
def test_a_name_that_is_none_is_refused(tx: BoundedConnection, name: str) -> None:
    refused(tx, "SELECT tandem.enqueue('test', queue => %s)", errors.CheckViolation, name)
    refused(tx, "SELECT tandem.enqueue(%s)", errors.CheckViolation, name)


@pytest.mark.parametrize("at", ["-infinity", "4713-01-01 BC", "epoch", "now"])
def test_a_due_time_in_the_past_means_now(tx: BoundedConnection, at: str) -> None:
    tx.execute("SELECT tandem.enqueue('test', run_at => %s)", (at,))
    assert tx.execute("SELECT count(*) FROM tandem.ready").fetchone() == (1,)


@pytest.mark.parametrize("period", ["-1 day", "0", "200000 years"])
def test_a_strange_period_is_only_a_short_or_a_long_one(tx: BoundedConnection, period: str) -> None:
    call = "SELECT tandem.enqueue('test', unique_key => 'k', unique_scope => 'period', unique_period => %s)"
    ids = {tx.execute(call, (period,)).fetchone() for _ in range(2)}
    assert len(ids) == (1 if period.endswith("years") else 2)


@pytest.mark.parametrize(
    ("arrays", "by"),
    [
        ("ARRAY['test', NULL], ARRAY['{}', '{}']::jsonb[]", errors.NotNullViolation),
        ("ARRAY['test'], ARRAY[]::jsonb[]", errors.NotNullViolation),
        ("ARRAY['test', 'Bad'], ARRAY['{}', '{}']::jsonb[]", errors.CheckViolation),
        ("ARRAY['test'], ARRAY['{}']::jsonb[], unique_keys => ARRAY['a', 'b']", errors.NotNullViolation),
    ],
)
def test_one_bad_job_of_a_batch_and_none_is_written(tx: BoundedConnection, arrays: str, by: Refusal) -> None:
    refused(tx, BATCH.format(arrays), by)
