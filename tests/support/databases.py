"""Databases for tests: one template made by the real migrations, and clones of it."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from app.database import migrate

_numbers = itertools.count(1)


def address(server: str, database: str) -> str:
    """The address of another database on the same server; `server` is a URL."""
    return urlunsplit(urlsplit(server)._replace(path=f"/{database}"))


def make_template(server: str) -> str:
    """Make the template with the real migrations; returns its name."""
    name = f"tandem_template_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name))
        )
    migrate.upgrade(address(server, name))
    with psycopg.connect(server, autocommit=True) as connection:
        # Nobody may connect: a connection to a template stops everybody from cloning it.
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
    return name


def drop(server: str, name: str) -> None:
    """Drop a database, whoever is connected to it."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def clone(server: str, template: str) -> Iterator[str]:
    """A fresh copy of the template for the length of a block; yields its address."""
    name = f"tandem_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    try:
        yield address(server, name)
    finally:
        drop(server, name)
