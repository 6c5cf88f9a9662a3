"""Group commit without a database: what goes alone, what goes together, and whose error is whose."""

import asyncio
from collections.abc import Sequence

import pytest

from app import events
from app.api.facts import Gathered
from app.api.gathering import Gathering
from app.api.sqlstates import AWAY, BUSY, UNKNOWN
from app.errors import AppError, Conflict, OutcomeUnknown, Unavailable
from tests.support.waiting import eventually_async


class Database:
    """Notes what it was sent; answers each item turned round as soon as it may."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self.ages: list[float] = []
        self.refusals: list[Exception] = []
        self.bad: set[str] = set()
        self.gate = asyncio.Event()

    async def alone(self, item: str, since: float) -> str:
        self.sent.append([item])
        self.ages.append(since)
        await self.gate.wait()
        if item in self.bad:
            raise Conflict("bad", item)
        return item[::-1]

    async def together(self, items: Sequence[str], since: float) -> list[str]:
        self.sent.append(list(items))
        self.ages.append(since)
        await self.gate.wait()
        if self.refusals:
            raise self.refusals.pop()
        if self.bad & set(items):
            raise Conflict("bad", "one of them")
        return [item[::-1] for item in items]


def _gathering(database: Database, *, most: int = 64, limit: int = 100) -> Gathering[str, str]:
    return Gathering(database.alone, database.together, most=most, limit=limit)


async def _start(gathering: Gathering[str, str], *items: str) -> list[asyncio.Task[str]]:
    """One task for each, in this order, all of them up to where they wait."""
    tasks = [asyncio.create_task(gathering.send(item)) for item in items]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not launch anything before its time."""
    monkeypatch.setattr("app.api.gathering.PATIENCE", 600.0)


async def test_what_comes_meanwhile_goes_together_next_and_each_gets_its_own_answer() -> None:
    database = Database()
    tasks = await _start(_gathering(database), "ab", "cd", "ef", "gh")
    assert database.sent == [["ab"]], "the first one waits for nobody"
    sizes: list[int] = []
    leave = events.subscribe(Gathered, lambda fact: sizes.append(fact.size))
    database.gate.set()
    assert await asyncio.gather(*tasks) == ["ba", "dc", "fe", "hg"]
    leave()
    assert database.sent == [["ab"], ["cd", "ef", "gh"]]
    assert sizes == [1, 3]
    assert database.ages == sorted(database.ages)


async def test_one_that_finds_nothing_under_way_goes_at_once_each_time() -> None:
    database = Database()
    database.gate.set()
    gathering = _gathering(database)
    assert [await gathering.send(item) for item in ("ab", "cd")] == ["ba", "dc"]
    assert database.sent == [["ab"], ["cd"]]


async def test_a_batch_is_bounded_and_the_rest_follows() -> None:
    database = Database()
    tasks = await _start(_gathering(database, most=2), *"abcdef")
    database.gate.set()
    assert await asyncio.gather(*tasks) == list("abcdef")
    assert database.sent == [["a"], ["b", "c"], ["d", "e"], ["f"]]


async def test_one_alone_with_most_one() -> None:
    database = Database()
    tasks = await _start(_gathering(database, most=1, limit=1), *"abc")
    assert database.sent == [["a"], ["b"], ["c"]], "switched off: nobody waits for anybody"
    database.gate.set()
    assert await asyncio.gather(*tasks) == list("abc")


async def test_a_bad_one_fails_alone() -> None:
    database = Database()
    database.bad = {"c"}
    tasks = await _start(_gathering(database), *"abcd")
    database.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[:2] == ["a", "b"]
    assert answers[3] == "d"
    assert isinstance(answers[2], Conflict)
    assert answers[2].message == "c"
    assert database.sent[1:] == [["b", "c", "d"], ["b"], ["c"], ["d"]]


