"""The back end of docs/tutorial.md: an order and its jobs in one transaction. `python order.py URL NUMBER TOTAL`."""

import sys

import psycopg

from app.queue.enqueue import enqueue_many
from app.queue.job import NewJob


def order(url: str, number: int, total: int) -> list[int]:
    """Write the order and enqueue its three jobs; both are committed, or neither."""
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO orders (id, total) VALUES (%s, %s)", (number, total))
        kinds = ("send-receipt", "print-label", "book-order")
        return [
            one.job_id
            for one in enqueue_many(connection, [NewJob(kind, {"order": number}) for kind in kinds])
        ]


if __name__ == "__main__":
    print(order(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))  # noqa: T201 - it is a command
