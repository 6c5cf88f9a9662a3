"""Waiting for something to become true, the only place in the tests where time is spent on purpose."""

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, overload

Value = TypeVar("Value")
HANGS = 60.0
"""Seconds after which it will not come any more, however busy the machine is. Nobody waits for them to pass."""


def eventually(condition: Callable[[], Value], timeout: float = HANGS, every: float = 0.02) -> Value:
    """The first truthy result of `condition`, asked again until `timeout` seconds are over.

    An AssertionError inside counts as "not yet". Raises AssertionError with the last result or error.
    """
    end = time.monotonic() + timeout
    while True:
        last: object
        try:
            if value := condition():
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() >= end:
            raise AssertionError(_message(condition, timeout, last))
        time.sleep(every)


@overload
async def eventually_async(
    condition: Callable[[], Coroutine[Any, Any, Value]],
    timeout: float = HANGS,  # noqa: ASYNC109
    every: float = 0.02,
) -> Value: ...
@overload
async def eventually_async(
    condition: Callable[[], Value],
    timeout: float = HANGS,  # noqa: ASYNC109
    every: float = 0.02,
) -> Value: ...
async def eventually_async(
    condition: Callable[[], object],
    timeout: float = HANGS,  # noqa: ASYNC109 - the same shape as its synchronous twin
    every: float = 0.02,
) -> object:
    """The same inside a coroutine; `condition` may be a coroutine function."""
    end = time.monotonic() + timeout
    while True:
        last: object
        try:
            result = condition()
            value = await result if inspect.isawaitable(result) else result
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() >= end:
            raise AssertionError(_message(condition, timeout, last))
        await asyncio.sleep(every)


def _message(condition: Callable[[], object], timeout: float, last: object) -> str:
    name = getattr(condition, "__qualname__", repr(condition))
    return f"{name} did not become true within {timeout:g} s; at last: {last!r}"
