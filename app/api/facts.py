"""Facts that the HTTP edge reports on the fact bus; observability turns them into metrics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Denied:
    """A call was refused for its caller: without a good credential (then `subject` is ""), or without `permission`.

    `noted`: whoever asked for the permission writes it into the audit log itself.
    """

    reason: str
    route: str
    permission: str
    subject: str
    address: str = ""
    noted: bool = False


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """A request was answered. `route` is the path's template, "" when none matched: it bounds what a label can hold."""

    method: str
    route: str
    status: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Gathered:
    """Requests were sent to the database in one transaction; `failed`: together, and then each alone if it may be."""

    size: int
    failed: bool = False
