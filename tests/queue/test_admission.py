"""Admission to managed queues, step by step: limits of every sort at once, order, rates, changes while jobs run."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from app.database.deadline import BoundedAsyncConnection
from app.queue.admin import cancel_job, redrive_job
from app.queue.admission_store import AdmissionStore
from app.queue.kinds import Registry
from app.queue.store import Failed, Finish
from tests.support.admission import admit, finish, keys, limit, manage, waiting
from tests.support.claims import WORKER, add, claim, pairs, rows, value, worker_connection
from tests.support.membership import assert_membership_async
from workers.sweeper.step import BEGINNING

Connection = BoundedAsyncConnection


@pytest.fixture
async def connection(db_url: str) -> AsyncIterator[Connection]:
    """A worker's connection; every job stands in exactly one place at the end."""
    async with await worker_connection(db_url) as opened:
        yield opened
        await assert_membership_async(opened)


async def at(connection: psycopg.AsyncConnection[Any], seconds: float) -> None:
    await connection.execute("SELECT set_config('tandem.clock_offset', %s, false)", (f"{seconds} s",))


async def fill(connection: Connection, each: int, names: Sequence[str] = "abc", **options: Any) -> None:
    for name in names:
        await add(connection, each, partition_key=name, **options)


async def test_keys_queue_and_global_limits_hold_at_once(connection: Connection) -> None:
    await manage(connection, key_limit=2)
    await manage(connection, "other")
    await limit(connection, "key:default/a", max_running=3)
    await fill(connection, 5)
    jobs = await admit(connection)
    assert keys(jobs) == {"a": 3, "b": 2, "c": 2}
    await limit(connection, "queue:default", max_running=5)
    await finish(connection, jobs[:3])
    assert len(await admit(connection)) == 1
    await limit(connection, "global", max_running=7)
    await add(connection, 10, queue="other")
    assert len(await admit(connection, queue="other")) == 2
    assert await admit(connection, queue="other") == []
    assert await claim(connection) == [], "claim_jobs leaves managed queues alone"


async def test_exempt_keys_pass_the_global_limit_and_do_not_count(connection: Connection) -> None:
    await manage(connection)
    await limit(connection, "global", max_running=2)
    await limit(connection, "key:default/vip", exempt=True, max_running=3)
    await fill(connection, 5, "ab")
    assert len(await admit(connection)) == 2
    await add(connection, 5, partition_key="vip")
    assert keys(await admit(connection)) == {"vip": 3}
    assert await admit(connection) == []


async def test_a_full_kind_holds_up_no_other_kind(connection: Connection) -> None:
    await manage(connection)
    await limit(connection, "kind:slow", max_running=1)
    await add(connection, 20, kind="slow", partition_key="a")
    await add(connection, 3, kind="quick", partition_key="a")
    first = await admit(connection)
    kinds = [job.kind for job in first + await admit(connection)]
    assert sorted(kinds) == ["quick"] * 3 + ["slow"]
    assert await admit(connection) == []
    await finish(connection, first)
    again = await admit(connection)
    assert [job.kind for job in again] == ["slow"]
    await limit(connection, "kind:slow", max_running=4)
    assert len(await admit(connection)) == 3
    await connection.execute("SELECT tandem.clear_limit('kind:slow')")
    assert len(await admit(connection)) == 15


async def test_a_keys_limit_holds_over_the_lanes_of_all_kinds(connection: Connection) -> None:
    await manage(connection, key_limit=2)
    await limit(connection, "kind:slow", max_running=3)
    for _ in range(3):
        await add(connection, 2, kind="slow", partition_key="a")
        await add(connection, 2, kind="quick", partition_key="a")
    ran = 0
    while jobs := await admit(connection):
        assert len(jobs) <= 2
        assert await admit(connection) == []
        ran += len(jobs)
        await finish(connection, jobs)
    assert ran == 12


