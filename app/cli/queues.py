"""`tandem queues`: what waits where, and pausing. What happens is in app/queue/admin.py."""

from datetime import timedelta
from typing import Annotated, Any, Literal

import typer

from app.cli.connected import ask, operator
from app.cli.output import Json, answer, pairs, show, show_duration, table
from app.cli.values import parse_age

app = typer.Typer(no_args_is_help=True, help="Queues: list, pause, resume, manage, age, eta.")

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue's name.")]
LIST = {
    "queue": "queue",
    "ready": "ready",
    "waits": "oldest waits",
    "scheduled": "scheduled",
    "next_due": "next due",
    "blocked": "blocked",
    "running": "running",
    "dead_24h": "dead in 24 h",
    "paused": "paused",
}


def register(parent: typer.Typer) -> None:
    """Add this group to the command line."""
    parent.add_typer(app, name="queues")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the queues with what waits in them, since when, what runs, what died, and which are paused.

    Example: tandem queues list
    """
    from app.queue import admin
    from app.queue.admin_store import AdminStore

    async def look(connection: Any) -> tuple[list[dict[str, Any]], Any]:
        return await admin.list_queues(connection), await AdminStore(connection).read_clock()

    rows, now = ask(look)
    shown = [row | _words(row, now) for row in rows]
    answer({"queues": rows}, table(LIST, shown, empty="no queues yet"), as_json=as_json)


@app.command()
def pause(
    queue: Name,
    by: Annotated[str | None, typer.Option(help="Who pauses it; you, unless told otherwise.")] = None,
    as_json: Json = False,
) -> None:
    """Let workers claim nothing more from a queue; jobs that run go on.

    Example: tandem queues pause mail
    """
    from app.queue import admin

    row = ask(lambda connection: admin.pause_queue(connection, queue, by=by or operator()))
    answer(row, f"{queue} is paused since {show(row['paused_at'])} by {row['paused_by']}", as_json=as_json)


@app.command()
def resume(queue: Name, as_json: Json = False) -> None:
    """Let workers claim from a queue again, and wake them.

    Example: tandem queues resume mail
    """
    from app.queue import admin

    row = ask(lambda connection: admin.resume_queue(connection, queue))
    answer(row, f"{queue} is not paused", as_json=as_json)


@app.command()
def manage(
    queue: Name,
    ordered: Annotated[bool, typer.Option("--ordered", help="One job of a key at a time, in order.")] = False,
    dead_head: Annotated[
        Literal["skip", "block"], typer.Option(help="Ordered: pass a dead letter, or stop its key.")
    ] = "skip",
    key_limit: Annotated[int | None, typer.Option(min=0, help="How many jobs of a key run at once.")] = None,
    key_rate: Annotated[float | None, typer.Option(help="How many jobs of a key start per second.")] = None,
    key_burst: Annotated[int, typer.Option(min=1, help="How many of them may start at once.")] = 1,
    rank_keys: Annotated[
        bool, typer.Option("--rank-keys", help="The key with the best priority comes first.")
    ] = False,
    off: Annotated[bool, typer.Option("--off", help="Make it a plain queue again.")] = False,
    as_json: Json = False,
) -> None:
    """Manage a queue: limits, order and fair shares between its partition keys. All settings at once.

    Example: tandem queues manage reports --key-limit 2
    """
    from app.queue import limits

    if off:
        moved = ask(lambda connection: limits.release_queue(connection, queue))
    else:
        moved = ask(
            lambda connection: limits.manage_queue(
                connection,
                queue,
                ordered=ordered,
                dead_head=dead_head,
                key_limit=key_limit,
                key_rate=key_rate,
                key_burst=key_burst,
                rank_keys=rank_keys,
            )
        )
    text = f"{queue} is {'a plain queue' if off else 'managed'}; {moved} waiting jobs moved"
    answer({"queue": queue, "managed": not off, "moved": moved}, text, as_json=as_json)


@app.command()
def age(
    queue: Name,
    after: Annotated[
        timedelta | None,
        typer.Option(parser=parse_age, metavar="AGE", help="After how long a wait it rises: 90s, 10m, 2h."),
    ] = None,
    step: Annotated[int, typer.Option(min=0, max=9, help="By how much each time; 0: not at all.")] = 1,
    most: Annotated[int, typer.Option(min=0, max=9, help="The priority at which it ends.")] = 9,
    off: Annotated[
        bool, typer.Option("--off", help="Forget this setting: what the code says counts.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let the priority of waiting jobs rise, again and again, so that none waits for ever behind higher ones.

    Example: tandem queues age reports --after 10m --step 1 --most 9
    """
    from app.queue.priority import Ageing, age_queue

    if (after is None) != off:
        raise typer.BadParameter("say either --after or --off")
    ageing = None if after is None else Ageing(after.total_seconds(), step, most)
    row = ask(lambda connection: age_queue(connection, queue, ageing))
    rises = (
        f"rise by {step} each {show_duration(row['after'])}, at most to {most}"
        if ageing
        else "age as the code says"
    )
    answer(row, f"{queue}: waiting jobs {rises}", as_json=as_json)


@app.command()
def eta(queue: Name, as_json: Json = False) -> None:
    """Say when what waits in a queue now will have been started: in 8 of 10 cases within the bounds. Local times.

    Example: tandem queues eta mail
    """
    from app.queue.eta import queue_eta

    found = ask(lambda connection: queue_eta(connection, queue))
    answer(found, pairs(found), as_json=as_json)


def _words(row: dict[str, Any], now: Any) -> dict[str, Any]:
    oldest = row["oldest_ready_at"]
    paused = f"since {show(row['paused_at'])} by {row['paused_by'] or 'somebody'}" if row["paused_at"] else ""
    return {"waits": show_duration((now - oldest).total_seconds()) if oldest else "", "paused": paused}
