"""How many workers the backlog asks for, and how the number follows: bounds, steps, no to and fro."""

import pytest

from app.cli.worker import parse_processes
from app.database.connect import connect, connect_sync
from app.errors import ConfigurationError
from app.queue.admin import pause_queue
from app.queue.eta import EtaStore, Sample
from app.queue.scaling import Bounds, Demand, Scaler, measure_demand, wanted_slots
from app.queue.store import Store
from tests.support.admission import limit, manage
from tests.support.claims import add, claim

IDLE = [Demand("q", 0, 0, 1.0, None)]


def busy(waiting: int, running: int = 0, mean: float | None = 1.0, most: int | None = None) -> list[Demand]:
    return [Demand("q", waiting, running, mean, most)]


def test_wanted_slots() -> None:
    assert wanted_slots(IDLE, drain=30) == 0
    assert wanted_slots(busy(3000), drain=30) == 100
    assert wanted_slots(busy(300, running=5, mean=0.01), drain=30) == 6
    assert wanted_slots(busy(4, mean=600.0), drain=30) == 4, "no more slots than jobs"
    assert wanted_slots(busy(3000, mean=None), drain=30) == 100
    assert wanted_slots(busy(3000, running=2, most=7), drain=30) == 7
    assert wanted_slots(busy(3000, running=9, most=7), drain=30) == 9, "a lowered limit ends nothing"
    assert wanted_slots([*busy(30), *busy(60)], drain=30) == 3


def test_it_grows_one_by_one_to_its_most_and_waits_between_two_steps() -> None:
    scaler, count, counts = Scaler(Bounds(1, 3), slots=10, up=5.0), 1, []
    for second in range(20):
        count = scaler.step(count, busy(100_000), float(second))
        counts.append(count)
    assert counts[:2] == [1, 2] and counts[5:7] == [2, 3] and counts[-1] == 3


def test_it_shrinks_when_one_was_spare_for_long_and_not_below_its_least() -> None:
    scaler, count, counts = Scaler(Bounds(1, 4), slots=10, down=60.0), 3, []
    for second in range(200):
        count = scaler.step(count, IDLE, float(second))
        counts.append(count)
    assert (counts[59], counts[60], counts[-1]) == (3, 2, 1)
    assert counts.index(1) - counts.index(2) >= 60


def test_a_backlog_that_comes_and_goes_changes_nothing() -> None:
    scaler, count = Scaler(Bounds(1, 8), slots=10, up=5.0, down=60.0), 3
    for second in range(600):
        peak = second % 30 == 0
        count = scaler.step(count, busy(0, running=35 if peak else 12), float(second))
        assert count == 3
    assert scaler.wanted(busy(0, running=21)) == 3
    for second in range(600, 1200):
        count = scaler.step(count, busy(0, running=21 if second % 2 else 19), float(second))
        assert count == 3, "near the border neither"


def test_what_is_missing_to_the_least_starts_at_once() -> None:
    assert Scaler(Bounds(2, 4), slots=10).step(1, IDLE, 0.0) == 2


@pytest.mark.parametrize(
    "text", ["0", "x", "auto:", "auto:3-2", "auto:0-2", "auto:1-65", "auto:1", "-1", "1-2"]
)
def test_processes_that_nobody_can_mean(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_processes(text)


def test_processes_as_people_write_them() -> None:
    assert (parse_processes("4"), parse_processes("auto:2-8")) == (Bounds(4, 4), Bounds(2, 8))
    assert parse_processes("auto").least == 1


async def test_the_demand_is_the_databases(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        await Store(connection).declare_queues(["default", "mail", "off"])
        await add(connection, 5)
        await claim(connection, 2)
        sample = Sample(0, 0.0, 0.0).plus(4000.0)
        await EtaStore(connection).add_samples({("default", "test"): sample})
        await manage(connection, "mail")
        await limit(connection, "queue:mail", max_running=3)
        await add(connection, 7, queue="mail", partition_key="a")
        await add(connection, 9, queue="off")
        await pause_queue(connection, "off")
    with connect_sync(db_url, name="test") as asked:
        assert measure_demand(asked, ["default", "mail", "off", "new"]) == [
            Demand("default", 3, 2, 4.0, None),
            Demand("mail", 7, 0, None, 3),
            Demand("off", 0, 0, None, None),
            Demand("new", 0, 0, None, None),
        ]