async def test_a_keys_rate_holds_over_the_lanes_of_all_kinds(connection: Connection) -> None:
    await manage(connection, key_rate=1.0, key_burst=2)
    await limit(connection, "kind:slow", max_running=9)
    for _ in range(3):
        await add(connection, 2, kind="slow", partition_key="a")
        await add(connection, 2, kind="quick", partition_key="a")
    assert len(await admit(connection)) == 2
    assert await admit(connection) == []
    ran = 2
    for seconds in range(2, 22, 2):
        await at(connection, seconds)
        jobs = await admit(connection)
        assert len(jobs) <= 2
        ran += len(jobs)
    assert ran == 12


async def test_a_lowered_limit_drains_and_zero_stops(connection: Connection) -> None:
    await manage(connection, key_limit=4)
    await fill(connection, 9, "a")
    jobs = await admit(connection)
    assert len(jobs) == 4
    await limit(connection, "key:default/a", max_running=2)
    await finish(connection, jobs[:2])
    assert await admit(connection) == []
    await finish(connection, jobs[2:3])
    assert len(await admit(connection)) == 1
    await limit(connection, "key:default/a", max_running=0)
    await finish(connection, jobs[3:])
    assert await admit(connection) == []
    await limit(connection, "key:default/a", max_running=9)
    assert len(await admit(connection)) == 4


async def test_finishing_and_refilling_is_one_step(connection: Connection) -> None:
    await manage(connection, key_limit=1)
    await fill(connection, 3)
    jobs = await admit(connection)
    done = [Finish(job.id, job.token, 1.0, '{"a": 1}', 60.0) for job in jobs]
    answer = await AdmissionStore(connection).admit_jobs(
        "default", want=5, token=1, worker=WORKER, lease=timedelta(seconds=30), finished=done
    )
    assert answer.finished == {job.id for job in jobs}
    assert keys(answer.jobs) == {"a": 1, "b": 1, "c": 1}
    repeated = await AdmissionStore(connection).admit_jobs(
        "default", want=0, token=2, worker=WORKER, lease=timedelta(seconds=30), finished=done
    )
    assert repeated == ([], set(), None), "what has ended is not ended twice"


async def test_order_survives_retries_rescues_and_a_later_priority(connection: Connection) -> None:
    await manage(connection, ordered=True)
    first = await add(connection, 3, partition_key="a")
    await add(connection, 1, partition_key="a", priority=9)
    [job] = await admit(connection)
    assert job.id == first[0]
    assert await admit(connection) == [], "one at a time"
    await AdmissionStore(connection).retry_jobs(
        [Failed(job.id, job.token, 1.0, "temporary", "no", delay=10.0)]
    )
    assert await admit(connection) == [], "its delay holds the key"
    await at(connection, 11)
    [job] = await admit(connection, lease=timedelta(0))
    assert (job.id, job.attempt) == (first[0], 2)
    await AdmissionStore(connection).rescue_jobs(pairs([job]))
    [job] = await admit(connection)
    assert (job.id, job.suspect) == (first[0], True)
    order, jobs = [], [job]
    while jobs:
        order += [one.id for one in jobs]
        await finish(connection, jobs)
        jobs = await admit(connection)
    assert order == sorted(order)
    assert len(order) == 4


async def test_an_end_heard_before_the_return_of_its_job_lets_nothing_pass(connection: Connection) -> None:
    """Both are said in one transaction, but a later position may be heard while an earlier one is looked for late."""
    await manage(connection, ordered=True)
    first, second = await add(connection, 2, partition_key="a")
    [job] = await admit(connection)
    await AdmissionStore(connection).retry_jobs(
        [Failed(job.id, job.token, 1.0, "temporary", "no", delay=10.0)]
    )
    gone = await connection.execute("DELETE FROM tandem.touch WHERE first IS NOT NULL")
    assert gone.rowcount == 1
    assert await admit(connection) == [], "the job that failed stands before the second"
    await at(connection, 11)
    [job] = await admit(connection)
    assert job.id == first
    await finish(connection, [job])
    assert [one.id for one in await admit(connection)] == [second]


