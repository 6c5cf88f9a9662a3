"""Three real sweeper processes make up for missed ticks while they are killed at random: each tick makes one job."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

from app.config import CHECKOUT
from tests.support.membership import check_membership
from tests.support.waiting import eventually

pytestmark = pytest.mark.chaos
SCHEDULES = 6
MISSED = 700
BEHIND = """INSERT INTO tandem.schedule (name, cron, kind, missed, next_tick_at)
    SELECT 's' || n, '* * * * *', 'beat', 'catch_up', date_trunc('minute', tandem.clock()) - %s * interval '1 min'
    FROM generate_series(1, %s) AS n"""
COUNTS = """SELECT count(*), count(DISTINCT (context ->> 'schedule', context ->> 'tick')),
    (SELECT count(*) FROM tandem.schedule_tick), (SELECT min(next_tick_at) > tandem.clock() FROM tandem.schedule)
    FROM tandem.job"""


@contextmanager
def sweeper(url: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A `tandem sweep` that leads as soon as it can."""
    environment = {**os.environ, "DATABASE_URL": url, "TANDEM_SWEEPER__LEADER_LEASE_SECONDS": "0.3"}
    command = [sys.executable, "-m", "app.cli", "sweep", "--every", "0.1"]
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def test_ticks_are_exactly_once_under_random_kills(db_url: str, tmp_path: Path) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection, ExitStack() as stack:
        connection.execute(BEHIND, (MISSED, SCHEDULES))
        running = [stack.enter_context(sweeper(db_url, tmp_path / "log")) for _ in range(3)]
        kills = 0

        def progress() -> tuple[int, ...]:
            row = connection.execute(COUNTS).fetchone()
            assert row is not None
            return tuple(row)

        def reached(jobs: int) -> bool:
            return progress()[0] >= jobs

        for mark in range(1, 4):  # each time some more jobs are there, one of the three dies
            eventually(partial(reached, mark * 500), timeout=60)
            running.pop(random.randrange(len(running))).kill()
            kills += 1
            running.append(stack.enter_context(sweeper(db_url, tmp_path / "log")))
        eventually(lambda: progress()[3], timeout=90)
        jobs, distinct, ticks, _ = progress()
        assert kills == 3
        assert jobs == distinct == ticks, (tmp_path / "log").read_text()
        assert jobs >= SCHEDULES * (MISSED + 1)
    check_membership(db_url)
