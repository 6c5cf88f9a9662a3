"""Liveness and readiness for probes. Ready means: this process can commit on the primary, and the schema fits."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Annotated, Final, cast

import psycopg
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from app.api.access import Access
from app.api.auth import public
from app.api.openapi import problems
from app.api.sqlstates import AWAY, READ_ONLY
from app.database.version import known
from app.errors import AppError, OutcomeUnknown, Unavailable

router = APIRouter(prefix="/health", tags=["health"], dependencies=[Depends(public)])
FRESH_SECONDS: Final = 1.0
"""A verdict is shared for this long, so that probes cannot load the database."""


class Alive(BaseModel):
    """The process answers."""

    status: str = "alive"


class Ready(BaseModel):
    """The process can take requests."""

    status: str = "ready"
    schema_version: str


class Readiness:
    """Asks the database at most once per FRESH_SECONDS, however many probes come."""

    def __init__(self, access: Access, clock: Callable[[], float] = monotonic) -> None:
        self._access = access
        self._clock = clock
        self._needed = known()[-1]
        self._lock = asyncio.Lock()
        self._asked_at = float("-inf")
        self._verdict: Ready | AppError | None = None

    async def ask(self) -> Ready:
        """The present verdict. Raises Unavailable when the process is not ready."""
        async with self._lock:
            if self._verdict is None or self._clock() - self._asked_at > FRESH_SECONDS:
                try:
                    self._verdict = await self._look()
                except OutcomeUnknown:
                    self._verdict = Unavailable(*AWAY)
                except AppError as error:
                    self._verdict = error
                self._asked_at = self._clock()
        if isinstance(self._verdict, AppError):
            raise self._verdict
        return self._verdict

    async def _look(self) -> Ready:
        async with self._access.write_at_once() as connection:
            try:
                # Drawing a transaction id fails on a standby and where writes are refused; it writes no row.
                cursor = await connection.execute(
                    "SELECT version_num, pg_current_xact_id()::text, current_setting('transaction_read_only')"
                    " FROM tandem.alembic_version"
                )
            except psycopg.errors.UndefinedTable:
                raise Unavailable("schema-missing", "the database has no schema yet") from None
            row = await cursor.fetchone()
        found = str(row[0]) if row is not None else ""
        if row is not None and row[2] == "on":
            raise Unavailable(*READ_ONLY)
        # A newer schema is fine for a process that runs already: migrations keep the code before them working.
        if found < self._needed:
            raise Unavailable("schema-older", "the database's schema is older than this version needs")
        return Ready(schema_version=found)


async def _readiness(request: Request) -> Readiness:
    return cast(Readiness, request.app.state.readiness)


@router.get("/live", summary="Is the process alive?")
async def live() -> Alive:
    """Answers as long as the event loop runs; says nothing of the database."""
    return Alive()


@router.get("/ready", summary="Can it take requests?", responses=problems(503))
async def ready(readiness: Annotated[Readiness, Depends(_readiness)]) -> Ready:
    """503 while the database cannot be written to, or while its schema is older than this code."""
    return await readiness.ask()