@pytest.mark.parametrize("dead_head", ["skip", "block"])
async def test_a_dead_head_is_passed_or_stops_its_key(connection: Connection, dead_head: str) -> None:
    await manage(connection, ordered=True, dead_head=dead_head)
    await fill(connection, 2, "ab")
    failing, fine = sorted(await admit(connection), key=lambda job: job.partition_key or "")
    dead = failing.id
    await AdmissionStore(connection).close_jobs([Failed(dead, failing.token, 1.0, "permanent", "no")])
    await finish(connection, [fine])
    assert keys(await admit(connection)) == ({"a": 1, "b": 1} if dead_head == "skip" else {"b": 1})
    if dead_head == "block":
        assert await rows(connection, "SELECT partition_key, job_id FROM tandem.halted") == [("a", dead)]
        await redrive_job(connection, Registry(), dead)
        assert [job.id for job in await admit(connection)] == [dead]


async def test_a_paused_queue_admits_nothing_but_takes_finishes(connection: Connection) -> None:
    await manage(connection, key_limit=1)
    await fill(connection, 2, "a")
    jobs = await admit(connection)
    await connection.execute("UPDATE tandem.queue SET paused_at = now()")
    await finish(connection, jobs)
    assert await admit(connection) == []
    await connection.execute("UPDATE tandem.queue SET paused_at = NULL")
    assert len(await admit(connection)) == 1


async def test_starts_of_a_key_follow_its_rate(connection: Connection) -> None:
    await manage(connection, key_rate=2.0, key_burst=3)
    await fill(connection, 10, "ab")
    await limit(connection, "key:default/b", rate=0.1, burst=1)
    assert keys(await admit(connection)) == {"a": 3, "b": 1}
    answer = await AdmissionStore(connection).admit_jobs(
        "default", want=5, token=1, worker=WORKER, lease=timedelta(seconds=30)
    )
    assert answer.jobs == []
    assert answer.due is not None
    assert 0 < answer.due <= 0.5
    await at(connection, 1.1)
    assert keys(await admit(connection)) == {"a": 2}
    await at(connection, 60)
    assert keys(await admit(connection)) == {"a": 3, "b": 1}


async def test_weights_share_run_time_and_bands_come_first_inside_a_key(connection: Connection) -> None:
    await manage(connection)
    await limit(connection, "key:default/a", weight=3.0)
    await fill(connection, 60, "ab")
    await add(connection, 3, partition_key="b", priority=9)
    taken: list[Any] = []
    for _ in range(40):
        jobs = await admit(connection, 2)
        taken += jobs
        await finish(connection, jobs)
    share = keys(taken)
    assert 55 <= share["a"] <= 65, share
    assert [job.priority for job in taken if job.partition_key == "b"][:4] == [9, 9, 9, 5]


async def test_a_key_with_long_jobs_gets_fewer_of_them(connection: Connection) -> None:
    await manage(connection, key_limit=1)
    await limit(connection, "queue:default", max_running=1)
    await fill(connection, 80, "ab")
    taken = []
    for _ in range(60):
        jobs = await admit(connection, 1)
        taken += jobs
        await finish(connection, jobs, ran_ms=30.0 if jobs[0].partition_key == "a" else 10.0)
    share = keys(taken)
    assert 2.2 < share["b"] / share["a"] < 3.8, share


async def test_a_flood_of_one_key_leaves_the_others_waits_unchanged(connection: Connection) -> None:
    await manage(connection)
    await add(connection, 1000, partition_key="flood")
    for _ in range(10):
        await finish(connection, await admit(connection, 5))
    await fill(connection, 2, "abcdefgh")
    served = [job for _ in range(4) for job in await admit(connection, 5)]
    assert sum(count for key, count in keys(served).items() if key != "flood") == 16


