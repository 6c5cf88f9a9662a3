"""Claim: never more than asked, the best first, nothing twice, and exactly one place for every job afterwards."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest

from app.database.deadline import BoundedAsyncConnection
from app.queue.claim import PART, Floors
from app.queue.enqueue import enqueue_many_async
from app.queue.job import NewJob
from app.queue.store import PINNED_PLANS, Finish, Lane, Store
from tests.support.claims import add, claim, every_lane, rows, value, worker_connection
from tests.support.membership import assert_membership_async, counts

PLANS = {
    "pinned": PINNED_PLANS,
    "nested loops only": {
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "enable_material": "off",
        "enable_memoize": "off",
    },
    "no plan forbidden": {},
    "planned afresh": {"plan_cache_mode": "force_custom_plan", "enable_hashjoin": "off"},
}


@pytest.fixture
async def queue(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A worker's connection to a database of the test's own."""
    async with await worker_connection(db_url) as connection:
        yield connection
        await assert_membership_async(connection)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
async def test_a_claim_never_takes_more_than_it_asked_for(db_url: str, plan: dict[str, str]) -> None:
    # R3: re-running the LIMIT inside a nested loop claimed more rows than asked for.
    async with await psycopg.AsyncConnection.connect(db_url, autocommit=True) as connection:
        for name, setting in plan.items():
            await connection.execute("SELECT set_config(%s, %s, false)", (name, setting))
        for priority in (1, 5, 9):
            await add(connection, 60, priority=priority)
        await connection.execute("ANALYZE tandem.ready")
        for want in (1, 7, 50):
            before = await value(connection, "SELECT count(*) FROM tandem.lease")
            assert len(await claim(connection, want)) == want
            assert await value(connection, "SELECT count(*) FROM tandem.lease") == before + want
        await assert_membership_async(connection)


async def test_higher_priority_first_and_then_first_in_first_out(queue: BoundedAsyncConnection) -> None:
    order = [5, 0, 9, 5, 9, 1, 0]
    ids = [
        answer.job_id for answer in await enqueue_many_async(queue, [NewJob("t", priority=p) for p in order])
    ]
    expected = [ids[2], ids[4], ids[0], ids[3], ids[5], ids[1], ids[6]]
    assert [job.id for job in await claim(queue, 3)] == expected[:3]
    assert [job.id for job in await claim(queue, 10)] == expected[3:]


async def test_order_does_not_follow_the_places_in_the_table(queue: BoundedAsyncConnection) -> None:
    first = await add(queue, 30)
    await queue.execute("UPDATE tandem.ready SET attempt = 1 WHERE job_id = ANY (%s)", (first[:10],))
    assert [job.id for job in await claim(queue, 30)] == first


async def test_a_job_that_is_ready_and_leased_at_once_holds_up_nobody(db_url: str) -> None:
    async with await worker_connection(db_url) as connection:
        broken, *others = await add(connection, 3)
        [held] = await claim(connection, 1)
        await connection.execute(
            """INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue)
               VALUES (nextval('tandem.ready_position'), %s, now(), 9, 0, 0, false, 'default')""",
            (broken,),
        )
        assert held.id == broken
        assert [job.id for job in await claim(connection, 5)] == others
        await assert_membership_async(connection)
        await Store(connection).finish_jobs([Finish(broken, held.token, 1.0)])
        assert await claim(connection, 5) == []


async def test_two_claimers_share_without_waiting_and_without_overlap(db_url: str) -> None:
    async with await worker_connection(db_url) as first, await worker_connection(db_url) as second:
        ids = await add(first, 10)
        async with first.transaction():
            mine = await claim(first, 4)
            async with asyncio.timeout(5):
                theirs = await claim(second, 4)
        assert [job.id for job in mine] == ids[:4]
        assert [job.id for job in theirs] == ids[4:8]
        await assert_membership_async(first)


async def test_a_claim_that_rolls_back_leaves_everything_as_it_was(queue: BoundedAsyncConnection) -> None:
    ids = await add(queue, 3)
    with pytest.raises(ZeroDivisionError):
        async with queue.transaction():
            await claim(queue)
            raise ZeroDivisionError
    assert [job.id for job in await claim(queue)] == ids


async def test_many_claimers_get_every_job_once(db_url: str) -> None:
    async with await worker_connection(db_url) as queue:
        ids = await add(queue, 300)

    async def claimer() -> list[int]:
        got: list[int] = []
        async with await worker_connection(db_url) as connection:
            while jobs := await claim(connection, 7):
                got += [job.id for job in jobs]
        return got

    found = await asyncio.gather(*(claimer() for _ in range(6)))
    assert sorted(job for part in found for job in part) == ids
    assert counts(db_url) == {"leased": 300}


