"""What the database says about a run, and what is wrong with it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psycopg

from scripts.floor_rig.producers import Book

BELOW = """
    SELECT 'job ' || r.job_id, r.pos, f.floor FROM tandem.ready AS r
    JOIN tandem.lane_floor AS f ON f.queue = r.queue AND f.priority = r.priority AND f.floor > r.pos
    UNION ALL
    SELECT 'key ' || t.partition_key, t.pos, f.floor FROM tandem.touch AS t
    JOIN tandem.lane_floor AS f ON f.queue = t.queue AND f.priority = -1 AND f.floor > t.pos LIMIT 20"""
FLOOR = "SELECT coalesce(sum(floor), 0)::bigint FROM tandem.lane_floor"
ENDED = "SELECT job_id, outcome FROM tandem.done"
TRIES = "SELECT job_id, verdict, count(*) FROM tandem.attempt GROUP BY 1, 2"
OPEN = """
    SELECT (SELECT count(*) FROM tandem.ready), (SELECT count(*) FROM tandem.scheduled),
           (SELECT count(*) FROM tandem.blocked), (SELECT count(*) FROM tandem.lease)"""


@dataclass
class Seen:
    """What was noticed while it ran."""

    runs: Counter[int] = field(default_factory=Counter)
    started: dict[int, float] = field(default_factory=dict)
    """The moment (monotonic) of each job's first try."""
    below: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Jobs, and touches of keys, that were seen below the floor of their lane: (position, floor)."""
    moves: int = 0
    """How often the sum of the floors was another than at the look before."""
    swept: Counter[str] = field(default_factory=Counter)
    probed: int = 0
    restarts: int = 0


def judge(book: Book, seen: Seen, connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """Broken promises by name; every list empty is what is wanted."""
    ended = dict(connection.execute(ENDED).fetchall())
    tries: Counter[int] = Counter()
    for job, _, count in connection.execute(TRIES).fetchall():
        tries[job] += count
    expected = {job: 1 + tries[job] for job in book.committed}
    return {
        "lost": [
            f"job {job}: {ended.get(job, 'waits')}" for job in book.committed if ended.get(job) != "SUCCEEDED"
        ],
        "doubled": [
            f"job {job}: {seen.runs[job]} runs" for job in book.committed if seen.runs[job] > expected[job]
        ],
        "ghosts": [
            f"job {job} ran, but was never committed" for job in book.gone if seen.runs[job] or job in ended
        ],
        "below_floor": [f"{what}: position {at}, floor {floor}" for what, (at, floor) in seen.below.items()],
        "flaky_not_retried": [f"job {job}" for job in book.flaky if job in ended and seen.runs[job] < 2],
    }


def pickups(book: Book, seen: Seen) -> dict[str, float]:
    """From the return of COMMIT to the start of the first try, of jobs for now in queues without limits."""
    waits = sorted(
        max(0.0, seen.started[job] - book.committed[job]) * 1000 for job in book.prompt & seen.started.keys()
    )
    if not waits:
        return {}
    at = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {
        f"pickup_{name}_ms": round(waits[min(len(waits) - 1, int(share * len(waits)))], 1)
        for name, share in at.items()
    }
