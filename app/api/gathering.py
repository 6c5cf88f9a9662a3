"""Group commit: what comes while one transaction is under way is sent together in the next one.

Knows no SQL and no HTTP: how to send one and how to send many is given. What was sent alone is answered alone.
"""

import asyncio
import contextvars
import copy
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, Final, Generic, TypeVar, cast

from app import events
from app.api.facts import Gathered
from app.api.failures import Sparing
from app.api.sqlstates import AWAY, BUSY, UNKNOWN
from app.errors import AppError, OutcomeUnknown, Unavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")

PATIENCE: Final = 0.05
"""Seconds after which what gathered no longer waits for the transaction before it: that one may wait for a lock."""
_ONE: Final = Gathered(1)
_ALONE: Final = object()
"""Tells who waits that its batch failed and nothing was done: it goes on by itself."""
_log = logging.getLogger(__name__)


class _Waiting(Generic[Item]):
    """One that gathers, since when, and where its answer goes."""

    __slots__ = ("answer", "item", "since")

    def __init__(self, item: Item, since: float) -> None:
        self.item = item
        self.since = since
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Gathering(Generic[Item, Answer]):
    """Sends an item at once when nothing is under way, else together with at most `most` others.

    `alone` and `together` get the time (of monotonic) since which an item waits. Whatever `together` raises must have
    left nothing behind, but for OutcomeUnknown. At most `limit` wait for their answers.
    """

    def __init__(
        self,
        alone: Callable[[Item, float], Awaitable[Answer]],
        together: Callable[[Sequence[Item], float], Awaitable[Sequence[Answer]]],
        *,
        most: int,
        limit: int,
    ) -> None:
        self._alone = alone
        self._together = together
        self._most = most
        self._limit = limit
        self._waiting: deque[_Waiting[Item]] = deque()
        self._unanswered = 0
        self._under_way = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = Sparing(_log)

    async def send(self, item: Item) -> Answer:
        """The item's own answer, once its transaction is committed. Raises what `alone` raises, and Unavailable."""
        now = monotonic()
        if self._most == 1:
            return await self._alone(item, now)
        if self._under_way == 0:
            return await self._first(item, now)
        if self._unanswered >= self._limit:
            raise Unavailable(*BUSY)
        waiting = _Waiting(item, now)
        self._waiting.append(waiting)
        if self._timer is None:
            self._wait_no_longer_than(PATIENCE)
        self._unanswered += 1
        try:
            answer = await waiting.answer
            return await self._alone(item, now) if answer is _ALONE else cast(Answer, answer)
        finally:
            self._unanswered -= 1

    async def send_alone(self, item: Item) -> Answer:
        """The same in a transaction of its own, whatever else is under way: for what is larger than the rest."""
        return await self._alone(item, monotonic())

    async def close(self) -> None:
        """Wait until nothing is under way any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _first(self, item: Item, now: float) -> Answer:
        self._under_way += 1
        try:
            return await self._alone(item, now)
        finally:
            self._under_way -= 1
            self._go_on()
            events.publish(_ONE)

    def _wait_no_longer_than(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._launch)

    def _go_on(self) -> None:
        if self._waiting and self._under_way == 0:
            self._launch()

    def _launch(self) -> None:
        """Send the next batch, whatever else is under way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch: list[_Waiting[Item]] = []
        while self._waiting and len(batch) < self._most:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():  # its caller is still there
                batch.append(waiting)
        if not batch:
            return
        if self._waiting:
            self._wait_no_longer_than(PATIENCE)
        self._under_way += 1
        # A task of its own, in no request's context: a caller who goes away must not take the others with it.
        task = asyncio.get_running_loop().create_task(self._send(batch), context=contextvars.Context())
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _send(self, batch: list[_Waiting[Item]]) -> None:
        error: Exception | None = None
        answers: Sequence[Any] = ()
        try:
            if len(batch) == 1:
                answers = [await self._alone(batch[0].item, batch[0].since)]
            else:
                answers = await self._together([one.item for one in batch], batch[0].since)
            if len(answers) != len(batch):
                raise OutcomeUnknown(*UNKNOWN)
        except Exception as raised:
            error = raised
        except BaseException:  # the process ends
            for one in batch:
                one.answer.cancel()
            raise
        finally:
            self._under_way -= 1
        self._go_on()  # first: the server works on the next ones while these are answered
        events.publish(Gathered(len(batch), failed=error is not None))
        if error is not None:
            self._tell(batch, error)
            return
        for one, answer in zip(batch, answers, strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)

    def _tell(self, batch: list[_Waiting[Item]], error: Exception) -> None:
        """What went wrong, to each: lost connections are everybody's, all else may be one's own."""
        everybodys = len(batch) == 1 or isinstance(error, OutcomeUnknown)
        everybodys |= isinstance(error, Unavailable) and error.code == AWAY[0]
        if not everybodys:
            # The words of others than ourselves may hold values.
            said = error.code if isinstance(error, AppError) else type(error).__name__
            self._failures.warning("%d sent together were refused (%s): each is sent alone", len(batch), said)
        for one in batch:
            if one.answer.done():
                continue
            if everybodys:
                one.answer.set_exception(error if len(batch) == 1 else copy.copy(error))  # a traceback each
            else:
                one.answer.set_result(_ALONE)
