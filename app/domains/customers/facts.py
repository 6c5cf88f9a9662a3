"""Facts that this application reports on the fact bus; observability turns them into metrics."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class WorkflowStarted:
    """A customer's job starts its first try, `waited` seconds after it was accepted."""

    tier: str
    workflow: str
    waited: float


@dataclass(frozen=True, slots=True)
class TryEnded:
    """A try of a customer's job ended; `final` when the job did, too."""

    workflow: str
    result: Literal["success", "failure", "cancelled", "expired"]
    final: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A request was refused: `code` is system-busy, rate-limited or quota-exceeded."""

    tier: str
    code: str
