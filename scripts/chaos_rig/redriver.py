"""Brings dead letters back, as operators do, through the faults; and notes what each was told. Several do so at once.

After the faults only those are brought back that nobody was told are back: an acknowledged redrive must hold by itself.
"""

import asyncio
import random
import threading
from datetime import datetime

import psycopg

from app.config import DatabaseSettings
from app.database.connect import connect
from app.errors import AppError, Conflict
from app.queue.admin import redrive_job
from app.queue.kinds import Registry
from scripts.chaos_rig import ledger
from scripts.chaos_rig.history import REDRIVEN
from scripts.chaos_rig.journal import Journal

Dead = tuple[int, datetime, str]


class Redriver:
    """What all who redrive in one run know together."""

    def __init__(self, journal: Journal, settings: DatabaseSettings) -> None:
        self._journal = journal
        self._settings = settings
        self._done: set[int] = set()
        self._lock = threading.Lock()

    def redrive_some(self, database: str, choice: random.Random) -> None:
        """Look for dead letters and redrive some; another client may be at the same ones."""
        try:
            with psycopg.connect(database, autocommit=True, connect_timeout=2) as connection:
                connection.execute("SET statement_timeout = '3s'")
                dead = ledger.read_dead(connection)
        except psycopg.Error:
            return
        self._redrive(database, choice.sample(dead, min(len(dead), 8)))

    def redrive_rest(self, database: str) -> None:
        """Redrive what is dead and was not told to be back."""
        with psycopg.connect(database, autocommit=True, connect_timeout=5) as connection:
            dead = ledger.read_dead(connection)
        with self._lock:
            rest = [one for one in dead if one[0] not in self._done]
        self._redrive(database, rest)

    def _redrive(self, database: str, dead: list[Dead]) -> None:
        if dead:
            asyncio.run(self._redrive_each(database, dead))

    async def _redrive_each(self, database: str, dead: list[Dead]) -> None:
        for job_id, died_at, op in dead:
            call = self._journal.invoke(f"{op}{REDRIVEN}", "redriven")
            try:
                async with await connect(database, name="client", settings=self._settings) as connection:
                    await redrive_job(connection, Registry(), job_id, died_at=died_at)
            except Conflict as error:
                self._journal.fail(call, str(error))
            except (psycopg.Error, AppError, OSError) as error:
                self._journal.unknown(call, f"{type(error).__name__}: {error}")
            else:
                self._journal.ok(call, job_id)
                with self._lock:
                    self._done.add(job_id)
