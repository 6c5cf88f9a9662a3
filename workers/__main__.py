"""`python -m workers`: one worker process, all from the environment; `tandem worker` has options beside it."""

import asyncio


def main() -> None:
    """Run a worker until SIGTERM or SIGINT."""
    from app.config import load_settings
    from app.database import durability, version
    from app.database.location import database
    from app.observability.logging import set_up_logging
    from workers.wiring import run_worker

    settings = load_settings()
    set_up_logging(settings.logging)
    with database(settings) as place:
        durability.check(place.url, settings=settings.database)
        version.check(place.url, settings=settings.database)
        asyncio.run(run_worker(settings, place.url))


if __name__ == "__main__":
    main()
