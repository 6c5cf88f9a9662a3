"""A TCP proxy for PostgreSQL that breaks connections on purpose: at a chosen statement, or all of them at once.

Runs in a thread of its own; every method may be called from any thread. Tests and scripts/chaos use it.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable
from types import TracebackType
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

from scripts.chaos_rig.rules import Direction, Match, Rule, Weather, commits
from scripts.chaos_rig.wire import (
    GSS_REQUEST,
    READY,
    TLS_REQUEST,
    Part,
    Request,
    RequestReader,
    Splitter,
    startup_code,
)

BUFFER = 65536
FORGOTTEN_AFTER = 30.0
"""Seconds after the healing of a black hole until the server learns that the connections in it are gone."""


class FaultProxy:
    """Forwards to the server at `target`; clients connect to `url`. `counts` says which faults really happened."""

    def __init__(self, target: str, *, seed: int = 0) -> None:
        self._target = {
            key: str(value) for key, value in conninfo_to_dict(target).items() if value is not None
        }
        self.counts: Counter[str] = Counter()
        self.weather = Weather()
        self.random = random.Random(seed)  # noqa: S311 - jitter
        self._rules: list[Rule] = []
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name="fault-proxy", daemon=True)
        self._thread.start()
        user, database = quote(self._target.get("user", "postgres")), quote(self._target["dbname"])
        secret = f":{quote(self._target['password'])}" if "password" in self._target else ""
        port = self._socket.getsockname()[1]
        self.url = (
            f"postgresql://{user}{secret}@127.0.0.1:{port}/{database}?sslmode=disable&gssencmode=disable"
        )

    # --- faults ----------------------------------------------------------------------------------------------

    def drop_reply(self, matches: Match = commits, *, times: int = 1, skip: int = 0) -> Rule:
        """The server does what is asked, and the connection breaks before its answer."""
        return self._add(Rule("drop_reply", matches, times, skip))

    def cut_before(self, matches: Match = commits, *, times: int = 1, skip: int = 0) -> Rule:
        """The connection breaks, and the request never reaches the server."""
        return self._add(Rule("cut_before", matches, times, skip))

    def cut_reply(self, after_bytes: int, matches: Match = commits, *, times: int = 1, skip: int = 0) -> Rule:
        """The connection breaks after so many bytes of the answer."""
        return self._add(Rule("cut_reply", matches, times, skip, after_bytes))

    def hold_before(self, matches: Match, *, skip: int = 0) -> Rule:
        """The request waits here, unseen by the server, until the rule is released."""
        return self._add(Rule("hold_before", matches, 1, skip))

    def hold_reply(self, matches: Match, *, skip: int = 0) -> Rule:
        """The server has done what was asked; its answer waits here until the rule is released."""
        return self._add(Rule("hold_reply", matches, 1, skip))

    def blackhole(self, direction: Direction = "both") -> None:
        """What arrives disappears; a connection that lost something stays dark even after `heal`."""
        self._call(lambda: self._darken(direction))

    def delay(self, seconds: float) -> None:
        """Each piece of data waits up to twice as long."""
        self.weather.delay = seconds
        self.counts["delay"] += 1

    def drip(self, size: int, pause: float) -> None:
        """Data pass in pieces of `size` bytes with `pause` seconds between."""
        self.weather.drip_bytes, self.weather.drip_pause = size, pause
        self.counts["slow_drip"] += 1

    def reset_all(self) -> None:
        """Every connection ends with RST on both sides."""
        self._call(self._reset_all)

    def withdraw(self, rule: Rule) -> None:
        """Take back a rule that has not struck, or not as often as it may."""
        with self._lock:
            if rule in self._rules:
                self._rules.remove(rule)
        rule.release()

    def calm(self) -> None:
        """Forward faithfully from now on; rules stay. What was lost in a black hole stays lost."""
        self._call(self._calm)

    def heal(self) -> None:
        """Forward faithfully from now on, and forget the rules that have not struck."""
        self._call(self._heal)

    # --- life ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End every connection and the thread."""
        with self._lock:
            held, self._rules = self._rules, []
        for rule in held:
            rule.release()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def __enter__(self) -> "FaultProxy":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _main(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, sock=self._socket, limit=BUFFER)
        await self._stop.wait()
        server.close()
        for link in list(self._links):
            link.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not a coroutine: asyncio would complain about each one that `close` cancels.
        link = _Link(self, reader, writer)
        self._links.add(link)
        task = self._loop.create_task(link.run(self._target))
        self._tasks.add(task)

        def ended(task: "asyncio.Task[None]") -> None:
            self._links.discard(link)
            self._tasks.discard(task)

        task.add_done_callback(ended)

    def _call(self, what: Callable[[], None]) -> None:
        """Run in the proxy's thread and wait until it is done."""
        done = threading.Event()

        def run() -> None:
            what()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait(10)

    def _darken(self, direction: Direction) -> None:
        self.weather.black = direction
        self.counts["blackhole"] += 1

    def _reset_all(self) -> None:
        for link in list(self._links):
            link.reset()
        self.counts["reset"] += 1

    def _heal(self) -> None:
        self._calm()
        with self._lock:
            rules, self._rules = self._rules, []
        for rule in rules:
            rule.release()

    def _calm(self) -> None:
        self.weather = Weather()
        for link in self._links:
            if link.dark:
                self._loop.call_later(FORGOTTEN_AFTER, link.reset)

    def _add(self, rule: Rule) -> Rule:
        with self._lock:
            self._rules.append(rule)
        return rule

    def take(self, request: Request) -> Rule | None:
        """The rule that strikes this request, if any; counts it."""
        with self._lock:
            for rule in self._rules:
                if not rule.matches(request):
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                    continue
                rule.times -= 1
                if rule.times <= 0:
                    self._rules.remove(rule)
                self.counts[rule.name_for(request)] += 1
                return rule
        return None


