"""Facts that this application reports on the fact bus; observability turns them into metrics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessingStarted:
    """A worker starts a try of a conversation's job, `waited` seconds after the job was ready."""

    waited: float


@dataclass(frozen=True, slots=True)
class ProcessingCrashed:
    """The sweeper found that the worker of a conversation's job is gone; no worker reports the end of that try."""


@dataclass(frozen=True, slots=True)
class FallbackChecked:
    """The fallback looked at overdue events: `alive` had their job, `closed` an ended one, the rest got a new job."""

    checked: int
    alive: int
    closed: int
    reprocessed: int
