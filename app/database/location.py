"""Which database this process works on: DATABASE_URL if set, else the embedded server of the checkout."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.config import CHECKOUT, Settings
from app.database import embedded, transport


@dataclass(frozen=True)
class Location:
    """Where the database is. `listen_url` is the same address unless a pooler makes LISTEN go another way."""

    url: str
    listen_url: str
    embedded: bool


@contextmanager
def database(settings: Settings, *, root: Path = CHECKOUT) -> Iterator[Location]:
    """The database for the length of a block; starts the embedded server when DATABASE_URL is not set.

    Raises what `embedded.ensure_running` raises, and ConfigurationError for a weakly protected address. It opens no
    connection to a database of somebody else's.
    """
    if settings.database_url is not None:
        for url in (settings.database_url, settings.database_listen_url):
            if url is not None:
                transport.check(url, settings.database)
        yield Location(settings.database_url, settings.database_listen_url or settings.database_url, False)
        return
    with embedded.running(root, settings=settings.database.embedded_settings) as url:
        yield Location(url, settings.database_listen_url or url, True)
