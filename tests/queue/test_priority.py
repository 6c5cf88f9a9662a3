"""Priorities that change while jobs wait: formulas, ageing, what a claim wins, what managed queues make of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from app.database.deadline import BoundedAsyncConnection
from app.errors import ConfigurationError, InvalidInput
from app.queue.kinds import Registry
from app.queue.priority import Ageing, Rule, WaitingJob, age_queue, read_rules, recalculate
from app.queue.priority_store import PriorityStore
from app.queue.store import Store
from tests.support.admission import admit, finish, limit, manage
from tests.support.claims import add, claim, rows, value, worker_connection
from tests.support.command_line import facts
from tests.support.membership import assert_membership_async
from workers.sweeper.priorities import RecalculatePriorities
from workers.sweeper.step import Settled

Connection = BoundedAsyncConnection


@pytest.fixture
async def connection(db_url: str) -> AsyncIterator[Connection]:
    """A worker's connection; every job stands in exactly one place at the end."""
    async with await worker_connection(db_url) as opened:
        await Store(opened).declare_queues(["default"])
        yield opened
        await assert_membership_async(opened)


def by_payload(answer: int) -> Any:
    """A formula that gives everything the same priority."""
    return lambda jobs: [answer] * len(jobs)


async def walk(connection: Connection, rule: Rule, *, most: int = 1000) -> int:
    """One walk over everything; answers how many moved."""
    moved = 0
    after: int | None = 0
    while after is not None:
        page = await recalculate(connection, {rule.queue: rule}, after=after, most=most)
        moved, after = moved + page.moved, page.after
    return moved


async def bands(connection: Connection) -> dict[int, int]:
    """The priority of each waiting job."""
    query = "SELECT job_id, priority FROM tandem.job_status WHERE status = 'PENDING'"
    return dict(await rows(connection, query))


async def at(connection: psycopg.AsyncConnection[Any], seconds: float) -> None:
    await connection.execute("SELECT set_config('tandem.clock_offset', %s, false)", (f"{seconds} s",))


async def test_only_changes_move_and_go_behind_those_that_wait_in_the_band(connection: Connection) -> None:
    low, there = await add(connection, 3, priority=2), await add(connection, 2, priority=7)
    before = await value(connection, "SELECT max(pos) FROM tandem.ready")
    assert await walk(connection, Rule("default", by_payload(7)), most=2) == 3
    assert [job.id for job in await claim(connection, 10)] == there + low
    assert await walk(connection, Rule("default", by_payload(7))) == 0
    assert await value(connection, "SELECT last_value FROM tandem.ready_position") == before + 3


async def test_a_formula_sees_the_job_may_be_async_and_may_ask_the_database(connection: Connection) -> None:
    [job] = await add(connection, kind="big", partition_key="a", priority=3)
    later = datetime.now(UTC) + timedelta(hours=1)
    [scheduled] = await add(connection, kind="big", priority=3, run_at=later)
    await add(connection, queue="other")
    seen: list[WaitingJob] = []

    async def formula(jobs: Sequence[WaitingJob], asked: psycopg.AsyncConnection[Any]) -> list[int]:
        seen.extend(jobs)
        found = await rows(asked, "SELECT payload->>'n' FROM tandem.job WHERE id = ANY (%s)", [job])
        return [9 if found == [("0",)] else 0] * len(jobs)

    await at(connection, 100)
    assert await walk(connection, Rule("default", formula)) == 2
    assert [one.job_id for one in seen] == [job, scheduled]
    first = seen[0]
    assert (first.queue, first.kind, first.partition_key, first.priority, first.base, first.attempt) == (
        *("default", "big", "a"),
        *(3, 3, 0),
    )
    assert 100 <= first.waited < 110 and seen[1].waited == 0
    assert (await bands(connection))[scheduled] == 9
    await at(connection, 7200)
    await Store(connection).promote_jobs(after=datetime(2000, 1, 1, tzinfo=UTC), most=10)
    assert [(one.id, one.priority) for one in await claim(connection)] == [(job, 9), (scheduled, 9)]


