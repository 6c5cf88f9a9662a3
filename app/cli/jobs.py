"""`tandem jobs`: look at jobs, say why one does not run, retry and cancel. What happens is in app/queue/admin.py."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.cli.connected import act, ask, operator
from app.cli.output import FAILED, Json, answer, pairs, show, show_lines, table
from app.errors import AppError, NotFound

if TYPE_CHECKING:
    from app.queue.explain import Reason

app = typer.Typer(no_args_is_help=True, help="Jobs: list, show, explain, retry, cancel, tail.")

Status = Annotated[
    Literal["PENDING", "RUNNING", "SUCCEEDED", "DEAD", "CANCELLED"] | None,
    typer.Option(case_sensitive=False, help="Only jobs of this status."),
]
Kind = Annotated[str | None, typer.Option(help="Only jobs of this kind.")]
Queue = Annotated[str | None, typer.Option(help="Only jobs of this queue.")]
JobId = Annotated[int, typer.Argument(metavar="JOB", help="The job's id.")]
JobIds = Annotated[list[int], typer.Argument(metavar="JOB", help="The jobs' ids.")]
LIST = {
    "job_id": "job",
    "status": "status",
    "waiting_for": "waits for",
    "kind": "kind",
    "queue": "queue",
    "attempt": "try",
    "when": "since / until",
    "why": "why",
}


def register(parent: typer.Typer) -> None:
    """Add this group to the command line."""
    parent.add_typer(app, name="jobs")


@app.command("list")
def list_(
    status: Status = None,
    kind: Kind = None,
    queue: Queue = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    before: Annotated[int | None, typer.Option(help="Only ids below this one: the next page.")] = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first.

    Example: tandem jobs list --status DEAD --queue mail
    """
    from app.queue import admin

    rows = ask(
        lambda connection: admin.list_jobs(
            connection, status=status, kind=kind, queue=queue, limit=limit, before=before
        )
    )
    following = rows[-1]["job_id"] if len(rows) == limit else None
    text = table(LIST, [row | _moment(row) for row in rows], empty="no such jobs")
    if following is not None:
        text += f"\nmore: --before {following}"
    answer({"jobs": rows, "before": following}, text, as_json=as_json)


@app.command("show")
def show_(job: JobId, as_json: Json = False) -> None:
    """Show one job with its payload, its result, and its failed tries with their tracebacks.

    Example: tandem jobs show 17
    """
    from app.queue import admin

    found = ask(lambda connection: admin.read_job(connection, job))
    answer(found, tell(found), as_json=as_json)


@app.command()
def explain(job: JobId, as_json: Json = False) -> None:
    """Say why a job does not run, or how it ended; what matters most comes first.

    Example: tandem jobs explain 17
    """
    from dataclasses import asdict

    from app.queue.explain import UNKNOWN_JOB, explain_job

    reasons: Sequence[Reason] = ask(lambda connection: explain_job(connection, job))
    if reasons[0].code == UNKNOWN_JOB:
        raise NotFound("unknown-job", f"job {job}: {reasons[0].text}")
    rows = [asdict(reason) for reason in reasons]
    columns = {"code": "reason", "text": "in words", "since": "since", "until": "until"}
    answer({"job_id": job, "reasons": rows}, table(columns, rows, empty=""), as_json=as_json)


@app.command()
def eta(job: JobId, as_json: Json = False) -> None:
    """Say when a job is expected to start and to end: in 8 of 10 cases within the bounds. Local times.

    Example: tandem jobs eta 17
    """
    from app.queue.eta import job_eta

    found = ask(lambda connection: job_eta(connection, job))
    answer(found, pairs(found), as_json=as_json)


@app.command()
def retry(jobs: JobIds, as_json: Json = False) -> None:
    """Make dead letters ready again, their tries counted from 0. Exit code 1 if one of them could not be.

    Example: tandem jobs retry 17 18
    """
    from app.queue import admin

    async def redrive(connection: Any, registry: Any, job: int) -> str:
        await admin.redrive_job(connection, registry, job, by=operator())
        return "ready again"

    _each(jobs, redrive, as_json=as_json)


@app.command()
def cancel(
    jobs: JobIds,
    reason: Annotated[str | None, typer.Option(help="Why; kept with the job.")] = None,
    as_json: Json = False,
) -> None:
    """Cancel jobs: at once where they wait, by the worker's next heartbeat where they run.

    Exit code 1 if one of them has ended already, or is not there.

    Example: tandem jobs cancel 17 --reason "a duplicate"
    """
    from app.queue import admin

    async def stop(connection: Any, registry: Any, job: int) -> str:
        done = await admin.cancel_job(connection, registry, job, by=operator(), reason=reason)
        return "cancelled" if done == "CANCELLED" else "runs; its worker was asked to end it"

    _each(jobs, stop, as_json=as_json)


@app.command()
def tail(
    jobs: Annotated[list[int] | None, typer.Argument(metavar="JOB", help="Only these jobs.")] = None,
    kind: Kind = None,
    queue: Queue = None,
    every: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between two looks.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")] = False,
) -> None:
    """Print what happens to jobs, a line per change, until Ctrl-C: to the newest 200, or to those named.

    With ids it ends when they all have: exit code 0 if all succeeded, else 1.

    Example: tandem jobs tail 17 && echo done
    """
    from app.cli.tail import follow

    if jobs and (kind or queue):
        raise typer.BadParameter("either ids, or --kind and --queue")
    try:
        good = ask(
            lambda connection: follow(
                connection, jobs or [], kind=kind, queue=queue, every=every, as_json=as_json
            )
        )
    except KeyboardInterrupt:
        return
    if not good:
        raise typer.Exit(FAILED)


def tell(job: dict[str, Any]) -> str:
    """One job for people: its facts, then its failed tries."""
    attempts = job["attempts"]
    facts = {name: value for name, value in job.items() if name != "attempts"}
    facts["worker"] = facts.pop("worker_name") or facts["worker"]
    lines = [pairs(facts)]
    for one in attempts:
        worker = one["worker_name"] or one["worker"] or "unknown worker"
        lines.append(
            f"\ntry {one['attempt']}: {one['verdict']}, {one['error_class']}, {show(one['finished_at'])}, {worker}"
        )
        lines.append(show_lines(one["traceback"] or one["message"] or ""))
    return "\n".join(lines)


def _moment(row: dict[str, Any]) -> dict[str, Any]:
    moment = row["next_attempt_at"] or row["finished_at"] or row["started_at"]
    why = ": ".join(part for part in (row["error_class"], row["reason"]) if part)
    return {"when": moment, "why": show(why, most=60)}


def _each(jobs: list[int], action: Any, *, as_json: bool) -> None:
    """Do the same to each job, report each, and fail if one failed."""

    async def all_of_them(connection: Any, registry: Any) -> list[dict[str, Any]]:
        done: list[dict[str, Any]] = []
        for job in dict.fromkeys(jobs):
            try:
                done.append({"job_id": job, "ok": True, "answer": await action(connection, registry, job)})
            except AppError as error:
                done.append({"job_id": job, "ok": False, "answer": error.message, "code": error.code})
            except Exception as error:  # its hook raised
                if connection.closed:
                    raise
                why = f"{type(error).__name__}: {error}"
                done.append({"job_id": job, "ok": False, "answer": why, "code": "hook-failed"})
        return done

    done = act(all_of_them)
    text = "\n".join(f"{one['job_id']}: {show(one['answer'])}" for one in done)
    answer({"jobs": done}, text, as_json=as_json)
    if not all(one["ok"] for one in done):
        raise typer.Exit(FAILED)
