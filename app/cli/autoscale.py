"""Adds and lets go worker processes as app/queue/scaling.py says; asks the database through one small connection."""

from collections.abc import Callable
from time import monotonic

import psycopg
import typer

from app.cli.processes import Child
from app.config import Settings
from app.database.connect import connect_sync
from app.database.deadline import BoundedConnection
from app.errors import AppError
from app.queue.scaling import Bounds, Demand, Scaler, measure_demand

LOOK_SECONDS = 2.0
PATIENCE_SECONDS = 2


class Autoscale:
    """Called at each look of keep_running; acts every LOOK_SECONDS. While the database is away nothing changes."""

    def __init__(self, settings: Settings, url: str, bounds: Bounds, make: Callable[[int], Child]) -> None:
        own = settings.worker
        self.scaler = Scaler(
            bounds,
            slots=own.slots,
            drain=own.scale_within_seconds,
            up=own.scale_up_seconds,
            down=own.scale_down_seconds,
        )
        self._queues = list(own.queues)
        self._make = make
        self._url = url
        patience = {"connect_timeout_seconds": PATIENCE_SECONDS, "call_timeout_seconds": PATIENCE_SECONDS}
        self._settings = settings.database.model_copy(update=patience)
        self._connection: BoundedConnection | None = None
        self._next = 0.0

    def __enter__(self) -> "Autoscale":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, children: list[Child]) -> None:
        """Add a child, or let one go, if it is time to."""
        now = monotonic()
        if now < self._next or (demand := self._ask()) is None:
            return
        self._next = now + LOOK_SECONDS
        staying = [child for child in children if not child.leaving]
        count = self.scaler.step(len(staying), demand, now)
        if count > len(staying):
            taken = {child.name for child in children}  # those that still drain have their ports
            number = next(n for n in range(1, len(taken) + 2) if f"worker {n}" not in taken)
            children.append(self._make(number))
        elif count < len(staying):
            staying[-1].let_go()
        if count != len(staying):
            typer.echo(f"{count} worker processes from now on, {len(staying)} before", err=True)

    def _ask(self) -> list[Demand] | None:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect_sync(self._url, name="autoscale", settings=self._settings)
            return measure_demand(self._connection, self._queues)
        except (psycopg.Error, AppError) as error:
            typer.echo(f"the backlog cannot be read: {str(error).partition(chr(10))[0]}", err=True)
            self._close()
            self._next = monotonic() + LOOK_SECONDS
            return None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
