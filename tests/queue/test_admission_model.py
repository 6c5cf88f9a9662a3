"""Admission against a plain model: random enqueues, admissions, ends, rescues, pauses and changes of limits.

After each step the rows obey every limit, and an admission that had room took all that the model allows.
"""

import random
from typing import Any

import pytest

from app.database.deadline import BoundedAsyncConnection
from app.queue.admission_store import AdmissionStore
from app.queue.job import ClaimedJob
from tests.support.admission import admit, finish, limit, manage
from tests.support.claims import add, pairs, worker_connection
from tests.support.membership import assert_membership_async

KEYS = "abcd"
STEPS = 60
PAUSE = "UPDATE tandem.queue SET paused_at = CASE WHEN %s THEN now() END"


class Model:
    """What waits and runs by key, and the limits as they were set."""

    def __init__(self, *, ordered: bool) -> None:
        self.ordered = ordered
        self.waiting: dict[str, list[int]] = {key: [] for key in KEYS}
        self.running: dict[str, list[ClaimedJob]] = {key: [] for key in KEYS}
        self.key_limits: dict[str, int] = {}
        self.queue_limit = self.global_limit = 100
        self.paused = False

    def key_room(self, key: str) -> int:
        """How many jobs more of the key may run."""
        most = min(self.key_limits.get(key, 100), 1 if self.ordered else 100)
        return min(max(0, most - len(self.running[key])), len(self.waiting[key]))

    def room(self, want: int) -> int:
        """How many jobs an admission of `want` must bring: as many as all limits at once allow."""
        live = sum(map(len, self.running.values()))
        left = min(want, self.queue_limit - live, self.global_limit - live)
        return 0 if self.paused else max(0, min(left, sum(map(self.key_room, KEYS))))

    def admitted(self, jobs: list[ClaimedJob]) -> None:
        """Move them, each from the front of its key, within its key's room."""
        for job in jobs:
            key = str(job.partition_key)
            assert self.key_room(key) > 0, f"{key} is over its limit"
            first = min(self.waiting[key]) if self.ordered else job.id
            assert job.id == first, "an ordered key skipped a job"
            self.waiting[key].remove(job.id)
            self.running[key].append(job)

    def some(self, chance: random.Random) -> list[ClaimedJob]:
        """A few jobs that run, chosen by chance, taken out."""
        chosen = [job for jobs in self.running.values() for job in jobs if chance.random() < 0.4]
        for job in chosen:
            self.running[str(job.partition_key)].remove(job)
        return chosen


async def change(connection: BoundedAsyncConnection, model: Model, chance: random.Random) -> None:
    """Another limit, or a pause."""
    most = chance.randrange(0, 6)
    match chance.choice(("global", "queue", "key", "key", "pause")):
        case "global":
            model.global_limit = most
            await limit(connection, "global", max_running=most)
        case "queue":
            model.queue_limit = most
            await limit(connection, "queue:default", max_running=most)
        case "key":
            key = chance.choice(KEYS)
            model.key_limits[key] = most
            await limit(connection, f"key:default/{key}", max_running=most, weight=chance.choice((0.5, 1, 3)))
        case _:
            model.paused = not model.paused
            await connection.execute(PAUSE, (model.paused,))


async def step(connection: BoundedAsyncConnection, model: Model, chance: random.Random) -> None:
    """One random thing."""
    match chance.choice(("add", "add", "admit", "admit", "admit", "finish", "crash", "change")):
        case "add":
            key = chance.choice(KEYS)
            model.waiting[key] += await add(connection, chance.randrange(1, 6), partition_key=key)
        case "admit":
            want = chance.randrange(1, 12)
            expected, jobs = model.room(want), await admit(connection, want)
            assert len(jobs) == expected, "an admission brings what all limits allow, no more and no less"
            model.admitted(jobs)
        case "finish":
            await finish(connection, model.some(chance), ran_ms=chance.choice((1.0, 15.0, 500.0)))
        case "crash":
            await crash(connection, model, model.some(chance))
        case _:
            await change(connection, model, chance)


async def crash(connection: BoundedAsyncConnection, model: Model, jobs: list[ClaimedJob]) -> None:
    """Their worker dies, and the sweep takes them back."""
    for job in jobs:
        model.waiting[str(job.partition_key)].append(job.id)
    await connection.execute(
        "UPDATE tandem.lease SET expires_at = tandem.clock() - interval '1 s' WHERE job_id = ANY (%s)",
        ([job.id for job in jobs],),
    )
    await AdmissionStore(connection).rescue_jobs(pairs(jobs))


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("seed", range(3))
async def test_admission_does_what_the_model_allows(db_url: str, ordered: bool, seed: int) -> None:
    chance, model = random.Random(seed), Model(ordered=ordered)
    async with await worker_connection(db_url) as connection:
        await manage(connection, ordered=ordered)
        for _ in range(STEPS):
            await step(connection, model, chance)
        await assert_membership_async(connection)
        if model.paused:
            await connection.execute(PAUSE, (False,))
        for target in ("global", "queue:default", *(f"key:default/{key}" for key in KEYS)):
            await limit(connection, target, max_running=100)
        model.paused, model.key_limits, model.queue_limit, model.global_limit = False, {}, 100, 100
        rounds: list[Any] = []
        while any(model.waiting.values()) or any(model.running.values()):
            jobs = await admit(connection, 50)
            assert len(jobs) == model.room(50)
            model.admitted(jobs)
            await finish(connection, [job for some in model.running.values() for job in some])
            model.running = {key: [] for key in KEYS}
            rounds.append(len(jobs))
        await assert_membership_async(connection)
