"""`tandem up`: database, API, workers and sweeper on one machine, for trying and developing."""

from typing import Annotated

import typer

from app.config import CHECKOUT, load_settings

END_SECONDS = 30.0
"""What a process may take to end beyond its drain: flushing, handing back, closing."""


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
    from app.cli.processes import Child, keep_running
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
        children = [Child("api", ["api", *options])]
        children += [Child(f"worker {number}", ["worker"]) for number in range(1, workers + 1)]
        keep_running(children, grace=settings.worker.drain_seconds + END_SECONDS)
