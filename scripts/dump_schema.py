"""Writes sql/schema.sql: what `upgrade head` makes of an empty database, told by pg_dump, free of versions.

Usage: .venv/bin/python -m scripts.dump_schema   (a test compares the file with the migrations)
"""

import re
import subprocess
import sys
from pathlib import Path

import psycopg

from app.config import CHECKOUT
from app.database import embedded, migrate

SCHEMA = CHECKOUT / "sql" / "schema.sql"
HEADER = """\
-- The whole schema after the last migration. Made by `python -m scripts.dump_schema`; never edited by hand.
SET check_function_bodies = false;  -- functions come before the tables that they name
"""
# What differs between releases of pg_dump or from run to run, and says nothing about the schema.
NOISE = re.compile(r"^(--.*|SET .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict .*)$")


def dump(url: str, programs: Path) -> str:
    """The normalised schema of the database at `url`."""
    told = subprocess.run(
        [programs / "pg_dump", "--schema-only", "--no-owner", "--dbname", url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return normalise(told)


def normalise(dumped: str) -> str:
    """Without comments, session settings and runs of empty lines."""
    kept = "\n".join(line.rstrip() for line in dumped.splitlines() if not NOISE.match(line))
    return HEADER + "\n" + re.sub(r"\n{3,}", "\n\n", kept).strip() + "\n"


def main() -> None:
    """Migrate a scratch database on the checkout's embedded server, dump it, drop it."""
    with embedded.running(CHECKOUT) as url:
        found = embedded.find(CHECKOUT)
        if found is None:
            raise SystemExit("the embedded server was stopped meanwhile: try again")
        cluster, postmaster = found
        scratch = cluster.url(postmaster, database="tandem_dump")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS tandem_dump WITH (FORCE)")
            connection.execute("CREATE DATABASE tandem_dump TEMPLATE template0")
            try:
                migrate.upgrade(scratch)
                SCHEMA.write_text(dump(scratch, embedded.embedded_programs()))
            finally:
                connection.execute("DROP DATABASE tandem_dump WITH (FORCE)")
    sys.stdout.write(f"wrote {SCHEMA.relative_to(CHECKOUT)}\n")


if __name__ == "__main__":
    main()
