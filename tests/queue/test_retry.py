"""When a failed job runs again: the classes of failures, their delays, and what is kept of an exception."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from app.errors import InvalidInput, Unavailable
from app.queue.kinds import Kind
from app.queue.retry import (
    CLASS_POLICIES,
    MESSAGE_LIMIT,
    TRACEBACK_LIMIT,
    Failure,
    HandlerError,
    JobTimeoutError,
    Retrying,
    RetryPolicy,
    classify,
    code_of,
    storable,
)


class Typed(BaseModel):
    n: int


def validation_error() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Typed.model_validate({"n": "x"})
    return caught.value


CLASSES: list[tuple[BaseException, str]] = [
    (ValueError("x"), "temporary"),
    (RuntimeError("x"), "temporary"),
    (Unavailable("database-unavailable", "x"), "temporary"),
    (MemoryError(), "resource"),
    (ConnectionResetError(), "network"),
    (TimeoutError(), "network"),
    (PermissionError(), "auth"),
    (JobTimeoutError("x"), "timeout"),
    (InvalidInput("invalid-name", "x"), "permanent"),
    (HandlerError("x", error_class="auth"), "auth"),
    (HandlerError("x"), "temporary"),
    (KeyboardInterrupt(), "temporary"),
    (asyncio.CancelledError(), "temporary"),
]


@pytest.mark.parametrize(("error", "expected"), CLASSES, ids=lambda value: str(type(value).__name__))
def test_every_exception_has_its_class(error: BaseException, expected: str) -> None:
    assert classify(error) == expected


def test_a_payload_that_does_not_fit_its_type_is_permanent() -> None:
    assert classify(validation_error()) == "permanent"


@pytest.mark.parametrize("given", [["a"], {}, 7, None, "no such class"])
def test_a_class_that_is_none_is_temporary(given: object) -> None:
    error = ValueError("x")
    error.error_class = given  # type: ignore[attr-defined]
    assert classify(error) == "temporary"


@pytest.mark.parametrize(
    ("name", "attempts", "delays"),
    [
        ("temporary", 4, (2, 4, 8)),
        ("network", 4, (5, 25, 125)),
        ("resource", 6, (30, 30, 30, 30, 30)),
        ("auth", 1, ()),
    ],
)
def test_the_classes_retry_as_the_product_says(name: Any, attempts: int, delays: tuple[float, ...]) -> None:
    failure = Failure(name, "f", "m", "t")
    for attempt in range(1, attempts):
        delay = Retrying().decide(failure, attempt).delay
        assert delay is not None
        assert delays[attempt - 1] <= delay <= 1.1 * delays[attempt - 1]
    assert Retrying().decide(failure, attempts).delay is None


def test_a_kinds_own_delays_come_before_its_class() -> None:
    own = Retrying(own=RetryPolicy(max_attempts=5, delays=(30.0, 300.0, 1800.0, 7200.0), jitter=0.0))
    failure = Failure("network", "f", "m", "t")
    assert [own.decide(failure, attempt).delay for attempt in range(1, 6)] == [
        30.0,
        300.0,
        1800.0,
        7200.0,
        None,
    ]


@pytest.mark.parametrize("name", ["auth", "permanent"])
def test_what_is_final_stays_final_for_a_kind_with_its_own_policy(name: Any) -> None:
    own = Retrying(own=RetryPolicy(max_attempts=5))
    assert own.decide(Failure(name, "f", "m", "t"), 1).delay is None
    assert own.decide(Failure(name, "f", "m", "t"), 1, max_attempts=9).delay is None


def test_a_class_may_differ_for_a_kind() -> None:
    rules = Retrying(
        own=RetryPolicy(max_attempts=2), by_class={"auth": RetryPolicy(3, delays=(1.0,), jitter=0.0)}
    )
    assert [rules.decide(Failure("auth", "f", "m", "t"), n).delay for n in (1, 2, 3)] == [1.0, 1.0, None]


def test_a_jobs_own_limit_counts_over_the_policy() -> None:
    failure = Failure("temporary", "f", "m", "t")
    assert Retrying().decide(failure, 1, max_attempts=1).delay is None
    assert Retrying().decide(failure, 9, max_attempts=10).delay is not None


def test_every_class_that_can_be_named_can_be_decided() -> None:
    for name in (*CLASS_POLICIES, "crash", "cancelled"):
        Retrying().decide(Failure(name, "f", "m", "t"), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("attempt", [1, 5, 64, 1000, 32767])
def test_delays_never_grow_beyond_their_longest(attempt: int) -> None:
    assert RetryPolicy(max_attempts=10**6, base=5.0).delay(attempt) <= 3600.0 * 1.1


# --- what is kept -------------------------------------------------------------------------------------------------


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def elsewhere(error: BaseException) -> BaseException:
    return raised(error)


def test_the_traceback_shows_where_and_the_message_what() -> None:
    failure = Failure.of(raised(ValueError("the reason")))
    assert failure.message == "ValueError: the reason"
    assert "test_retry.py" in failure.traceback and "raise error" in failure.traceback


def test_one_place_and_type_have_one_fingerprint_whatever_the_message() -> None:
    def other() -> BaseException:
        try:
            raise ValueError("c")
        except ValueError as caught:
            return caught

    first, second = Failure.of(raised(ValueError("a"))), Failure.of(raised(ValueError("b 7")))
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 16
    assert first.fingerprint != Failure.of(raised(KeyError("a"))).fingerprint
    assert first.fingerprint != Failure.of(other()).fingerprint


def test_what_postgresql_cannot_hold_is_replaced_and_what_is_long_is_cut() -> None:
    failure = Failure.of(raised(ValueError("a\0b\ud800" + "x" * 10_000)))
    assert "\0" not in failure.message and "\ud800" not in failure.message
    assert len(failure.message) == MESSAGE_LIMIT
    assert len(Failure.of(raised(ValueError("y" * 50_000))).traceback) == TRACEBACK_LIMIT
    assert storable("ok") == "ok"


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("even this fails")


def test_an_exception_that_cannot_be_printed_is_kept_all_the_same() -> None:
    assert Failure.of(raised(Unprintable())).message.startswith("Unprintable: ")


@pytest.mark.parametrize(
    ("code", "kept"), [(404, "404"), ("e\0x", "e\N{REPLACEMENT CHARACTER}x"), (None, None), (3.5, None)]
)
def test_a_code_is_text_whatever_a_library_puts_there(code: object, kept: str | None) -> None:
    error = ValueError("x")
    error.code = code  # type: ignore[attr-defined]
    assert code_of(error) == kept


def test_a_kind_says_how_often_it_tries_at_most() -> None:
    async def handler(_: object) -> None:
        return None

    assert Kind("test", handler, retry=Retrying(own=RetryPolicy(7))).retry.max_attempts == 7
    assert Kind("test", handler).retry.max_attempts == 6
