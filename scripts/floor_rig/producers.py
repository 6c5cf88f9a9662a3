"""Programs that know of the queue nothing but `SELECT tandem.enqueue(...)`, and commit when they please.

They keep the book of what was committed, taken back or given up. Judges nothing.
"""

import asyncio
import random
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import psycopg

PLAIN, MANAGED = ("floors", "floors_mail"), "floors_limited"
KEYS, KEY_LIMIT = 20, 4
ISOLATION = ("READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
ENQUEUE = """
    SELECT tandem.enqueue(%(kind)s, jsonb_build_object('n', n), queue => %(queue)s, priority => %(priority)s,
        partition_key => %(key)s,
        run_at => CASE WHEN %(later)s > 0 THEN clock_timestamp() + %(later)s * interval '1 s' END)
    FROM generate_series(1, %(count)s) AS n"""
PLAIN_KIND, FLAKY_KIND = "floors.plain", "floors.flaky"


@dataclass
class Book:
    """Job ids by what became of their transaction."""

    committed: dict[int, float] = field(default_factory=dict)
    """With the moment (monotonic) at which the commit had returned."""
    flaky: set[int] = field(default_factory=set)
    prompt: set[int] = field(default_factory=set)
    """Jobs for now, in queues without limits: their pick-up is a matter of floors and wake-up alone."""
    gone: set[int] = field(default_factory=set)
    producers: int = 0
    late: int = 0
    """Transactions that were open for more than a second, or a tenth of the longest delay."""
    refused: int = 0
    """Transactions that the server ended: serialization failures."""


class Producers:
    """Starts them in waves: a wrong floor shows when the older transactions have ended and a young one has not."""

    def __init__(self, url: str, book: Book, *, seed: int, delay: float, most: int) -> None:
        self.url = url
        self.book = book
        self.dice = random.Random(seed)  # noqa: S311 - a seed, no secret
        self.delay = delay
        self.most = most
        self._running = set[asyncio.Task[None]]()

    async def run(self, seconds: float) -> None:
        """Start producers for so long, in waves with a few stragglers after each, and wait until all have ended."""
        end = monotonic() + seconds
        while monotonic() < end:
            wave = min(end, monotonic() + self.delay * self.dice.uniform(0.3, 1.5))
            while monotonic() < wave:
                if len(self._running) < self.most:
                    self._start(self._produce(random.Random(self.dice.random())))  # noqa: S311
                await asyncio.sleep(self.delay / self.most / 8)
            await self._until_quiet()
            # In the quiet nobody draws transaction ids between theirs: the first to end leaves the others behind.
            for share in (0.2, 0.5, 0.8):
                self._start(self._produce(random.Random(self.dice.random()), self.delay * share))  # noqa: S311
            await self._until_quiet()

    async def _until_quiet(self) -> None:
        while self._running:
            await asyncio.wait(self._running)

    def _start(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _produce(self, dice: random.Random, straggles: float = 0.0) -> None:
        """One program: connects, enqueues in one transaction with pauses, commits or does not, and is gone.

        A straggler enqueues at once and commits after so many seconds.
        """
        seconds, ids = straggles or self.delay * dice.random() ** 4, list[int]()
        parts = 1 if straggles else dice.randint(1, 4)
        kept = Book()
        connection = await psycopg.AsyncConnection.connect(self.url)
        try:
            self.book.producers += 1
            await connection.execute(f"SET TRANSACTION ISOLATION LEVEL {dice.choice(ISOLATION)}".encode())
            began = monotonic()
            for _ in range(parts):
                ids += await self._part(connection, dice, kept)
                await asyncio.sleep(seconds / parts)
            if straggles or dice.random() < 0.8:
                await connection.commit()
                at = monotonic()
                self.book.committed |= dict.fromkeys(ids, at)
                self.book.flaky |= kept.flaky
                self.book.prompt |= kept.prompt
                self.book.late += at - began > min(1.0, self.delay / 10)
                ids = []
            elif dice.random() < 0.5:
                await connection.rollback()
        except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
            self.book.refused += 1
        finally:
            self.book.gone |= kept.gone | set(ids)
            await connection.close()  # without a word to the server if it is still in its transaction

    async def _part(
        self, connection: psycopg.AsyncConnection[Any], dice: random.Random, kept: Book
    ) -> list[int]:
        """Some jobs of one sort, now and then inside a savepoint, of which some are taken back."""
        fate = dice.random()
        if fate < 0.3:
            await connection.execute("SAVEPOINT here")
        queue = dice.choice((*PLAIN, *PLAIN, MANAGED))
        later = dice.uniform(0, self.delay / 4) if dice.random() < 0.15 else 0.0
        kind = FLAKY_KIND if dice.random() < 0.1 else PLAIN_KIND
        params = {
            "kind": kind, "queue": queue, "priority": dice.choice((3, 5)), "count": dice.randint(1, 3), "later": later,
            "key": f"k{dice.randrange(KEYS)}" if queue == MANAGED else None,
        }  # fmt: skip
        ids = [row[0] for row in await (await connection.execute(ENQUEUE, params)).fetchall()]
        if fate < 0.1:
            await connection.execute("ROLLBACK TO here")
            kept.gone |= set(ids)
            return []
        if fate < 0.3:
            await connection.execute("RELEASE here")
        if kind == FLAKY_KIND:
            kept.flaky |= set(ids)
        if queue in PLAIN and not later:
            kept.prompt |= set(ids)
        return ids


async def pin_reader(url: str, stop: asyncio.Event) -> None:
    """Holds one old snapshot for the whole run: nothing dead can be removed."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await connection.execute("SELECT count(*) FROM tandem.ready")
        await stop.wait()


async def pin_writer(url: str, book: Book, stop: asyncio.Event, delay: float) -> None:
    """Enqueues a job and idles in its transaction, again and again: no floor may pass it. Commits all of them."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        while not stop.is_set():
            row = await (
                await connection.execute("SELECT tandem.enqueue(%s, queue => %s)", (PLAIN_KIND, PLAIN[0]))
            ).fetchone()
            await _pause(stop, delay)
            await connection.commit()
            if row is not None:
                book.committed[row[0]] = monotonic()
                book.prompt.add(row[0])
            await _pause(stop, 2 * delay)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
