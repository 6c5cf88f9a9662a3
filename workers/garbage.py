"""How a worker process collects garbage. For whoever owns the process: it changes the whole interpreter."""

import gc

YOUNG = 20_000
"""Objects between two looks at the young ones. With Python's 700 there is one for every 50 small jobs."""


def collect_seldom() -> None:
    """Never look again at what is here now (modules, handlers), and seldom at what jobs leave behind.

    The full look, 80 ms in which nothing else runs, is over what jobs made alone. What a job makes goes as soon as
    nothing refers to it; only cycles wait for the collector.
    """
    # Without a collection before it: that takes 80 ms of a start and finds nothing to speak of.
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)


def collect_young() -> None:
    """Look at what is new, where the looks are seldom; once a second, so that few large cycles do not wait for many."""
    if gc.get_freeze_count():
        gc.collect(1)
