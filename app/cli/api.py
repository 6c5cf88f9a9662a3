"""`tandem api`: the HTTP service, until SIGTERM or SIGINT."""

from typing import Annotated

import typer

from app.config import CHECKOUT, load_settings


def register(parent: typer.Typer) -> None:
    """Add this command to the command line."""
    parent.command()(api)


def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks one.")
    ] = None,
) -> None:
    """Serve the HTTP API; /docs describes it, /metrics and /health/ready watch it.

    Callers need an API key (`tandem keys create`) or a token; on the embedded database behind loopback they need none.

    Example: tandem api --port 8080
    """
    import uvicorn

    from app.api.auth import mode_of
    from app.api.server import bounded
    from app.database import durability, version
    from app.database.location import database
    from app.main import create_app
    from app.observability.logging import set_up_logging

    settings = load_settings()
    chosen = {"host": host or settings.api.host, "port": settings.api.port if port is None else port}
    settings = settings.model_copy(update={"api": settings.api.model_copy(update=chosen)})
    mode_of(settings)  # before a database is started for nothing
    set_up_logging(settings.logging)
    with database(settings, root=CHECKOUT) as place:
        durability.check(place.url, settings=settings.database)
        version.check(place.url, settings=settings.database)
        uvicorn.run(
            create_app(settings, url=place.url),
            host=settings.api.host,
            port=settings.api.port,
            log_config=None,
            access_log=False,
            http=bounded(settings.api),
            server_header=False,
            timeout_graceful_shutdown=int(settings.api.request_seconds) + 1,
        )
