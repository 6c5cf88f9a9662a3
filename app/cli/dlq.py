"""`tandem dlq`: dead letters: list, group by cause, show, redrive, purge. What happens is in app/queue."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.connected import act, ask, operator
from app.cli.jobs import JobId, Kind, Queue, tell
from app.cli.output import FAILED, Json, answer, confirm, progress, show, table
from app.cli.values import parse_age, parse_rate
from app.errors import AppError, Conflict

if TYPE_CHECKING:
    from app.database.deadline import BoundedAsyncConnection
    from app.queue.admin import Redriven
    from app.queue.kinds import Registry

app = typer.Typer(no_args_is_help=True, help="Dead letters: list, groups, show, redrive, purge.")

JobIds = Annotated[list[int] | None, typer.Argument(metavar="JOB", help="These dead letters alone.")]
Fingerprint = Annotated[
    str | None, typer.Option(help="Only failures of this fingerprint (`tandem dlq groups`).")
]
OlderThan = Annotated[
    timedelta | None,
    typer.Option(parser=parse_age, metavar="AGE", help="Only those that died so long ago: 90s, 12h, 7d."),
]
Everything = Annotated[bool, typer.Option("--all", help="All dead letters, when nothing narrows them down.")]
Limit = Annotated[int | None, typer.Option(min=1, help="So many at most, the oldest first.")]
Rate = Annotated[
    float | None, typer.Option(parser=parse_rate, metavar="RATE", help="At most so many: 10/s, 300/m.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many there are.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(parent: typer.Typer) -> None:
    """Add this group to the command line."""
    parent.add_typer(app, name="dlq")


@dataclass(frozen=True)
class Choice:
    """Which dead letters a command is about."""

    jobs: list[int]
    filters: dict[str, str | None]
    older_than: timedelta | None
    limit: int | None

    @classmethod
    def of(
        cls,
        jobs: list[int] | None,
        filters: dict[str, str | None],
        older_than: timedelta | None,
        everything: bool,
        limit: int | None,
    ) -> "Choice":
        """Raises BadParameter for nothing at all, which must not mean everything, and for ids with filters."""
        narrowed = any(filters.values()) or older_than is not None
        if jobs and (narrowed or everything or limit):
            raise typer.BadParameter("either ids, or filters")
        if not (jobs or narrowed or everything):
            raise typer.BadParameter("say which: ids, --queue, --kind, --fingerprint, --older-than, or --all")
        return cls(list(dict.fromkeys(jobs or [])), filters, older_than, limit)


@app.command("list")
def list_(
    queue: Queue = None,
    kind: Kind = None,
    fingerprint: Fingerprint = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:
    """List dead letters, the latest first.

    Example: tandem dlq list --queue mail
    """
    from app.queue import admin

    rows = ask(
        lambda connection: admin.list_dead_letters(
            connection, queue=queue, kind=kind, fingerprint=fingerprint, limit=limit
        )
    )
    columns = {
        "job_id": "job",
        "died_at": "died",
        "kind": "kind",
        "queue": "queue",
        "attempts": "tries",
        "error_class": "class",
        "fingerprint": "fingerprint",
        "why": "why",
    }
    shown = [row | {"why": show(row["reason"], most=80)} for row in rows]
    answer({"dead_letters": rows}, table(columns, shown, empty="no dead letters"), as_json=as_json)


@app.command()
def groups(queue: Queue = None, kind: Kind = None, as_json: Json = False) -> None:
    """Group dead letters by what went wrong and where, the largest group first, with the latest as example.

    Example: tandem dlq groups && tandem dlq redrive --fingerprint 1f2e3d4c5b6a7988 --rate 10/s
    """
    from app.queue.dead_letters import group_dead_letters

    rows = ask(lambda connection: group_dead_letters(connection, queue=queue, kind=kind))
    columns = {
        "fingerprint": "fingerprint",
        "jobs": "jobs",
        "error_class": "class",
        "first_died_at": "first",
        "last_died_at": "last",
        "example": "example",
        "kind": "kind",
        "why": "why",
    }
    shown = [row | {"why": show(row["reason"], most=80)} for row in rows]
    answer({"groups": rows}, table(columns, shown, empty="no dead letters"), as_json=as_json)


@app.command("show")
def show_(job: JobId, as_json: Json = False) -> None:
    """Show one dead letter with all its tries and their tracebacks.

    Example: tandem dlq show 17
    """
    from app.queue import admin

    found = ask(lambda connection: admin.read_job(connection, job))
    if found["status"] != "DEAD":
        raise Conflict(
            "not-dead", f"job {job} is {found['status']}, not a dead letter: tandem jobs show {job}"
        )
    answer(found, tell(found), as_json=as_json)


@app.command()
def redrive(
    jobs: JobIds = None,
    queue: Queue = None,
    kind: Kind = None,
    fingerprint: Fingerprint = None,
    older_than: OlderThan = None,
    everything: Everything = False,
    limit: Limit = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Make dead letters ready again, their tries counted from 0, the oldest first; asks before it does.

    Exit code 1 if one could not be redriven; the others are all the same.

    Example: tandem dlq redrive --fingerprint 1f2e3d4c5b6a7988 --rate 10/s
    """
    filters = {"queue": queue, "kind": kind, "fingerprint": fingerprint}
    choice = Choice.of(jobs, filters, older_than, everything, limit)
    count, until = ask(lambda connection: _count(connection, choice))
    if dry_run or (count == 0 and not jobs):
        answer({"count": count}, f"{_letters(count)} would be redriven", as_json=as_json)
        return
    count = len(choice.jobs) or count  # what is no dead letter is named with the failures
    confirm(f"Redrive {_letters(count)}?", yes=yes)
    with progress("redriving", count) as bar:

        async def do(connection: "BoundedAsyncConnection", registry: "Registry") -> "Redriven":
            from app.queue import admin

            if choice.jobs:
                return await _redrive_each(connection, registry, choice.jobs, rate, bar)
            return await admin.redrive_jobs(
                connection,
                registry,
                **choice.filters,
                until=until,
                limit=count,
                rate=rate,
                by=operator(),
                on_progress=lambda report: bar(len(report.jobs) + len(report.failed)),
            )

        report = act(do)
    left = count - len(report.jobs) - len(report.failed)
    lines = [f"{_letters(len(report.jobs))} redriven"]
    lines += [f"{job}: {show(why)}" for job, why in report.failed.items()]
    if left > 0:
        lines.append(f"{_letters(left)} left: no longer dead, or of a kind whose hook is not known here")
    facts = {"redriven": report.jobs, "failed": report.failed, "left": max(0, left)}
    answer(facts, "\n".join(lines), as_json=as_json)
    if report.failed:
        raise typer.Exit(FAILED)


