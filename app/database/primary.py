"""Which server a new connection reached: through a pooler or not, and never an older timeline than one seen before.

A promotion starts a new timeline. The memory is this process's: keeping an old primary away from processes that start
later is the task of whoever runs the failover.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from app.errors import Unavailable

# Session settings are made only where the server process is the one that the client was told: no pooler in between.
ASK = """SELECT pg_catalog.pg_backend_pid(), {identity},
  (SELECT count(pg_catalog.set_config(s.name, s.value,
     %(never)s OR coalesce(pg_catalog.pg_backend_pid() <> %(told)s, false)))
   FROM unnest(%(names)s::text[], %(values)s::text[]) AS s (name, value))"""
IDENTITY = """(SELECT system_identifier FROM pg_catalog.pg_control_system()),
  CASE WHEN NOT pg_catalog.pg_is_in_recovery()
    THEN left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8) END"""
WITH_IDENTITY = ASK.format(identity=IDENTITY).encode()
# For servers that keep these functions to themselves.
WITHOUT_IDENTITY = ASK.format(identity="NULL::bigint, NULL::text").encode()
REFUSED = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.FeatureNotSupported,
)


@dataclass(frozen=True, slots=True)
class Reached:
    """What a new connection leads to; `timeline` is None on a standby and where the server does not tell."""

    pid: int
    system: int | None
    timeline: int | None


class OldTimelineError(Unavailable):
    """The server is a primary from before a failover: what is written there is lost or collides."""


def parameters(told: int | None, session: Mapping[str, str], *, never: bool) -> dict[str, Any]:
    """The parameters of the statement; `never` leaves the session as it is, without `told` it is set in any case."""
    return {"told": told, "names": list(session), "values": list(session.values()), "never": never}


def read(row: Any) -> Reached:
    """The answer of the statement."""
    return Reached(row[0], row[1], None if row[2] is None else int(row[2], 16))


class Timelines:
    """The newest timeline that this process met, for each cluster."""

    def __init__(self) -> None:
        self._newest: dict[int, int] = {}
        self._lock = threading.Lock()

    def check(self, reached: Reached) -> None:
        """Note a newer timeline. Raises OldTimelineError for an older one."""
        if reached.system is None or reached.timeline is None:
            return
        with self._lock:
            newest = self._newest.get(reached.system, 0)
            self._newest[reached.system] = max(newest, reached.timeline)
        if reached.timeline < newest:
            raise OldTimelineError(
                "database-old-timeline",
                f"this server is on timeline {reached.timeline}, another one was promoted to {newest}: "
                "stop the old primary, or let the address lead to the new one "
                "(after a restore that was meant, restart this process)",
                detail={"timeline": reached.timeline, "newest": newest},
            )


timelines = Timelines()