async def test_a_paused_queue_gives_nothing_and_the_others_go_on(queue: BoundedAsyncConnection) -> None:
    await Store(queue).declare_queues(["default", "mail"])
    await add(queue, 2)
    mails = await add(queue, 2, queue="mail")
    await queue.execute("UPDATE tandem.queue SET paused_at = now() WHERE name = 'default'")
    lanes = every_lane(["default", "mail"])
    assert [job.id for job in await claim(queue, lanes=lanes)] == mails
    await queue.execute("UPDATE tandem.queue SET paused_at = NULL")
    assert len(await claim(queue, lanes=lanes)) == 2


async def test_a_lane_is_read_from_its_floor_to_its_ceiling(queue: BoundedAsyncConnection) -> None:
    await add(queue, 10)
    positions = [row[0] for row in await rows(queue, "SELECT pos FROM tandem.ready ORDER BY pos")]
    jobs = await claim(queue, lanes=[Lane("default", 5, positions[3], positions[6])])
    assert [job.position for job in jobs] == positions[3:6]


async def test_a_queue_nobody_asked_for_stays(queue: BoundedAsyncConnection) -> None:
    await add(queue, 1, queue="other")
    assert await claim(queue) == []


async def test_a_claimed_job_carries_what_the_worker_needs(queue: BoundedAsyncConnection) -> None:
    job = NewJob(
        "mail.send", {"to": "an"}, priority=7, policy={"max_attempts": 2}, context={"request_id": "r"}
    )
    [answer] = await enqueue_many_async(queue, [job])
    [claimed] = await claim(queue, lease=timedelta(seconds=12))
    assert (claimed.id, claimed.kind, claimed.priority, claimed.attempt) == (answer.job_id, "mail.send", 7, 1)
    assert (claimed.own_limit("max_attempts"), claimed.context) == (2, {"request_id": "r"})
    assert (claimed.crashes, claimed.suspect, claimed.cancelled) == (0, False, False)
    [lease] = await rows(queue, "SELECT token, attempt, expires_at - claimed_at FROM tandem.lease")
    assert lease == (claimed.token, 1, timedelta(seconds=12))


@pytest.mark.parametrize("policy", ["[1]", "7", '"text"', '{"max_attempts": "many"}', '{"max_attempts": -1}'])
async def test_a_policy_of_any_shape_limits_nothing_it_should_not(
    queue: BoundedAsyncConnection, policy: str
) -> None:
    await queue.execute(
        "SELECT tandem.enqueue('test', policy => %s::jsonb, context => %s::jsonb)", (policy, policy)
    )
    [job] = await claim(queue)
    assert job.own_limit("max_attempts") is None
    assert isinstance(job.context, dict)


async def test_a_cancel_that_was_asked_for_is_told_to_the_claimer(queue: BoundedAsyncConnection) -> None:
    ids = await add(queue, 2)
    await queue.execute(
        "INSERT INTO tandem.cancel_intent (job_id, requested_at) VALUES (%s, now())", (ids[1],)
    )
    assert [job.cancelled for job in await claim(queue)] == [False, True]


async def test_a_hand_back_refunds_the_attempt_and_goes_to_the_end(queue: BoundedAsyncConnection) -> None:
    ids = await add(queue, 3)
    first, *_ = await claim(queue, 1)
    back = await Store(queue).hand_back_jobs([(first.id, first.token)], delay=timedelta(0))
    assert back == [(first.id, "default")]
    again = await claim(queue)
    assert [job.id for job in again] == [ids[1], ids[2], ids[0]]
    assert again[2].attempt == 1
    assert again[2].token != first.token


async def test_a_hand_back_with_a_stale_token_or_a_delay(queue: BoundedAsyncConnection) -> None:
    await add(queue, 1)
    [job] = await claim(queue)
    store = Store(queue)
    assert await store.hand_back_jobs([(job.id, job.token ^ 1)], delay=timedelta(0)) == []
    assert len(await store.hand_back_jobs([(job.id, job.token)], delay=timedelta(minutes=1))) == 1
    assert await rows(queue, "SELECT job_id, attempt FROM tandem.scheduled") == [(job.id, 0)]
    assert await claim(queue) == []


def test_queues_take_turns_by_weight_and_priority_counts_inside_a_queue() -> None:
    floors = Floors({"a": 3, "b": 1})
    firsts = [floors.ahead()[0].queue for _ in range(2000)]
    assert 0.65 < firsts.count("a") / 2000 < 0.85
    lanes = floors.everything()
    assert [lane.priority for lane in lanes] == [*range(9, -1, -1)] * 2
    assert len({lane.queue for lane in lanes[:10]}) == 1


def test_many_queues_are_looked_at_in_parts_each_once() -> None:
    floors = Floors({f"q{number}": 1 for number in range(2 * PART + 1)})
    parts = list(floors.parts())
    assert [len(part) for part in parts] == [PART, PART, 1]
    assert sorted(queue for part in parts for queue in part) == sorted(floors.queues)
    assert {lane.queue for lane in floors.ahead(parts[2])} == set(parts[2])
    assert list(floors.parts()) != parts, "another look, another order"
