"""`tandem cron`: schedules, when they fire next, and firing one by hand. What happens is in app/queue/schedules.py."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.cli.connected import ask, operator
from app.cli.output import Json, answer, pairs, show, table
from app.errors import InvalidInput

if TYPE_CHECKING:
    from app.queue.cron import Schedule

app = typer.Typer(
    no_args_is_help=True, help="Cron schedules: list, show, add, pause, resume, run, next, remove."
)

Name = Annotated[str, typer.Argument(metavar="SCHEDULE", help="The schedule's name.")]
LIST = {
    "name": "schedule",
    "cron": "cron",
    "timezone": "time zone",
    "kind": "kind",
    "queue": "queue",
    "next": "next tick",
    "last_tick_at": "last tick",
    "last_job_id": "its job",
    "last_status": "status",
    "source": "from",
}


def register(parent: typer.Typer) -> None:
    """Add this group to the command line."""
    parent.add_typer(app, name="cron")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the schedules with their next and last ticks; times are local to you.

    Example: tandem cron list
    """
    from app.queue import schedules

    rows = ask(schedules.list_schedules)
    shown = [
        row | {"next": f"paused by {row['paused_by']}" if row["paused_at"] else row["next_tick_at"]}
        for row in rows
    ]
    answer({"schedules": rows}, table(LIST, shown, empty="no schedules"), as_json=as_json)


@app.command("show")
def show_(schedule: Name, as_json: Json = False) -> None:
    """Show one schedule with its payload.

    Example: tandem cron show nightly
    """
    from app.queue import schedules

    row = ask(lambda connection: schedules.read_schedule(connection, schedule))
    answer(row, pairs(row), as_json=as_json)


@app.command()
def add(
    schedule: Name,
    cron: Annotated[
        str, typer.Argument(metavar="CRON", help="Five fields, or @hourly, @daily, @weekly, @monthly.")
    ],
    kind: Annotated[str, typer.Argument(metavar="KIND", help="The kind of its jobs.")],
    payload: Annotated[str, typer.Option(help="The jobs' payload, as JSON.")] = "{}",
    queue: Annotated[str, typer.Option(help="Where the jobs go.")] = "default",
    timezone: Annotated[str, typer.Option(help="Whose clock counts, like Europe/Berlin.")] = "UTC",
    priority: Annotated[int, typer.Option(min=0, max=9, help="The jobs' priority.")] = 5,
    key: Annotated[str | None, typer.Option(help="The jobs' partition key.")] = None,
    missed: Annotated[
        Literal["coalesce", "catch_up"],
        typer.Option(help="After an outage: one job for all missed ticks, or one for each."),
    ] = "coalesce",
    overlap: Annotated[
        bool, typer.Option(help="Whether a tick makes a job while an earlier one's has not ended.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Add a schedule, or change the one of that name. Its ticks begin now.

    Example: tandem cron add nightly "0 3 * * *" report --timezone Europe/Berlin
    """
    from app.queue import schedules

    made = _schedule(
        schedule,
        cron,
        kind,
        payload=_json(payload),
        queue=queue,
        timezone=timezone,
        priority=priority,
        partition_key=key,
        missed=missed,
        overlap=overlap,
    )
    row = ask(lambda connection: schedules.put_schedule(connection, made))
    answer(row, f"{schedule} fires next at {show(row['next_tick_at'])}", as_json=as_json)


@app.command()
def pause(
    schedule: Name,
    by: Annotated[str | None, typer.Option(help="Who pauses it; you, unless told otherwise.")] = None,
    as_json: Json = False,
) -> None:
    """Let a schedule fire no more. Ticks that pass meanwhile never fire.

    Example: tandem cron pause nightly
    """
    from app.queue import schedules

    row = ask(lambda connection: schedules.pause_schedule(connection, schedule, by=by or operator()))
    answer(row, f"{schedule} is paused since {show(row['paused_at'])} by {row['paused_by']}", as_json=as_json)


@app.command()
def resume(schedule: Name, as_json: Json = False) -> None:
    """Let a schedule fire again, from its next tick on.

    Example: tandem cron resume nightly
    """
    from app.queue import schedules

    row = ask(lambda connection: schedules.resume_schedule(connection, schedule))
    answer(row, f"{schedule} fires next at {show(row['next_tick_at'])}", as_json=as_json)


@app.command()
def run(schedule: Name, as_json: Json = False) -> None:
    """Make one job of a schedule now, also while it is paused; its ticks stay as they are.

    Example: tandem cron run nightly
    """
    from app.queue import schedules

    job = ask(lambda connection: schedules.run_schedule(connection, schedule))
    answer({"schedule": schedule, "job_id": job}, f"job {job}", as_json=as_json)


@app.command("next")
def next_(
    schedule: Name,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many ticks.")] = 5,
    as_json: Json = False,
) -> None:
    """Show when a schedule fires next; times are local to you, in JSON they are UTC.

    Example: tandem cron next nightly --count 10
    """
    from app.queue import schedules

    ticks = ask(lambda connection: schedules.coming_ticks(connection, schedule, count=count))
    answer({"schedule": schedule, "ticks": ticks}, "\n".join(show(tick) for tick in ticks), as_json=as_json)


@app.command()
def remove(schedule: Name, as_json: Json = False) -> None:
    """Remove a schedule; its jobs stay. One declared in code comes back with the next worker: pause that one.

    Example: tandem cron remove nightly
    """
    from app.queue import schedules

    ask(lambda connection: schedules.remove_schedule(connection, schedule))
    answer({"schedule": schedule, "removed": True}, f"{schedule} is removed", as_json=as_json)


def _schedule(name: str, cron: str, kind: str, **options: Any) -> "Schedule":
    from app.queue.cron import Schedule

    return Schedule(name, cron, kind, **options)


def _json(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput("invalid-payload", f"--payload is not JSON: {error}") from None
