"""The fact bus: who hears what, and that a listener never harms the work it observes."""

import logging
from dataclasses import dataclass

import pytest

from app.events import publish, subscribe


@dataclass(frozen=True)
class Happened:
    """A fact."""

    number: int


@dataclass(frozen=True)
class OtherHappened:
    """Another fact."""


def test_a_fact_reaches_its_subscribers_in_order_until_they_leave() -> None:
    heard: list[tuple[str, int]] = []
    leave_first = subscribe(Happened, lambda fact: heard.append(("first", fact.number)))
    leave_second = subscribe(Happened, lambda fact: heard.append(("second", fact.number)))
    publish(Happened(1))
    leave_first()
    publish(Happened(2))
    leave_second()
    publish(Happened(3))
    assert heard == [("first", 1), ("second", 1), ("second", 2)]


def test_a_fact_of_another_type_is_not_heard() -> None:
    heard: list[object] = []
    leave = subscribe(Happened, heard.append)
    publish(OtherHappened())
    leave()
    assert heard == []


def test_a_failing_subscriber_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Happened] = []

    def broken(fact: Happened) -> None:
        raise RuntimeError("no disk")

    leave_broken, leave_good = subscribe(Happened, broken), subscribe(Happened, heard.append)
    with caplog.at_level(logging.ERROR):
        publish(Happened(1))
    leave_broken()
    leave_good()
    assert heard == [Happened(1)]
    assert "Happened" in caplog.text
    assert "no disk" in caplog.text