async def test_answers_are_bounded_and_a_formula_that_fails_leaves_its_own_queue_alone_only(
    connection: Connection,
) -> None:
    [high] = await add(connection)
    [low] = await add(connection, queue="low")
    [bad] = await add(connection, queue="bad")
    [short] = await add(connection, queue="short")

    async def broken(jobs: Sequence[WaitingJob], asked: psycopg.AsyncConnection[Any]) -> list[int]:
        await asked.execute("BEGIN")
        await asked.execute("SELECT 1 / 0")
        return []

    functions = {"default": by_payload(99), "low": by_payload(-3), "bad": broken, "short": lambda _: []}
    rules = {name: Rule(name, function) for name, function in functions.items()}
    page = await recalculate(connection, rules, after=0, most=10)
    assert (page.moved, page.failed, page.after) == (2, {"bad", "short"}, None)
    assert await bands(connection) == {high: 9, low: 0, bad: 5, short: 5}


async def test_a_claim_under_way_wins_and_none_is_lost_or_doubled(
    connection: Connection, db_url: str
) -> None:
    ids = await add(connection, 20)
    async with await worker_connection(db_url) as other, other.transaction():
        held = [job.id for job in await claim(other, 5)]
        assert await walk(connection, Rule("default", by_payload(8))) == 15
    assert await bands(connection) == dict.fromkeys(set(ids) - set(held), 8)
    assert sorted(held + [job.id for job in await claim(connection, 50)]) == ids


async def test_claims_and_walks_at_once_run_each_job_once(connection: Connection, db_url: str) -> None:
    ids = await add(connection, 600)
    got: list[int] = []

    async def work(own: Connection) -> None:
        while len(got) < len(ids):
            got.extend(job.id for job in await claim(own, 7))
            await asyncio.sleep(0)

    async with (
        await worker_connection(db_url) as one,
        await worker_connection(db_url) as two,
        asyncio.timeout(60),
    ):
        working = asyncio.gather(work(one), work(two))
        turn = 0
        while not working.done():
            turn += 1
            await walk(connection, Rule("default", by_payload(turn % 10)), most=100)
        await working
    assert sorted(got) == ids


async def test_moved_jobs_stand_above_the_floors(connection: Connection) -> None:
    ids = await add(connection, 5, priority=1)
    await add(connection, 5, priority=6)
    await claim(connection, 5)
    settled, store = Settled(), Store(connection)
    for _ in range(2):
        await settled.sample(store)
        await store.advance_floors(settled=settled.position)
    await walk(connection, Rule("default", by_payload(6)))
    query = """SELECT min(r.pos) >= max(f.floor) FROM tandem.ready AS r
               JOIN tandem.lane_floor AS f ON f.queue = r.queue AND f.priority = 6"""
    assert await value(connection, query)
    await store.advance_floors(settled=settled.position)
    assert [job.id for job in await claim(connection, 10)] == ids


async def test_in_a_managed_queue_a_job_changes_its_band_and_an_ordered_one_keeps_its_place(
    connection: Connection,
) -> None:
    await manage(connection)
    first = await add(connection, 3, partition_key="a", priority=5)
    second = await add(connection, 2, partition_key="a", priority=2)
    slow = await add(connection, 2, kind="slow", partition_key="a", priority=0)
    taken = await admit(connection, want=1)
    assert [job.id for job in taken] == first[:1]

    def formula(jobs: Sequence[WaitingJob]) -> list[int]:
        return [9 if job.job_id in slow else 7 if job.job_id in second else job.priority for job in jobs]

    assert await walk(connection, Rule("default", formula)) == 4
    await finish(connection, taken)
    order = [job.id for _ in range(6) for job in await admit(connection, want=1)]
    assert order == slow + second + first[1:]
    await manage(connection, "ordered", ordered=True)
    ids = await add(connection, 2, queue="ordered", partition_key="k")
    assert await walk(connection, Rule("ordered", by_payload(9))) == 0
    assert [job.id for job in await admit(connection, queue="ordered")] == ids[:1]


async def test_jobs_in_the_lane_of_a_limited_kind_move_too(connection: Connection) -> None:
    await manage(connection)
    await limit(connection, "kind:slow", max_running=1)
    ids = await add(connection, 4, kind="slow", partition_key="a", priority=1)
    taken = await admit(connection)
    assert [job.id for job in taken] == ids[:1]
    assert (
        await walk(
            connection, Rule("default", lambda jobs: [8 if job.job_id == ids[3] else 1 for job in jobs])
        )
        == 1
    )
    order = []
    while taken:
        await finish(connection, taken)
        taken = await admit(connection)
        order += [job.id for job in taken]
    assert order == [ids[3], ids[1], ids[2]]


