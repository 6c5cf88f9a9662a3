"""A program that has the client and psycopg, and nothing else of ours: enqueue, roll back, commit, be refused."""

import importlib.util
import sys
from typing import Any

import psycopg
import tandem


def count(connection: psycopg.Connection[Any]) -> int:
    """How many jobs this connection sees."""
    row = connection.execute("SELECT count(*) FROM tandem.job").fetchone()
    assert row is not None
    return int(row[0])


def refusal(call: Any, *arguments: Any, **options: Any) -> str:
    """What the client says when it refuses."""
    try:
        call(*arguments, **options)
    except tandem.TandemError as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("it was not refused")


def main(url: str) -> None:
    """Print one line per fact; the test compares them."""
    others = ("app", "workers", "pydantic", "sqlalchemy", "asyncpg")
    print("present:", [name for name in others if importlib.util.find_spec(name)])
    with psycopg.connect(url) as connection:
        tandem.enqueue(connection, "mail.send", {"to": "a@example.org"})
        connection.rollback()
        print("rolled back:", count(connection))
        first = tandem.enqueue(connection, "mail.send", {"to": "b"}, unique=tandem.Unique("order-1"))
        again = tandem.enqueue(connection, "mail.send", {"to": "b"}, unique=tandem.Unique("order-1"))
        print("created:", first.created, again.created, first.job_id == again.job_id)
        tandem.enqueue_many(connection, [tandem.Job("mail.send", {"n": n}, queue="mail") for n in range(10)])
        tandem.enqueue_copy(connection, (tandem.Job("mail.send", {"n": n}) for n in range(100)))
        connection.commit()
        print("committed:", count(connection))
        print(refusal(tandem.enqueue, connection, "Mail"))
        print(refusal(tandem.enqueue, connection, "mail.send", {"x": float("nan")}))
        print(refusal(tandem.enqueue, connection, "mail.send", {"x": "y" * 300_000}))
        print(refusal(tandem.enqueue, connection, "mail.send", {"to": "c"}, unique=tandem.Unique("order-1")))
        print(refusal(tandem.enqueue, "a string", "mail.send"))
    print("imported:", [name for name in others if name in sys.modules])


if __name__ == "__main__":
    main(sys.argv[1])
