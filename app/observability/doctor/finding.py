"""What a check finds: a verdict, a sentence, and the way out. And the patient: what every check may ask."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from app.config import Settings
from app.database.deadline import BoundedAsyncConnection
from app.observability.doctor.store import DoctorStore

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `remedy` is the way out, "" when all is well; `facts` are for programs."""

    name: str
    verdict: Verdict
    text: str
    remedy: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined: a connection like everybody's, the address for LISTEN, and the settings of this process."""

    connection: BoundedAsyncConnection
    url: str
    listen_url: str
    settings: Settings

    @property
    def store(self) -> DoctorStore:
        """The statements of the check-up on this connection."""
        return DoctorStore(self.connection)


Check = Callable[[Patient], Awaitable[Finding]]


def worst(findings: Sequence[Finding]) -> Verdict:
    """The verdict over all: that of the worst one."""
    verdicts = {finding.verdict for finding in findings}
    if "fail" in verdicts:
        return "fail"
    return "warn" if "warn" in verdicts else "ok"
