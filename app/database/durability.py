"""Does the server keep what it commits? Processes that acknowledge work ask at their start. Reads only.

The tables of the queue must be logged, apart from the one that is empty between transactions.
"""

from app.config import DatabaseSettings
from app.database.connect import connect_sync
from app.errors import ConfigurationError

WAY_OUT = "TANDEM_DATABASE__ALLOW_DATA_LOSS=true starts all the same, for servers whose data nobody needs"
_SETTINGS = """
    SELECT name || ' is ' || setting FROM pg_settings
     WHERE (name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off') ORDER BY name
"""
_UNLOGGED = """
    SELECT format('%I.%I is UNLOGGED', n.nspname, c.relname) FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = 'tandem' AND c.relkind = 'r' AND c.relpersistence = 'u' AND c.relname <> 'wake_request'
     ORDER BY 1
"""


def check(url: str, *, settings: DatabaseSettings | None = None) -> None:
    """Raise ConfigurationError (unsafe-server) when a crash of the server could lose what it acknowledged."""
    settings = settings or DatabaseSettings()
    if settings.allow_data_loss:
        return
    with connect_sync(url, name="durability", settings=settings) as connection:
        found = [
            row[0] for question in (_SETTINGS, _UNLOGGED) for row in connection.execute(question.encode())
        ]
    if found:
        raise ConfigurationError(
            "unsafe-server",
            f"this server may lose what it has acknowledged: {', '.join(found)}. Turn the settings on "
            f"(ALTER SYSTEM, ALTER ROLE), ALTER TABLE ... SET LOGGED; {WAY_OUT}",
            detail={"found": found},
        )
