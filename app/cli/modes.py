"""`tandem modes`: polling against listening, from what the workers of each mode really did."""

import typer

from app.cli.output import Json, answer
from app.config import CHECKOUT, load_settings


def register(parent: typer.Typer) -> None:
    """Add this command to the command line."""
    parent.command()(modes)


def modes(as_json: Json = False) -> None:
    """Compare how long jobs waited with workers in mode poll, listen and hybrid: the report for a migration.

    Run workers of both modes side by side on the same queue, then compare. The same by SQL:
    psql -f sql/inspect/worker_modes.sql

    Example: tandem worker --mode poll & tandem worker --mode listen & sleep 3600; tandem modes
    """
    from psycopg.rows import dict_row

    from app.database.connect import connect_sync
    from app.database.location import database

    settings = load_settings()
    with (
        database(settings, root=CHECKOUT) as place,
        connect_sync(place.url, name="cli", settings=settings.database) as connection,
    ):
        query = (CHECKOUT / "sql" / "inspect" / "worker_modes.sql").read_bytes()
        rows = connection.cursor(row_factory=dict_row).execute(query).fetchall()
    answer({"modes": rows}, _table(rows), as_json=as_json)


def _table(rows: list[dict[str, object]]) -> str:
    if not rows:
        return "no finished jobs yet: run workers of the modes to compare, and let them work for a while"
    names = list(rows[0])
    widths = [max(len(name), *(len(str(row[name])) for row in rows)) for name in names]
    heads: dict[str, object] = {name: name for name in names}
    return "\n".join(
        "  ".join(str(row[name]).rjust(width) for name, width in zip(names, widths, strict=True))
        for row in (heads, *rows)
    )