async def run_all(connection: Connection, ran_ms: float) -> None:
    while jobs := await admit(connection, 50):
        await finish(connection, jobs, ran_ms=ran_ms)


async def test_short_jobs_of_a_key_go_together_up_to_five_milliseconds(connection: Connection) -> None:
    await manage(connection)
    names = [f"k{n}" for n in range(30)]
    await fill(connection, 30, names)
    await run_all(connection, ran_ms=1.0)
    await fill(connection, 30, names)
    jobs = await admit(connection, 50)
    assert len(jobs) == 50
    assert max(keys(jobs).values()) > 1, "a turn for each job would cost more than the job"
    assert max(keys(jobs).values()) <= 5, "five jobs of a millisecond"
    seen = set(keys(jobs))
    for _ in range(8):  # half of the jobs: key by key they would be those of half of the keys
        await finish(connection, jobs, ran_ms=1.0)
        jobs = await admit(connection, 50)
        assert max(keys(jobs).values()) <= 5
        seen |= set(keys(jobs))
    assert seen == set(names), "a key's turn comes before the others have had theirs again and again"


@pytest.mark.parametrize("want", [9, 50, 200])
async def test_short_jobs_of_many_keys_fill_all_slots(connection: Connection, want: int) -> None:
    """One job each: a pass opens turns for five, and the next pass finds the rest."""
    await manage(connection)
    names = [f"k{n}" for n in range(250)]
    await fill(connection, 1, names)
    await run_all(connection, ran_ms=1.0)
    await connection.execute("UPDATE tandem.turn SET mean_ms = 1")  # as after many such jobs
    await fill(connection, 1, names)
    assert len(await admit(connection, want)) == want


async def test_rank_keys_lets_the_best_band_decide_between_keys(connection: Connection) -> None:
    await manage(connection, rank_keys=True)
    await fill(connection, 2, "abc")
    await add(connection, 2, partition_key="d", priority=8)
    await add(connection, 1, partition_key="c", priority=7)
    order = [job.partition_key for _ in range(5) for job in await admit(connection, 1)]
    assert order[:3] == ["d", "d", "c"]


async def test_a_cancelled_head_lets_its_key_go_on(connection: Connection) -> None:
    await manage(connection, ordered=True)
    ids = await add(connection, 2, partition_key="a")
    assert await cancel_job(connection, Registry(), ids[0]) == "CANCELLED"
    assert [job.id for job in await admit(connection)] == [ids[1]]


async def test_handing_back_refunds_the_charge_and_the_attempt(connection: Connection) -> None:
    await manage(connection, ordered=True)
    ids = await add(connection, 2, partition_key="a")
    [job] = await admit(connection)
    await AdmissionStore(connection).hand_back_jobs(pairs([job]), delay=timedelta(0))
    [job] = await admit(connection)
    assert (job.id, job.attempt) == (ids[0], 1)


async def test_a_queue_becomes_managed_and_plain_again_with_jobs_in_it(connection: Connection) -> None:
    await AdmissionStore(connection).declare_queues(["default"])
    await add(connection, 7, partition_key="a")
    [running] = await claim(connection, 1)
    await manage(connection, key_limit=2)
    while await AdmissionStore(connection).move_waiting("default", most=3):
        pass
    assert await waiting(connection) == 6
    assert len(await admit(connection)) == 1, "the one that ran before counts"
    await finish(connection, [running])
    assert len(await admit(connection)) == 1
    await connection.execute("UPDATE tandem.queue SET managed = false")
    assert await AdmissionStore(connection).find_misplaced() == ["default"]
    while await AdmissionStore(connection).move_waiting("default", most=3):
        pass
    assert len(await claim(connection, 100)) == 4


