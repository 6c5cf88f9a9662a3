"""A worker with a bug planted on purpose, to see that the rig finds it: `-m scripts.chaos_rig.planted BUG worker ...`

Statements are changed in a copy for this process; what the database itself runs is changed in the private server.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from app.cli.main import main
from app.config import CHECKOUT
from app.queue import store

BUGS: dict[str, dict[str, tuple[str, str]]] = {
    "no-fence": {
        "sql/queries/lease/fence_lease.sql": (" AND l.token = %(token)s", ""),
        "sql/queries/finish/finish_jobs.sql": (" AND l.token = i.token", ""),
        "sql/functions/finish_leases.sql": (" AND l.token = i.token", ""),
    },
}
"""By name: what is said instead in which file. `no-fence`: a try that lost its lease takes effect all the same."""


def planted(bug: str, file: str) -> str:
    """The file's text with the bug in it. Raises ValueError when the place is not there any more."""
    text, (right, wrong) = (CHECKOUT / file).read_text(), BUGS[bug][file]
    if right not in text:
        raise ValueError(f"{file} does not say {right!r}: plant {bug} somewhere else")
    return text.replace(right, wrong)


def plant_functions(connection: psycopg.Connection[Any], bug: str) -> None:
    """The part of the bug that is in the database's functions."""
    for file in BUGS[bug]:
        if file.startswith("sql/functions/"):
            connection.execute(planted(bug, file).encode())


@contextmanager
def planted_queries(bug: str) -> Iterator[None]:
    """Have this process read its statements from a copy with the bug."""
    with tempfile.TemporaryDirectory(prefix="tandem-planted-") as place:
        copy = Path(place) / "queries"
        shutil.copytree(store.QUERIES, copy)
        for file in BUGS[bug]:
            if file.startswith("sql/queries/"):
                (copy / Path(file).relative_to("sql/queries")).write_text(planted(bug, file))
        right, store.QUERIES = store.QUERIES, copy
        store.statement.cache_clear()
        try:
            yield
        finally:
            store.QUERIES = right
            store.statement.cache_clear()


if __name__ == "__main__":
    with planted_queries(sys.argv.pop(1)):
        main()
