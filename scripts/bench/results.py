"""One line of a benchmark: the keys of the performance page, always all of them, and the details below `detail`."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Line:
    """What one run measured. None: the workload has no such figure. `void` names why a run does not count."""

    peer: str
    version: str
    workload: str
    workers: int
    conns: int
    n: int = 0
    jobs_s: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    ratio: float | None = None
    backlog: int | None = None
    wal_bytes_per_job: float | None = None
    statements_per_job: float | None = None
    rss_mb: float | None = None
    lost: int | None = None
    doubled: int | None = None
    variant: str | None = None
    void: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def column(self) -> str:
        """Which figures belong together: the same workload in the same form."""
        parts = [self.workload, self.variant or "", f"{self.workers}w" if self.workers != 1 else ""]
        parts.append(f"{self.conns}c" if self.conns != 1 else "")
        return " ".join(part for part in parts if part)

    def as_json(self) -> str:
        """One line, figures rounded to what they mean."""
        return json.dumps({key: _rounded(value) for key, value in asdict(self).items()})


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3) if abs(value) < 100 else round(value, 1)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return value