@pytest.mark.parametrize("managed", [False, True])
async def test_with_ageing_a_flood_of_higher_ones_cannot_hold_a_job_back_for_ever(
    connection: Connection, managed: bool
) -> None:
    if managed:
        await manage(connection)
    [old] = await add(connection, priority=0, partition_key="k")
    rule = Rule("default", ageing=Ageing(60))

    async def rounds(*, ages: bool, most: int) -> int | None:
        """Ten come each minute and five can run: after how many minutes it is the old one's turn."""
        for turn in range(most):
            await at(connection, 60 * turn)
            if ages:
                await walk(connection, rule)
            await add(connection, 10, priority=5, partition_key="k")
            jobs = await (admit(connection, want=5) if managed else claim(connection, 5))
            if managed:
                await finish(connection, jobs)
            if old in [job.id for job in jobs]:
                return turn
        return None

    assert await rounds(ages=False, most=30) is None
    found = await rounds(ages=True, most=60)
    assert found is not None and 5 <= found <= 60


def test_ageing_rises_by_steps_to_its_most() -> None:
    ageing = Ageing(600, step=2, most=7)
    assert [ageing.lift(2, waited) for waited in (0, 599, 600, 1200, 1e9)] == [2, 2, 4, 6, 7]
    assert ageing.lift(8, 1e9) == 8
    for wrong in ({"after": 0}, {"after": 60, "step": 10}, {"after": 60, "most": -1}):
        with pytest.raises(InvalidInput):
            Ageing(**wrong)


def test_declarations() -> None:
    registry, other = Registry(), Registry()
    registry.ageing("a", after=600)
    registry.priority("a", by_payload(1), every=5, batch=10)
    other.priority("b", by_payload(1))
    registry.include(other)
    assert {name: (rule.every, rule.batch) for name, rule in registry.priorities.items()} == {
        "a": (5, 10),
        "b": (60, 1000),
    }
    assert registry.priorities["a"].ageing == Ageing(600)
    for again in (
        lambda: registry.priority("a", by_payload(1)),
        lambda: registry.ageing("a", after=5),
        lambda: registry.include(other),
    ):
        with pytest.raises(ConfigurationError):
            again()
    with pytest.raises(InvalidInput):
        registry.priority("c", by_payload(1), every=0)


async def test_the_sweep_walks_at_each_rules_own_pace_and_wakes_the_lanes(connection: Connection) -> None:
    registry, asked = Registry(), list[int]()

    def formula(jobs: Sequence[WaitingJob]) -> list[int]:
        asked.append(len(jobs))
        return [4] * len(jobs)

    registry.priority("default", formula, every=3600, batch=2)
    ids = await add(connection, 3)
    step = RecalculatePriorities(registry)
    assert (await step.run_once(connection)).rows == 3
    assert (asked, await bands(connection)) == ([2, 1], dict.fromkeys(ids, 4))
    assert (await step.run_once(connection)).rows == 0 and asked == [2, 1]
    step.reset()
    await step.run_once(connection)
    assert asked == [2, 1, 2, 1]
    moved, lanes = await PriorityStore(connection).change_priorities(ids, [9, 9, 4])
    assert (moved, lanes) == (2, await value(connection, "SELECT ARRAY[tandem.wake_lane('default')]"))


async def test_operators_set_the_ageing(
    connection: Connection, db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", db_url)
    told = await asyncio.to_thread(facts, "queues", "age", "default", "--after", "10m", "--most", "7")
    assert told == {"queue": "default", "after": 600.0, "step": 1, "most": 7}
    declared = {"default": Rule("default", by_payload(1), Ageing(5), every=30)}
    rule = (await read_rules(connection, declared))["default"]
    assert (rule.ageing, rule.function, rule.every) == (Ageing(600, 1, 7), declared["default"].function, 30)
    [job] = await add(connection, priority=2)
    await at(connection, 1300)
    step = RecalculatePriorities(Registry())
    assert (await step.run_once(connection)).rows == 1
    assert await bands(connection) == {job: 4}
    await asyncio.to_thread(facts, "queues", "age", "default", "--off")
    assert await read_rules(connection, {}) == {}
    await age_queue(connection, "new", Ageing(60, step=0))
    assert (await read_rules(connection, {}))["new"].ageing == Ageing(60, step=0)
