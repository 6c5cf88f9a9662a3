"""`tandem limits`: what may run at once, and changing it while it runs. What happens is in app/queue/limits.py."""

from typing import Annotated

import typer

from app.cli.connected import ask
from app.cli.output import Json, answer, table
from app.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="Limits of managed queues: list, set, clear, resume.")

Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="global, kind:NAME, queue:NAME or key:QUEUE/KEY.")
]
LIST = {
    "target": "target",
    "max_running": "at most",
    "running": "running",
    "weight": "weight",
    "rate": "starts/s",
    "burst": "burst",
    "exempt": "exempt",
    "note": "note",
}


def register(parent: typer.Typer) -> None:
    """Add this group to the command line."""
    parent.add_typer(app, name="limits")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List every limit with what runs under it now; limits act in managed queues only.

    Example: tandem limits list
    """
    from app.queue import limits

    rows = ask(limits.list_limits)
    answer({"limits": rows}, table(LIST, rows, empty="no limits, no managed queue"), as_json=as_json)


@app.command("set")
def set_(
    target: Target,
    max_running: Annotated[
        int | None, typer.Option("--max", min=0, help="How many jobs run at once.")
    ] = None,
    weight: Annotated[float | None, typer.Option(help="A key's share, beside keys of weight 1.")] = None,
    rate: Annotated[float | None, typer.Option(help="How many jobs of a key start per second.")] = None,
    burst: Annotated[int | None, typer.Option(min=1, help="How many of them may start at once.")] = None,
    exempt: Annotated[
        bool | None, typer.Option("--exempt/--not-exempt", help="Whether a key passes the global limit.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Set a limit, in effect with the next admission; what you leave out stays as it is.

    A lowered limit drains: nothing that runs is ended.

    Example: tandem limits set key:reports/customer-7 --max 3 --weight 2
    """
    from app.queue import limits

    ask(
        lambda connection: limits.set_limit(
            connection,
            target,
            max_running=max_running,
            weight=weight,
            rate=rate,
            burst=burst,
            exempt=exempt,
        )
    )
    answer({"target": target}, f"{target} is set", as_json=as_json)


@app.command()
def clear(target: Target, as_json: Json = False) -> None:
    """Remove a limit, or all that a key has of its own.

    Example: tandem limits clear global
    """
    from app.queue import limits

    ask(lambda connection: limits.clear_limit(connection, target))
    answer({"target": target}, f"{target} has no limit of its own", as_json=as_json)


@app.command()
def resume(target: Target, as_json: Json = False) -> None:
    """Let a key of an ordered queue go on past the dead letter it stopped behind.

    Example: tandem limits resume key:accounts/customer-7
    """
    from app.queue import limits

    queue, slash, key = target.removeprefix("key:").partition("/")
    if not slash or not target.startswith("key:"):
        raise InvalidInput("invalid-limit", f"{target!r} is no key: say key:QUEUE/KEY")
    ask(lambda connection: limits.resume_key(connection, queue, key))
    answer({"target": target}, f"{target} goes on", as_json=as_json)
