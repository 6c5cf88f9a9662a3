"""Payloads as JSON: every value that handlers may declare arrives as itself, whatever made it."""

import enum
import json
import math
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import psycopg
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.client import InvalidInput
from app.client.encoding import encode_json
from app.client.statements import array_text


class Colour(enum.Enum):
    RED = "red"


class Inner(pydantic.BaseModel):
    at: datetime
    colour: Colour = Colour.RED


class Measured(pydantic.BaseModel):
    value: float


@pydantic.dataclasses.dataclass
class Checked:
    n: int
    at: date


@dataclass
class Outer:
    """What a handler's payload may look like."""

    inner: Inner
    checked: Checked
    id: UUID
    price: Decimal
    took: timedelta
    day: date
    clock: time
    path: PurePosixPath
    colour: Colour
    tags: set[str]
    frozen: frozenset[int] = dataclass_field(default_factory=frozenset)
    by_id: dict[int, str] = dataclass_field(default_factory=dict)
    nothing: None = None


def encode(value: Any, limit: int = 10_000) -> str:
    return encode_json(value, limit=limit, what="payload")


def test_a_typed_payload_is_read_back_as_it_was() -> None:
    value = Outer(
        Inner(at=datetime(2026, 5, 4, 3, 2, 1, 9, tzinfo=timezone(timedelta(hours=7)))),
        Checked(1, date(2026, 1, 2)),
        UUID(int=1),
        Decimal("1.10"),
        timedelta(days=2, microseconds=1),
        date(2026, 1, 2),
        time(3, 4, 5),
        PurePosixPath("/a/b"),
        Colour.RED,
        {"x"},
        frozenset({1}),
        {1: "one"},
    )
    assert pydantic.TypeAdapter(Outer).validate_json(encode(value)) == value


@given(st.timedeltas(timedelta(days=-900), timedelta(days=900)))
def test_durations_are_read_back(took: timedelta) -> None:
    assert pydantic.TypeAdapter(timedelta).validate_json(encode(took)) == took


@given(st.datetimes(timezones=st.just(UTC)))
def test_moments_are_written_as_pydantic_writes_them(at: datetime) -> None:
    assert encode(at) == pydantic.TypeAdapter(datetime).dump_json(at).decode()


text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_what_is_json_stays_as_it_is(value: Any) -> None:
    assert json.loads(encode(value, 10**6)) == value


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"x": math.nan}, "invalid-payload"),
        ({"x": {"y": [Measured(value=math.inf)]}}, "invalid-payload"),
        ({"x": object()}, "invalid-payload"),
        ({"x": b"raw"}, "invalid-payload"),
        ({("a", 1): 1}, "invalid-payload"),
        ({"x": Inner}, "invalid-payload"),
        ({"x": 10**5000}, "invalid-payload"),
        ({"x": "a\0"}, "nul-character"),
        ({"x": "\udc00"}, "invalid-unicode"),
        ({"x": "é" * 5000}, "payload-too-large"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_reason(value: Any, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        encode(value)
    assert refused.value.code == code


def test_a_value_that_is_too_deep_is_refused() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidInput):
        encode(deep, 10**6)


def test_the_limit_counts_bytes_exactly() -> None:
    assert encode("é" * 9, 20) == '"' + "é" * 9 + '"'
    with pytest.raises(InvalidInput, match="20 bytes, the limit is 19"):
        encode("é" * 9, 19)


@pytest.mark.parametrize(
    "values",
    [
        ["plain", None, "NULL", "null", "", " "],
        ['"', "\\", '\\"', "a,b", "{}", "{", "}", "'", "%s", "%%", "\t\n\r"],
        ['{"a": "\\u00e9 \\" \\\\"}', "đêm 🎉", "a\\nb"],
    ],
)
def test_a_list_of_strings_arrives_as_it_was(tx: psycopg.Connection[Any], values: list[str | None]) -> None:
    assert tx.execute("SELECT %s::text[]", (array_text(values),)).fetchone() == (values,)
