"""What Alembic runs for every command, on the connection that app.database.migrate hands over or its own."""

from alembic import context
from sqlalchemy import Connection

from app.config import load_settings
from app.database.engine import make_sync_engine
from app.database.location import database
from app.database.migrate import prepare


def run(connection: Connection) -> None:
    """Run the wanted migrations in the transaction of `connection`."""
    context.configure(connection=connection, version_table_schema="tandem", transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


def main() -> None:
    """Use the connection that was handed over; the alembic command opens one itself and commits it."""
    if context.is_offline_mode():
        raise SystemExit("there is no offline mode: the frozen text is in sql/migrations")
    given = context.config.attributes.get("connection")
    if given is not None:
        run(given)
        return
    settings = load_settings()
    with database(settings) as location:
        engine = make_sync_engine(location.url, name="alembic", settings=settings.database, pooled=False)
        with engine.begin() as connection:
            prepare(connection)
            run(connection)


main()
