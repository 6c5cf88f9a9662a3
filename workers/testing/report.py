"""What drain and inline answer: each job that ran, and what has become of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Ran:
    """One job that was claimed here, as it stands afterwards.

    `status` is that of job_status: PENDING when it waits for another try, or went back. `result` is what the handler
    answered, decoded. `error` is the exception of its last failed try, if that ran in this process; `message` is what
    the database kept of it.
    """

    job_id: int
    kind: str
    queue: str
    status: str
    attempt: int
    tries: int
    result: Any = None
    error: BaseException | None = None
    message: str | None = None
    next_attempt_at: datetime | None = None

    def __str__(self) -> str:
        said = f": {self.message}" if self.message else ""
        return f"#{self.job_id} {self.kind} {self.status} after {self.tries} tries{said}"


@dataclass(frozen=True, slots=True)
class DrainReport:
    """All jobs that ran, in the order in which they were first claimed."""

    jobs: tuple[Ran, ...]

    def of(self, kind: str) -> list[Ran]:
        """The jobs of one kind."""
        return [job for job in self.jobs if job.kind == kind]

    @property
    def succeeded(self) -> list[Ran]:
        """Jobs that are done."""
        return self._with("SUCCEEDED")

    @property
    def dead(self) -> list[Ran]:
        """Jobs that became dead letters."""
        return self._with("DEAD")

    @property
    def cancelled(self) -> list[Ran]:
        """Jobs that were cancelled."""
        return self._with("CANCELLED")

    @property
    def waiting(self) -> list[Ran]:
        """Jobs that ran and wait again: for a retry, after a snooze, or for a process that has their handler."""
        return self._with("PENDING")

    @property
    def errors(self) -> list[BaseException]:
        """The exceptions that handlers raised in this process, one per job."""
        return [job.error for job in self.jobs if job.error is not None]

    def raise_errors(self) -> None:
        """Raise what handlers raised: the exception itself if it is one, else an ExceptionGroup."""
        errors = self.errors
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise BaseExceptionGroup("handlers failed", errors)

    def __len__(self) -> int:
        return len(self.jobs)

    def __str__(self) -> str:
        return "\n".join(str(job) for job in self.jobs) or "no job ran"

    def _with(self, status: str) -> list[Ran]:
        return [job for job in self.jobs if job.status == status]


def read_report(
    rows: Sequence[tuple[Any, ...]], *, tries: Mapping[int, int], errors: Mapping[int, BaseException]
) -> DrainReport:
    """The report from the rows of read_outcomes; jobs keep the order of `tries`."""
    found = {}
    for job_id, kind, queue, status, attempt, due, result, reason, message in rows:
        found[job_id] = Ran(
            job_id=job_id,
            kind=kind,
            queue=queue,
            status=status,
            attempt=attempt,
            tries=tries[job_id],
            result=None if result is None else json.loads(result),
            error=errors.get(job_id),
            message=message or reason,
            next_attempt_at=due,
        )
    return DrainReport(tuple(found[job_id] for job_id in tries if job_id in found))
