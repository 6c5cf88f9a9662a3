"""For tests of handlers and of code that enqueues: run jobs here and now, look at what was enqueued, move the clock.

Plain functions for any test runner. Names without a suffix are for synchronous tests, those with `_async` for others.
"""

from workers.testing.assertions import (
    ANY_TIME,
    WaitingJob,
    assert_enqueued,
    assert_enqueued_async,
    assert_not_enqueued,
    assert_not_enqueued_async,
)
from workers.testing.clock import AsyncFakeClock, FakeClock, fake_clock, fake_clock_async, shifted
from workers.testing.databases import fresh_database
from workers.testing.drain import drain, drain_async
from workers.testing.inline import inline, inline_async
from workers.testing.report import DrainReport, Ran

__all__ = [
    "ANY_TIME",
    "AsyncFakeClock",
    "DrainReport",
    "FakeClock",
    "Ran",
    "WaitingJob",
    "assert_enqueued",
    "assert_enqueued_async",
    "assert_not_enqueued",
    "assert_not_enqueued_async",
    "drain",
    "drain_async",
    "fake_clock",
    "fake_clock_async",
    "fresh_database",
    "inline",
    "inline_async",
    "shifted",
]
