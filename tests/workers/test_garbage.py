"""A worker process looks at its garbage seldom, and finds it all the same."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from workers.garbage import YOUNG, collect_seldom, collect_young


class Node:
    """Refers to itself: only the collector can end it."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.usefixtures("collector")
def test_what_a_job_leaves_is_collected_and_what_the_process_began_with_is_left_alone() -> None:
    early = Node()
    collect_seldom()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] == YOUNG
    assert not any(one is early for one in gc.get_objects()), "frozen objects are looked at no more"
    late = weakref.ref(Node())
    kept: list[list[int]] = []
    while late() is not None and len(kept) < 3 * YOUNG:
        kept.append([len(kept)])
    assert late() is None


@pytest.mark.usefixtures("collector")
def test_one_large_thing_in_a_cycle_does_not_wait_for_thousands_of_small_ones() -> None:
    gc.disable()  # nothing but the call below may end it
    try:
        collect_young()
        early = weakref.ref(Node())
        collect_young()
        assert early() is not None, "a process that never asked for it keeps Python's own ways"
        collect_seldom()
        late = weakref.ref(Node())
        collect_young()
        assert late() is None
    finally:
        gc.enable()
