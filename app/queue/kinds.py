"""The registry of kinds: which handler runs a kind of job, with what payload, limits and hooks.

Holds declarations only; workers run them.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Literal
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from pydantic import TypeAdapter

from app.errors import ConfigurationError
from app.queue.cron import Schedule
from app.queue.job import check_name
from app.queue.priority import Ageing, Formula, Rule, pace_of
from app.queue.retry import Retrying

Executor = Literal["async", "thread", "process"]
Transition = Literal["RETRY", "DEAD", "CANCELLED", "RESCUED", "REDRIVEN"]


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to a job, as its kind's hook sees it, inside the transaction that makes it happen."""

    job_id: int
    event_id: UUID | None
    kind: str
    transition: Transition
    attempt: int
    next_attempt_at: datetime | None
    error_class: str | None
    code: str | None
    message: str | None


Hook = Callable[[AsyncConnection[Any], Change], Awaitable[None]]


class HookError(Exception):
    """A hook ended the transaction that it runs in, or swallowed an SQL error that broke it."""


async def call_hook(hook: Hook, connection: AsyncConnection[Any], change: Change) -> None:
    """Call a hook, and make sure that the transaction still stands. Raises HookError, and what the hook raises.

    A broken transaction would roll back at its COMMIT without a word, with everything that is in it.
    """
    await hook(connection, change)
    if connection.info.transaction_status != TransactionStatus.INTRANS:
        raise HookError(
            f"the hook of kind {change.kind!r} left no usable transaction: let its SQL errors through"
        )


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    `payload` is the handler's payload type (a pydantic model, a dataclass, or dict). `timeout` and `hard_timeout`
    are seconds: at the first the handler is told to stop, at the second it is given up (a process is killed).
    `concurrency` bounds how many run at once in one process. With `batch` the handler gets up to so many jobs as a
    list and answers one result, Decision or exception for each. `result_ttl` are the seconds for which results are
    kept (as long as the job, if None). A job whose first try has not started `start_within` seconds after it was
    ready expires. `hook` runs in the transaction of every change of such a job that its handler
    did not make: retry, death, cancel, rescue, redrive.
    """

    name: str
    handler: Callable[..., Any]
    payload: Any = dict
    executor: Executor = "async"
    timeout: float = 300.0
    hard_timeout: float | None = None
    concurrency: int | None = None
    batch: int | None = None
    retry: Retrying = field(default_factory=Retrying)
    crash_limit: int = 3
    result_ttl: float | None = None
    start_within: float | None = None
    hook: Hook | None = None

    def __post_init__(self) -> None:
        check_name("kind", self.name)
        if self.timeout <= 0 or (self.hard_timeout is not None and self.hard_timeout < self.timeout):
            raise ConfigurationError("invalid-kind", f"kind {self.name!r}: 0 < timeout <= hard_timeout")
        if self.executor == "process" and "<" in getattr(self.handler, "__qualname__", "<"):
            raise ConfigurationError(
                "invalid-kind",
                f"kind {self.name!r}: a process handler is a function at the top of its module",
            )
        if self.batch is not None and (self.batch < 1 or self.executor == "process"):
            raise ConfigurationError(
                "invalid-kind", f"kind {self.name!r}: batch is at least 1, and not for processes"
            )
        if self.start_within is not None and self.start_within <= 0:
            raise ConfigurationError("invalid-kind", f"kind {self.name!r}: start_within is above 0")
        if self.concurrency is not None and self.concurrency < 1:
            raise ConfigurationError("invalid-kind", f"kind {self.name!r}: concurrency is at least 1")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_adapter"}

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.payload)

    def decode(self, raw_payload: str) -> Any:
        """The typed payload. Raises pydantic.ValidationError, which is a permanent failure."""
        return self._adapter.validate_json(raw_payload)

    @property
    def last_resort(self) -> float:
        """Seconds after which a handler is given up whatever it does."""
        return self.hard_timeout if self.hard_timeout is not None else self.timeout * 1.25 + 1.0


class Registry:
    """The kinds a process can run. Built once at start, then only read."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}
        self._schedules: dict[str, Schedule] = {}
        self._priorities: dict[str, Rule] = {}

    def add(self, kind: Kind) -> Kind:
        """Register a kind. Raises ConfigurationError when the name is taken."""
        if kind.name in self._kinds:
            raise ConfigurationError("duplicate-kind", f"kind {kind.name!r} is registered twice")
        self._kinds[kind.name] = kind
        return kind

    def handler(self, name: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator form of `add`: `@registry.handler("greet", payload=Greeting, timeout=5)`."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self.add(Kind(name=name, handler=function, **options))
            return function

        return register

    def cron(self, name: str, cron: str, *, kind: str, **options: Any) -> Schedule:
        """Declare a schedule: `registry.cron("nightly", "0 3 * * *", kind="report", timezone="Europe/Berlin")`.

        `options` are those of Schedule. A sweeper that has this registry writes it down when it starts. Raises
        ConfigurationError when the name is taken, InvalidInput.
        """
        if name in self._schedules:
            raise ConfigurationError("duplicate-schedule", f"schedule {name!r} is declared twice")
        self._schedules[name] = Schedule(name, cron, kind, **options)
        return self._schedules[name]

    def priority(self, queue: str, function: Formula, *, every: float = 60.0, batch: int = 1000) -> Rule:
        """Let `function(jobs)`, or `function(jobs, connection)`, say the priorities of a queue's waiting jobs.

        It answers one for each WaitingJob, 0 to 9, and may be async. The sweep walks over all that waits every `every`
        seconds, `batch` jobs in one transaction. Raises ConfigurationError when the queue has one, InvalidInput.
        """
        known = self._priorities.get(queue)
        if known is not None and known.function is not None:
            raise ConfigurationError("duplicate-priority", f"queue {queue!r} has two formulas for priorities")
        ageing = known.ageing if known is not None else None
        self._priorities[queue] = Rule(queue, function, ageing, every=every, batch=batch)
        return self._priorities[queue]

    def ageing(self, queue: str, *, after: float, step: int = 1, most: int = 9) -> Rule:
        """Let waiting jobs of a queue rise by `step` each `after` seconds, at most to `most`, after its formula.

        Raises ConfigurationError when it is declared twice, InvalidInput.
        """
        ageing, known = Ageing(after, step, most), self._priorities.get(queue)
        if known is not None and known.ageing is not None:
            raise ConfigurationError("duplicate-priority", f"the ageing of queue {queue!r} is declared twice")
        rule = known or Rule(queue, every=pace_of(ageing))
        self._priorities[queue] = replace(rule, ageing=ageing)
        return self._priorities[queue]

    def include(self, other: "Registry") -> None:
        """Take over what another registry declares. Raises ConfigurationError for a name that is taken."""
        for kind in other:
            self.add(kind)
        for schedule in other.schedules:
            if schedule.name in self._schedules:
                raise ConfigurationError(
                    "duplicate-schedule", f"schedule {schedule.name!r} is declared twice"
                )
            self._schedules[schedule.name] = schedule
        for queue, rule in other.priorities.items():
            if queue in self._priorities:
                raise ConfigurationError(
                    "duplicate-priority", f"queue {queue!r} has two rules for priorities"
                )
            self._priorities[queue] = rule

    @property
    def priorities(self) -> Mapping[str, Rule]:
        """How the priorities of queues come about, where they change while jobs wait."""
        return dict(self._priorities)

    @property
    def schedules(self) -> list[Schedule]:
        """The schedules declared here."""
        return list(self._schedules.values())

    def get(self, name: str) -> Kind | None:
        """The kind of this name, if this process knows it."""
        return self._kinds.get(name)

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds.values())

    def __len__(self) -> int:
        return len(self._kinds)

    @property
    def hooked(self) -> list[str]:
        """Names of the kinds that have a hook here."""
        return sorted(kind.name for kind in self if kind.hook is not None)