@pytest.mark.parametrize("error", [OutcomeUnknown(*UNKNOWN), Unavailable(*AWAY)])
async def test_a_lost_connection_is_everybodys(error: AppError) -> None:
    database = Database()
    database.refusals = [error]
    tasks = await _start(_gathering(database), *"abc")
    database.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[0] == "a"
    for answer in answers[1:]:
        assert isinstance(answer, type(error))
        assert (answer.code, answer.message) == (error.code, error.message)
    assert answers[1] is not answers[2], "each has a traceback of its own"
    assert database.sent == [["a"], ["b", "c"]], "nobody sends again what may be done"


@pytest.mark.parametrize("error", [Unavailable(*BUSY), ValueError("a mistake in the statement")])
async def test_anything_else_is_tried_one_by_one(error: Exception) -> None:
    database = Database()
    database.refusals = [error]
    tasks = await _start(_gathering(database), *"abc")
    database.gate.set()
    assert await asyncio.gather(*tasks) == list("abc")
    assert database.sent == [["a"], ["b", "c"], ["b"], ["c"]]
    assert database.ages[2] == database.ages[1] <= database.ages[3], "its time goes on"


async def test_too_few_answers_are_an_unknown_outcome_for_all() -> None:
    database = Database()

    async def forgetful(items: Sequence[str], since: float) -> list[str]:
        return (await database.together(items, since))[1:]

    tasks = await _start(Gathering(database.alone, forgetful, most=8, limit=8), *"abc")
    database.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[0] == "a"
    assert [type(answer) for answer in answers[1:]] == [OutcomeUnknown] * 2


async def test_a_caller_who_goes_away_takes_nobody_along() -> None:
    database = Database()
    gathering = _gathering(database, most=3)
    first, gone, *rest = await _start(gathering, *"abcde")
    gone.cancel()
    first.cancel()  # while it is under way, and the others wait for its end
    await eventually_async(lambda: len(database.sent) == 2)
    assert database.sent == [["a"], ["c", "d", "e"]]
    rest[0].cancel()  # while its batch is under way
    database.gate.set()
    answers = await asyncio.gather(first, gone, *rest, return_exceptions=True)
    assert [type(answer) for answer in answers[:3]] == [asyncio.CancelledError] * 3
    assert answers[3:] == ["d", "e"]
    assert await gathering.send("fg") == "gf", "and what comes later is served"


async def test_the_last_callers_who_all_go_away_leave_nothing_behind() -> None:
    database = Database()
    gathering = _gathering(database)
    first, second, third = await _start(gathering, *"abc")
    second.cancel()
    third.cancel()
    database.gate.set()
    assert await first == "a"
    assert database.sent == [["a"]]
    assert await gathering.send("fg") == "gf"


async def test_beyond_the_limit_callers_are_told_to_come_back() -> None:
    database = Database()
    gathering = _gathering(database, limit=2)
    tasks = await _start(gathering, *"abcd")
    with pytest.raises(Unavailable) as refused:
        await tasks[3]
    assert refused.value.code == BUSY[0]
    database.gate.set()
    assert await asyncio.gather(*tasks[:3]) == list("abc")
    assert await gathering.send("d") == "d"


async def test_what_gathers_does_not_wait_for_ever_for_one_that_is_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.api.gathering.PATIENCE", 0.0)
    database = Database()
    tasks = await _start(_gathering(database, most=2), *"abcde")
    await eventually_async(lambda: sum(map(len, database.sent)) == 5)
    database.gate.set()
    assert await asyncio.gather(*tasks) == list("abcde")


async def test_closing_waits_for_what_is_under_way() -> None:
    database = Database()
    gathering = _gathering(database)
    tasks = await _start(gathering, *"abc")
    tasks[0].cancel()
    await eventually_async(lambda: database.sent == [["a"], ["b", "c"]])
    for task in tasks[1:]:
        task.cancel()
    closing = asyncio.create_task(gathering.close())
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not closing.done(), "its callers are gone, and it still commits"
    database.gate.set()
    await closing
