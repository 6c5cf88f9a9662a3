"""`tandem up`: database, API, workers and sweeper on one machine, for trying and developing."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from app.config import CHECKOUT, load_settings

if TYPE_CHECKING:
    import subprocess


def register(parent: typer.Typer) -> None:
    """Add this command to the command line."""
    parent.command()(up)


def up(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the API.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many worker processes.")] = 1,
) -> None:
    """Start API and workers, on the embedded PostgreSQL unless DATABASE_URL is set; bring the schema up to date first.

    A process that dies is started again. Ctrl-C stops everything; data stay under .tandem/.

    Example: tandem up --port 8080
    """
    from app.database import migrate
    from app.database.location import database
    from app.observability.logging import set_up_logging

    settings = load_settings()
    set_up_logging(settings.logging)
    with database(settings, root=CHECKOUT) as place:
        migrate.upgrade(place.url, settings=settings.database)
        address = f"http://{settings.api.host}:{port or settings.api.port}"
        typer.echo(f"API      {address}/docs")
        typer.echo('Database psql "$(scripts/tandem db url)"')
        typer.echo("Ctrl-C stops everything.")
        options = ["--port", str(port)] if port else []
        _watch([["api", *options], *(["worker"] for _ in range(workers))])


def _watch(commands: list[list[str]]) -> None:
    """Keep the processes alive until a signal, then end them in reverse order."""
    import signal
    import time

    from app.database.backoff import Backoff

    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: stopping.append(got))
    running = [_start(command) for command in commands]
    backoffs = [Backoff(0.5, 10.0) for _ in commands]
    try:
        while not stopping:
            time.sleep(0.2)
            for index, process in enumerate(running):
                if process.poll() is not None and not stopping:
                    name = commands[index][0]
                    typer.echo(f"{name} ended with code {process.returncode} and is started again", err=True)
                    time.sleep(backoffs[index].next())
                    running[index] = _start(commands[index])
    finally:
        for process in reversed(running):
            if process.poll() is None:
                process.terminate()
        for process in running:
            process.wait()


def _start(command: list[str]) -> "subprocess.Popen[bytes]":
    import subprocess

    # A session of its own: Ctrl-C reaches us alone, and we stop the processes in order.
    return subprocess.Popen([sys.executable, "-m", "app.cli", *command], cwd=CHECKOUT, start_new_session=True)