@app.command()
def purge(
    jobs: JobIds = None,
    queue: Queue = None,
    kind: Kind = None,
    fingerprint: Fingerprint = None,
    older_than: OlderThan = None,
    everything: Everything = False,
    limit: Limit = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete dead letters for good, with their jobs and failed tries, the oldest first; asks before it does.

    Their unique keys stay, so that a repeat of the same request makes no second job. Exit code 1 if an id that was
    given is no dead letter.

    Example: tandem dlq purge --queue mail --older-than 7d --dry-run
    """
    from app.queue.dead_letters import purge_dead_letters

    filters = {"queue": queue, "kind": kind, "fingerprint": fingerprint}
    choice = Choice.of(jobs, filters, older_than, everything, limit)
    count, until = ask(lambda connection: _count(connection, choice))
    if dry_run or (count == 0 and not jobs):
        answer({"count": count}, f"{_letters(count)} would be purged", as_json=as_json)
        return
    confirm(f"Purge {_letters(count)} for good?", yes=yes)
    with progress("purging", count) as bar:
        purged = ask(
            lambda connection: purge_dead_letters(
                connection,
                **choice.filters,
                job_ids=choice.jobs or None,
                until=until,
                limit=count,
                rate=rate,
                by=operator(),
                on_progress=bar,
            )
        )
    missing = max(0, len(choice.jobs) - purged)
    text = f"{_letters(purged)} purged" + (f"; {missing} of the ids are none" if missing else "")
    answer({"purged": purged, "missing": missing}, text, as_json=as_json)
    if missing:
        raise typer.Exit(FAILED)


async def _count(connection: "BoundedAsyncConnection", choice: Choice) -> tuple[int, datetime]:
    """How many there are, and the moment up to which they must have died: what dies later is not touched."""
    from app.queue.admin_store import AdminStore
    from app.queue.dead_letters import count_dead_letters

    until = await AdminStore(connection).read_clock() - (choice.older_than or timedelta())
    count = await count_dead_letters(connection, **choice.filters, job_ids=choice.jobs or None, until=until)
    return min(count, choice.limit or count), until


async def _redrive_each(
    connection: "BoundedAsyncConnection",
    registry: "Registry",
    jobs: list[int],
    rate: float | None,
    bar: Any,
) -> "Redriven":
    from app.queue import admin
    from app.queue.pace import Pace

    report, pace = admin.Redriven(), Pace(rate)
    for number, job in enumerate(jobs, 1):
        try:
            await admin.redrive_job(connection, registry, job, by=operator())
            report.jobs.append(job)
        except AppError as error:
            report.failed[job] = error.message
        except Exception as error:  # its hook raised
            if connection.closed:
                raise
            report.failed[job] = f"{type(error).__name__}: {error}"
        bar(number)
        await pace.spent(1)
    return report


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"
