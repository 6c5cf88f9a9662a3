"""A migrated database for a test run, dropped at its end."""

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.config import CHECKOUT, load_settings
from app.database import embedded, migrate


@contextmanager
def fresh_database(server: str | None = None) -> Iterator[str]:
    """Make a database with the queue's tables, yield its address, drop it.

    `server` is the address of any database of a server whose role may create databases; without it DATABASE_URL
    counts, and without that the checkout's embedded server. Takes about a second: make one per run, and let each test
    work in a transaction that it rolls back. Raises what psycopg raises.
    """
    with ExitStack() as stack:
        address = server or load_settings().database_url or stack.enter_context(embedded.running(CHECKOUT))
        address = address.replace("postgresql+psycopg://", "postgresql://", 1)
        name = f"tandem_test_{os.getpid()}_{secrets.token_hex(4)}"
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name))
            )
            stack.callback(_drop, address, name)
        url = make_conninfo("", **{**conninfo_to_dict(address), "dbname": name})
        migrate.upgrade(url)
        yield url


def _drop(address: str, name: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
