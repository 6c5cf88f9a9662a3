"""When a failed job runs again: error classes, retry policies, and the fingerprint that groups failures.

Decides only; `finish` and the sweeper write the decision.
"""

import hashlib
import random
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal, cast

from pydantic import ValidationError

from app.errors import InvalidInput
from app.queue.job import MOST_TRIES

ErrorClass = Literal["temporary", "resource", "network", "auth", "timeout", "permanent", "crash", "expired"]
MESSAGE_LIMIT = 2_000
TRACEBACK_LIMIT = 20_000


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a kind's failed jobs run again.

    `max_attempts` counts every try, the first included. `delays` are seconds before the 2nd, 3rd, … try; the last
    one repeats. Without them the delay is `base ** attempt` seconds, at most `longest`. `jitter` is the share of
    the delay that is random, so that failures of one moment do not return in one moment.
    """

    max_attempts: int
    delays: tuple[float, ...] = ()
    base: float = 2.0
    longest: float = 3600.0
    jitter: float = 0.1

    def delay(self, attempt: int) -> float:
        """Seconds to wait after try number `attempt` (from 1) failed."""
        table = self.delays
        grown = min(self.longest, self.base ** min(attempt, 64))
        plain = table[min(attempt, len(table)) - 1] if table else grown
        return plain * (1 + self.jitter * random.random())  # noqa: S311 - no secret


NEVER = RetryPolicy(max_attempts=1)
CLASS_POLICIES: Mapping[ErrorClass, RetryPolicy] = {
    "temporary": RetryPolicy(max_attempts=4),
    "resource": RetryPolicy(max_attempts=6, delays=(30.0,)),
    "network": RetryPolicy(max_attempts=4, base=5.0),
    "auth": NEVER,
    "timeout": RetryPolicy(max_attempts=4),
    "permanent": NEVER,
    "expired": NEVER,
}
"""Product page, section 3.6: 3 retries after 2^n s, 5 after 30 s, 3 after 5^n s, none for auth."""

_BY_TYPE: tuple[tuple[type[BaseException], ErrorClass], ...] = (
    (PermissionError, "auth"),
    (MemoryError, "resource"),
    (ConnectionError, "network"),
    (TimeoutError, "network"),
    (ValidationError, "permanent"),
)


class JobTimeoutError(Exception):
    """The handler ran past its kind's time limit."""


class HandlerError(Exception):
    """What a handler raises to name the class of its failure."""

    def __init__(
        self, message: str, *, error_class: ErrorClass = "temporary", code: str | None = None
    ) -> None:
        super().__init__(message)
        self.error_class: ErrorClass = error_class
        self.code = code


class RemoteError(Exception):
    """A failure that happened in another process, described there."""

    def __init__(self, failure: "Failure", code: str | None) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.code = code


def classify(error: BaseException) -> ErrorClass:
    """The class of an exception; what nobody classified is temporary."""
    given = getattr(error, "error_class", None)
    if isinstance(given, str) and (given in CLASS_POLICIES or given == "crash"):
        return cast(ErrorClass, given)
    if isinstance(error, JobTimeoutError):
        return "timeout"
    if isinstance(error, InvalidInput):
        return "permanent"
    for kind, error_class in _BY_TYPE:
        if isinstance(error, kind):
            return error_class
    return "temporary"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed try, ready to be stored: trimmed, free of what PostgreSQL cannot hold, with its fingerprint."""

    error_class: ErrorClass
    fingerprint: str
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Describe an exception; its traceback is kept from the handler's own frames inwards."""
        if isinstance(error, RemoteError):
            return error.failure
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        text = "".join(lines)
        return cls(
            error_class=classify(error),
            fingerprint=fingerprint(error),
            message=storable(f"{type(error).__name__}: {_said(error)}", MESSAGE_LIMIT),
            traceback=storable(text[-TRACEBACK_LIMIT:], TRACEBACK_LIMIT),
        )


def fingerprint(error: BaseException) -> str:
    """16 hex digits that are equal for failures of one type at one place, whatever their message."""
    frames = [
        f"{PurePath(frame.f_code.co_filename).name}:{frame.f_code.co_name}"
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    parts = [type(error).__module__, type(error).__qualname__, *frames[-3:]]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def code_of(error: BaseException) -> str | None:
    """The error's own code as text, if it has one: libraries put numbers there, hooks write it to a text column."""
    code = getattr(error, "code", None)
    return storable(str(code), 100) if isinstance(code, str | int) else None


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # a broken __str__ must not cost the worker more than the job
        return "(its message cannot be printed)"


def storable(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Text that PostgreSQL takes: cut to `limit` characters, without NUL and unpaired surrogates."""
    return text[:limit].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a failed try: another one after `delay` seconds, or, with None, a dead letter."""

    failure: Failure
    delay: float | None
    crashes: int = 0
    """How many tries in a row ended in a crash; the next one counts from there."""


@dataclass(frozen=True, slots=True)
class Retrying:
    """A kind's retry rules: its own policy, else the error class's; some classes may differ for the kind."""

    own: RetryPolicy | None = None
    by_class: Mapping[str, RetryPolicy] = field(default_factory=dict)

    def decide(self, failure: Failure, attempt: int, *, max_attempts: int | None = None) -> Verdict:
        """Judge try number `attempt`; `max_attempts` is the job's own limit over the policy's."""
        policy = self.by_class.get(failure.error_class)
        if policy is None:
            final = failure.error_class in ("auth", "permanent")
            by_class = CLASS_POLICIES.get(failure.error_class, CLASS_POLICIES["temporary"])
            policy = by_class if final or self.own is None else self.own
        allowed = policy.max_attempts if max_attempts is None or policy is NEVER else max_attempts
        return Verdict(failure, policy.delay(attempt) if attempt < min(allowed, MOST_TRIES) else None)

    @property
    def max_attempts(self) -> int:
        """The largest number of tries any error class allows, for people."""
        return self.own.max_attempts if self.own else max(p.max_attempts for p in CLASS_POLICIES.values())