async def test_delayed_jobs_come_in_through_promotion(connection: Connection) -> None:
    await manage(connection, key_limit=1)
    await connection.execute(
        "SELECT tandem.enqueue('test', partition_key => 'a', run_at => now() + interval '1 minute')"
    )
    assert await admit(connection) == []
    await at(connection, 61)
    assert (await AdmissionStore(connection).promote_jobs(after=BEGINNING, most=10))[0] == 1
    assert len(await admit(connection)) == 1


async def test_a_forgotten_key_is_found_again(connection: Connection) -> None:
    await manage(connection)
    await add(connection, 3, partition_key="a")
    await connection.execute("DELETE FROM tandem.touch")
    assert await admit(connection) == []
    assert (await AdmissionStore(connection).remind(after=("", ""), most=10))[1:] == (1, 1)
    assert len(await admit(connection)) == 3
    assert (await AdmissionStore(connection).remind(after=("", ""), most=10))[1:] == (0, 0)


async def test_a_lane_that_gives_jobs_and_takes_jobs_in_at_once_forgets_none(connection: Connection) -> None:
    await manage(connection)
    await limit(connection, "kind:slow", max_running=2)
    await add(connection, 4, kind="slow", partition_key="a", priority=3)
    running = await admit(connection)  # two run, two wait in the lane of their kind
    ran = len(running)
    for band in (9, 0, 5):
        await add(connection, 1, kind="slow", partition_key="a", priority=band)
        await finish(connection, running)
        running = await admit(connection)
        ran += len(running)
    while running:
        await finish(connection, running)
        running = await admit(connection)
        ran += len(running)
    assert (ran, await waiting(connection)) == (7, 0)


async def test_a_job_forgotten_in_the_lane_of_its_kind_is_found_again(connection: Connection) -> None:
    await manage(connection)
    await limit(connection, "kind:slow", max_running=1)
    await add(connection, 2, kind="slow", partition_key="a")
    await finish(connection, await admit(connection))
    await connection.execute("DELETE FROM tandem.touch")
    await connection.execute(
        "UPDATE tandem.turn SET eligible = false, floors = array_fill(NULL::bigint, '{10}')"
    )
    assert await admit(connection) == []
    await AdmissionStore(connection).remind(after=("", ""), most=10)
    assert len(await admit(connection)) == 1


async def test_unmanaged_queues_write_nothing_here(connection: Connection) -> None:
    await add(connection, 3, partition_key="a")
    await finish(connection, await claim(connection))
    assert await value(connection, "SELECT count(*) FROM tandem.touch") == 0
    assert await value(connection, "SELECT count(*) FROM tandem.turn") == 0


async def test_explain_names_every_limit_that_holds_a_job(connection: Connection) -> None:
    await manage(connection, key_limit=1)
    await limit(connection, "queue:default", max_running=1)
    await limit(connection, "kind:test", max_running=1)
    await limit(connection, "global", max_running=1)
    await fill(connection, 2, "a")
    [running] = await admit(connection)
    [text] = [row[0] for row in await rows(connection, "SELECT tandem.why_blocked(%s)", running.id + 1)]
    assert [part.split(":")[0] for part in text.split("; ")] == [
        "key-limit",
        "queue-limit",
        "kind-limit",
        "global-limit",
    ]
    for told in (
        "1 of 1 jobs of its key run",
        "1 of 1 jobs of kind test run",
        "1 of 1 jobs of managed queues run",
    ):
        assert told in text
    for target in ("queue:default", "kind:test", "global"):
        await connection.execute("SELECT tandem.clear_limit(%s)", (target,))
    await add(connection, 2, partition_key="b")
    waits = (await add(connection, partition_key="b"))[0]
    assert (
        await value(connection, "SELECT tandem.why_blocked(%s)", waits)
        == "turn: 2 jobs of its key come first"
    )
    await manage(connection, ordered=True)
    query = "SELECT explanation FROM tandem.explain(%s) WHERE reason = 'blocked-key'"
    text = await value(connection, query, running.id + 1)
    assert f"key-order: job {running.id} of its key comes first" in text
