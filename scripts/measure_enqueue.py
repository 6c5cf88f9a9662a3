"""How fast jobs are enqueued one by one, many at a time, and through COPY, side by side on a scratch database.

Usage: python -m scripts.measure_enqueue [--jobs 20000] [--rounds 5] [--server URL]; figures stand in docs/client.md.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import psycopg

from app.client import Job, enqueue, enqueue_copy, enqueue_many
from workers.testing import fresh_database

Way = Callable[[psycopg.Connection[Any], Sequence[Job]], None]
SINGLES = 2_000


def one_per_transaction(connection: psycopg.Connection[Any], jobs: Sequence[Job]) -> None:
    """A commit for each job."""
    for job in jobs[:SINGLES]:
        enqueue(connection, job)
        connection.commit()


def many(connection: psycopg.Connection[Any], jobs: Sequence[Job]) -> None:
    """A thousand per call, one transaction."""
    for start in range(0, len(jobs), 1_000):
        enqueue_many(connection, jobs[start : start + 1_000])
    connection.commit()


def copied(connection: psycopg.Connection[Any], jobs: Sequence[Job]) -> None:
    """All in one call."""
    enqueue_copy(connection, jobs)
    connection.commit()


WAYS: dict[str, Way] = {
    "enqueue, one per transaction": one_per_transaction,
    "enqueue_many, 1,000 per call": many,
    "enqueue_copy": copied,
}


def measure(url: str, count: int, rounds: int) -> dict[str, list[float]]:
    """Jobs per second of each way and round; the ways take turns, so that a busy machine is unfair to none."""
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    with psycopg.connect(url) as connection:
        for _ in range(rounds):
            for name, way in WAYS.items():
                jobs = [Job("measure", {"n": n, "t": 1.5, "pad": "x" * 70}) for n in range(count)]
                started = perf_counter()
                way(connection, jobs)
                seconds = perf_counter() - started
                rates[name].append((SINGLES if way is one_per_transaction else count) / seconds)
    return rates


def main() -> None:
    """Print one line per way: the median rate, its range, and its ratio to enqueue_many in the same run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--server", help="a PostgreSQL address; the embedded server otherwise")
    given = parser.parse_args()
    with fresh_database(given.server) as url:
        rates = measure(url, given.jobs, given.rounds)
    base = statistics.median(rates["enqueue_many, 1,000 per call"])
    print(f"{given.jobs} jobs with about 100 bytes of payload, {given.rounds} rounds")
    for name, found in rates.items():
        median = statistics.median(found)
        print(f"{name:30} {median:9,.0f}/s  ({min(found):,.0f} to {max(found):,.0f})  x {median / base:.2f}")


if __name__ == "__main__":
    main()