class _Link:
    """One client's connection and the one to the server behind it."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self._dark: set[Direction] = set()
        self._client = (reader, writer)
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._requests = RequestReader()
        self._answers = Splitter(from_client=False)
        self._open: deque[Rule | None] = deque()
        self._sent = 0

    @property
    def dark(self) -> bool:
        """Whether something was lost in a black hole: then nothing that follows would make sense."""
        return bool(self._dark)

    async def run(self, target: dict[str, str]) -> None:
        """Forward until one side ends."""
        try:
            self._server = await _connect(target)
        except OSError:
            self.reset()
            return
        questions = asyncio.create_task(self._forward_questions())
        answers = asyncio.create_task(self._forward_answers())
        try:
            await asyncio.wait([questions, answers], return_when=asyncio.FIRST_COMPLETED)
            if self.dark:  # the end of one side is not seen on the other
                await asyncio.wait([questions, answers])
        finally:
            questions.cancel()
            answers.cancel()
            await asyncio.gather(questions, answers, return_exceptions=True)
            # Not RST: what was sent before the end still arrives, as it does when a process dies.
            for _, writer in (self._client, self._server):
                writer.close()

    def reset(self) -> None:
        """End both sides with RST."""
        for side in (self._client, self._server):
            if side is None:
                continue
            transport = side[1].transport
            with contextlib.suppress(OSError):
                side[1].get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            transport.abort()

    async def _forward_questions(self) -> None:
        reader, server = self._client[0], self._server
        assert server is not None  # noqa: S101 - run opened it
        with contextlib.suppress(OSError):
            while data := await reader.read(BUFFER):
                if self._lost("questions"):
                    continue
                for part in self._requests.feed(data):
                    if not await self._ask(part, server[1]):
                        return

    async def _ask(self, part: Part, server: asyncio.StreamWriter) -> bool:
        """Forward one part; False when the connection was cut instead."""
        if len(part.raw) == 8 and startup_code(part.raw) in (TLS_REQUEST, GSS_REQUEST):
            self._client[1].write(b"N")
            return True
        rule = self.proxy.take(part.request) if part.request is not None else None
        if rule is not None and rule.action == "cut_before":
            rule.hit.set()
            self.reset()
            return False
        if rule is not None and rule.action == "hold_before":
            await rule.hold()
        if part.request is not None:
            self._open.append(rule)
        await self._send(server, part.raw)
        return True

    async def _forward_answers(self) -> None:
        server, client = self._server, self._client[1]
        assert server is not None  # noqa: S101 - run opened it
        with contextlib.suppress(OSError):
            while data := await server[0].read(BUFFER):
                if self._lost("answers"):
                    continue
                passed = bytearray()
                for message in self._answers.feed(data):
                    rule = self._open[0] if self._open else None
                    ends = message.kind == READY
                    if ends:
                        self._requests.in_transaction = message.raw[5:6] != b"I"
                        if self._open:
                            self._open.popleft()
                    if rule is not None and rule.action == "cut_reply":
                        left = rule.after_bytes - self._sent
                        self._sent += len(message.raw)
                        passed += message.raw[: max(0, left)]
                    elif rule is None or rule.action != "drop_reply":
                        passed += message.raw
                    if rule is not None and ends:
                        if rule.action == "hold_reply":
                            await rule.hold()
                        elif rule.action in ("drop_reply", "cut_reply"):
                            # Only now: the server is done with the request, whatever it was.
                            await self._send(client, bytes(passed))
                            rule.hit.set()
                            self.reset()
                            return
                await self._send(client, bytes(passed))

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        weather = self.proxy.weather
        if weather.delay:
            await asyncio.sleep(weather.delay * 2 * self.proxy.random.random())
        size = weather.drip_bytes or len(data) or 1
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await writer.drain()
            if self.proxy.weather.drip_bytes:
                await asyncio.sleep(weather.drip_pause)

    def _lost(self, direction: Direction) -> bool:
        black = self.proxy.weather.black
        if black == "both":
            self._dark |= {"questions", "answers"}
        elif black == direction:
            self._dark.add(direction)
        return direction in self._dark


async def _connect(target: dict[str, str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = target.get("host", "127.0.0.1"), int(target.get("port", 5432))
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)
