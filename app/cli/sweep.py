"""`tandem sweep`: the periodic repairs, once for cron or for ever in a process of their own."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import Json, answer
from app.config import CHECKOUT, Settings, load_settings

if TYPE_CHECKING:
    from workers.sweeper.sweeper import StepReport

FAILED = 1
OTHER_LEADS = "another process leads the sweep; nothing to do"


def register(parent: typer.Typer) -> None:
    """Add this command to the command line."""
    parent.command()(sweep)


def sweep(
    once: Annotated[bool, typer.Option("--once", help="One pass, then exit: the form for cron.")] = False,
    every: Annotated[float | None, typer.Option(min=0.1, help="Seconds between two rescues.")] = None,
    as_json: Json = False,
) -> None:
    """Promote due jobs, rescue expired leases, move floors, mend events without a job, keep partitions.

    Every worker does this too when it leads; one leader works at a time. Exit code with --once: 0 done, or another
    process leads; 1 a step failed or the database is away (the others ran all the same).

    Example for cron: * * * * * tandem sweep --once --json >> /var/log/tandem-sweep.jsonl
    """
    import asyncio

    from app.database import version
    from app.database.location import database
    from app.observability.logging import set_up_logging

    settings = load_settings()
    if every is not None:
        settings = settings.model_copy(
            update={"sweeper": settings.sweeper.model_copy(update={"every_seconds": every})}
        )
    set_up_logging(settings.logging)
    with database(settings, root=CHECKOUT) as place:
        version.check(place.url, settings=settings.database)
        if not once:
            asyncio.run(_for_ever(settings, place.url))
            return
        reports = asyncio.run(_once(settings, place.url))
    _report(reports, as_json=as_json)
    if reports is not None and any(report.error for report in reports):
        raise typer.Exit(FAILED)


def _report(reports: "list[StepReport] | None", *, as_json: bool) -> None:
    if reports is None:
        answer({"leader": False, "ok": True, "steps": []}, OTHER_LEADS, as_json=as_json)
        return
    steps: list[dict[str, Any]] = [
        {
            "step": one.name,
            "moved": one.moved,
            "ms": round(one.seconds * 1000, 1),
            "error": one.error,
            **one.detail,
        }
        for one in reports
    ]
    lines = [
        f"{one.name:28} {one.moved:6} moved  {one.seconds * 1000:8.1f} ms  {one.error or ''}"
        for one in reports
    ]
    ok = not any(one.error for one in reports)
    answer(
        {"leader": True, "ok": ok, "steps": steps},
        "\n".join(line.rstrip() for line in lines),
        as_json=as_json,
    )


async def _once(settings: Settings, url: str) -> "list[StepReport] | None":
    import uuid

    from workers.sweeper.leader import Leadership
    from workers.sweeper.sweeper import sweep_once

    async with _steps(settings, url) as (steps, opener):
        leadership = Leadership(uuid.uuid4(), lease=settings.sweeper.leader_lease_seconds)
        return await sweep_once(steps, opener, leadership)


async def _for_ever(settings: Settings, url: str) -> None:
    import asyncio
    import signal

    from workers.sweeper.sweeper import Sweeper

    async with _steps(settings, url) as (steps, opener):
        sweeper = Sweeper(steps=steps, opener=opener, leader_lease=settings.sweeper.leader_lease_seconds)
        running = asyncio.ensure_future(sweeper.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, sweeper.ask_to_stop)
        await running


def _steps(settings: Settings, url: str) -> Any:
    from contextlib import asynccontextmanager

    from app.applications import make_registry
    from app.database.connect import connect
    from app.database.session_settings import idle_limit
    from app.database.sessions import Sessions
    from workers.sweeper.sweeper import all_steps
    from workers.wiring import make_reconcilers

    @asynccontextmanager
    async def opened() -> Any:
        async def opener() -> Any:
            limit = idle_limit(settings.database)
            return await connect(url, name="sweeper", settings=settings.database, session=limit)

        sessions = Sessions(url, name="sweeper", settings=settings.database)
        try:
            registry = make_registry(settings, sessions)
            yield all_steps(registry, make_reconcilers(settings), settings.sweeper), opener
        finally:
            await sessions.dispose()

    return opened()
