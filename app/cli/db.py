"""`tandem db`: the database and its schema. The embedded server is started when needed, stopped when not."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.output import Json, answer
from app.config import CHECKOUT, load_settings
from app.errors import ConfigurationError, NotFound

if TYPE_CHECKING:
    from app.config import DatabaseSettings

app = typer.Typer(
    no_args_is_help=True,
    help="The database: its schema, its address, the embedded server.",
)


def register(parent: typer.Typer) -> None:
    """Add this group to the command line."""
    parent.add_typer(app, name="db")


@app.command()
def upgrade(as_json: Json = False) -> None:
    """Bring the schema to this code's version. Safe to repeat, and from several processes at once.

    Example: DATABASE_URL=postgresql://me@db/app?sslmode=verify-full tandem db upgrade
    """
    from app.database import migrate
    from app.database.location import database

    settings = load_settings()
    with database(settings, root=CHECKOUT) as place:
        before = migrate.current(place.url, settings=settings.database)
        after = migrate.upgrade(place.url, settings=settings.database)
        _arrange(place.url, settings.database, only_if_in_use=True)
    changed = before != after
    text = f"upgraded from {before or 'an empty database'} to {after}" if changed else f"already at {after}"
    answer({"before": before, "after": after, "changed": changed}, text, as_json=as_json)


@app.command()
def roles(as_json: Json = False) -> None:
    """Make the least-privilege roles of docs/roles.md and their grants; as a superuser the first time. Safe to repeat.

    The roles have no login of their own: CREATE ROLE me LOGIN PASSWORD '...' IN ROLE tandem_worker. Upgrades keep the
    grants up to date.

    Example: DATABASE_URL=postgresql://postgres@db/app?sslmode=verify-full tandem db roles
    """
    from app.database.location import database

    settings = load_settings()
    with database(settings, root=CHECKOUT) as place:
        made, grants = _arrange(place.url, settings.database)
    text = f"{grants} grants as docs/roles.md says; " + (
        f"made {', '.join(made)}" if made else "every role was there"
    )
    answer({"made": made, "grants": grants}, text, as_json=as_json)


def _arrange(
    url: str, settings: "DatabaseSettings", *, only_if_in_use: bool = False
) -> tuple[list[str], int]:
    """Apply the policy of roles; which roles were made, and how many grants there are."""
    from app.database import roles as policy
    from app.database import version
    from app.database.connect import connect_sync

    with connect_sync(url, name="roles", autocommit=False, settings=settings) as connection:
        if only_if_in_use and not policy.in_use(connection):
            return [], 0
        if version.read(connection) is None:
            raise ConfigurationError("schema-missing", "the database is empty: run `tandem db upgrade` first")
        made = policy.apply(connection)
        count = len(policy.actual(connection))
        connection.commit()
    return made, count


@app.command()
def check(as_json: Json = False) -> None:
    """Say whether the schema fits this code; exit code 1 when it is missing, older or newer.

    Example: tandem db check && tandem worker
    """
    from app.database import version
    from app.database.location import database

    settings = load_settings()
    with database(settings, root=CHECKOUT) as place:
        try:
            found = version.check(place.url, settings=settings.database)
        except ConfigurationError as error:
            answer(
                {"ok": False, "code": error.code} | error.detail,
                f"not ready: {error.message}",
                as_json=as_json,
            )
            raise typer.Exit(1) from None
    answer({"ok": True, "version": found}, f"ok: the schema is at {found}", as_json=as_json)


@app.command()
def current(as_json: Json = False) -> None:
    """Show the schema's version, the newest that this code knows, and the server's version.

    Example: tandem db current --json
    """
    from app.database import version
    from app.database.connect import connect_sync
    from app.database.location import database

    settings = load_settings()
    with (
        database(settings, root=CHECKOUT) as place,
        connect_sync(place.url, name="cli", settings=settings.database) as connection,
    ):
        found = version.read(connection)
        server = connection.info.parameter_status("server_version")
    facts = {"version": found, "newest": version.known()[-1], "server": server, "embedded": place.embedded}
    text = f"schema {found or 'none'} (this code: {facts['newest']}) on PostgreSQL {server}"
    answer(facts, text, as_json=as_json)


@app.command()
def url(
    tcp: Annotated[bool, typer.Option("--tcp", help="The loopback address with its password.")] = False,
    as_json: Json = False,
) -> None:
    """Print the address of the database, for psql and other programs.

    Example: psql "$(tandem db url)" -c "SELECT * FROM tandem.job_status LIMIT 5"
    """
    from app.database import embedded

    settings = load_settings()
    if settings.database_url is not None:
        answer({"url": settings.database_url, "embedded": False}, settings.database_url, as_json=as_json)
        return
    found = embedded.find(CHECKOUT)
    if found is None:
        raise NotFound(
            "server-not-running", "the embedded server does not run: start it with `tandem db start`"
        )
    cluster, postmaster = found
    address = cluster.url(postmaster, tcp=tcp)
    answer({"url": address, "embedded": True, "pid": postmaster.pid}, address, as_json=as_json)


@app.command()
def start(as_json: Json = False) -> None:
    """Start the embedded server and leave it running until `tandem db stop`.

    Example: tandem db start
    """
    from app.database import embedded

    _embedded_only()
    with embedded.running(CHECKOUT, settings=load_settings().database.embedded_settings) as address:
        embedded.keep(CHECKOUT)
    answer({"url": address}, f"running at {address}", as_json=as_json)


@app.command()
def stop(
    force: Annotated[bool, typer.Option("--force", help="Even while other processes use it.")] = False,
    as_json: Json = False,
) -> None:
    """Stop the embedded server. Its data stay under .tandem/.

    Example: tandem db stop
    """
    from app.database import embedded

    _embedded_only()
    stopped = embedded.stop(CHECKOUT, force=force)
    answer({"stopped": stopped}, "stopped" if stopped else "was not running", as_json=as_json)


def _embedded_only() -> None:
    if load_settings().database_url is not None:
        raise ConfigurationError(
            "not-embedded", "DATABASE_URL is set: that server is not ours to start or stop"
        )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context) -> None:
    """Open psql on the database; what follows is psql's. Uses the psql on the PATH, else the embedded server's.

    Example: tandem db psql -f sql/inspect/queue_depth.sql
    """
    import os
    import shutil

    from app.database import embedded

    settings = load_settings()
    address = settings.database_url
    if address is None:
        found = embedded.find(CHECKOUT)
        if found is None:
            raise NotFound(
                "server-not-running", "the embedded server does not run: start it with `tandem db start`"
            )
        address = found[0].url(found[1])
    program = shutil.which("psql") or str(embedded.embedded_programs() / "psql")
    os.execv(program, [program, address, *context.args])  # noqa: S606 - no shell is wanted
