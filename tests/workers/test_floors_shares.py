"""Which queues a worker looks at first: those that have less than their share, then by weight."""

import time
from typing import Any

import pytest

from app.queue.claim import FEW, LIVELY, Floors
from app.queue.job import ClaimedJob
from tests.workers.test_inbox import job

LOOKS = 400


def batch(**counts: int) -> list[ClaimedJob]:
    """A claim with that many jobs of each queue."""
    queues = [queue for queue, count in counts.items() for _ in range(count)]
    return [job(number, queue=queue) for number, queue in enumerate(queues)]


def firsts(floors: Floors) -> dict[str, Any]:
    """How often each queue is looked at first."""
    seen = [floors.in_turn()[0] for _ in range(LOOKS)]
    return {queue: seen.count(queue) for queue in floors.queues}


def test_a_flooded_queue_is_looked_at_after_the_others() -> None:
    floors = Floors({"flooded": 1, "quiet": 1})
    quiet = floors.learn(batch(flooded=199, quiet=1), 200)
    assert [one.queue for one in quiet] == ["quiet"]
    assert firsts(floors) == {"flooded": 0, "quiet": LOOKS}
    assert floors.batch(200) == 50, "the quiet queue waits for the claim under way"


def test_a_flood_is_claimed_in_halves_until_something_comes_in_the_other_queues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    floors = Floors({"flooded": 1, "quiet": 1})
    assert floors.batch(200) == 200
    floors.learn(batch(flooded=200), 200)
    assert floors.batch(200) == 100
    floors.learn(batch(flooded=99, quiet=1), 100)
    assert floors.batch(200) == 50
    assert floors.batch(60) == FEW, "fewer would tell nothing of shares"
    assert floors.batch(10) == 10
    monkeypatch.setattr("app.queue.claim.monotonic", lambda: time.monotonic() + LIVELY)
    assert floors.batch(200) == 100


def test_queues_that_are_all_flooded_share_by_weight() -> None:
    floors = Floors({"heavy": 3, "light": 1})
    floors.learn(batch(heavy=200), 200)
    floors.learn(batch(light=200), 200)
    assert floors.batch(200) == 200
    seen = firsts(floors)
    assert seen["light"] > 0
    assert seen["heavy"] > seen["light"]


def test_a_claim_that_was_not_full_ends_the_flood() -> None:
    floors = Floors({"flooded": 1, "quiet": 1})
    floors.learn(batch(flooded=200), 200)
    assert floors.learn(batch(flooded=30), 200) == []
    assert firsts(floors)["flooded"] > 0


def test_a_few_jobs_tell_nothing() -> None:
    floors = Floors({"flooded": 1, "quiet": 1})
    floors.learn(batch(flooded=FEW - 1), FEW - 1)
    assert firsts(floors)["flooded"] > 0
