"""An older timeline than one seen before is an old primary, and refused; another host of the address is asked."""

import pytest

from app.database.connect import _orders
from app.database.primary import OldTimelineError, Reached, Timelines, read


def test_an_older_timeline_is_refused_and_the_way_out_said() -> None:
    timelines = Timelines()
    timelines.check(Reached(1, system=7, timeline=3))
    timelines.check(Reached(1, system=7, timeline=4))
    timelines.check(Reached(1, system=8, timeline=1))  # another cluster
    timelines.check(Reached(1, system=7, timeline=None))  # a standby has none to judge
    with pytest.raises(OldTimelineError, match=r"timeline 3, another one was promoted to 4.*restart"):
        timelines.check(Reached(1, system=7, timeline=3))
    timelines.check(Reached(1, system=7, timeline=4))


def test_timelines_are_read_as_the_server_writes_them() -> None:
    assert read((1, 2, "0000001A")).timeline == 26
    assert read((1, 2, None)).timeline is None


def test_every_host_of_an_address_comes_first_once() -> None:
    orders = list(_orders("host=a,b,c port=1,2,3 dbname=x"))
    assert [order.split()[:2] for order in map(str, orders)]
    assert len(orders) == 3
    assert "host=b,c,a" in orders[1]
    assert "port=2,3,1" in orders[1]
    assert len(list(_orders("host=a dbname=x"))) == len(list(_orders("dbname=x"))) == 1
