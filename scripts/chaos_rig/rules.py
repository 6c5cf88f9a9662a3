"""What a fault proxy can do to a request, and how a request is chosen. No sockets here."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from scripts.chaos_rig.wire import Request

Action = Literal["cut_before", "drop_reply", "cut_reply", "hold_before", "hold_reply"]
Direction = Literal["both", "questions", "answers"]
Match = Callable[[Request], bool]


@dataclass(eq=False)
class Rule:
    """A fault waiting for its request. `hit` is set when it strikes; a hold lasts until `release()`."""

    action: Action
    matches: Match
    times: int
    skip: int = 0
    after_bytes: int = 0
    hit: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Let what is held go on."""
        self.released.set()

    def name_for(self, request: Request) -> str:
        """What to count the strike as."""
        if self.action == "drop_reply":
            return "drop_commit_reply" if request.commits else "drop_reply"
        if self.action == "cut_before":
            return "cut_before_commit" if request.commits else "cut_before"
        return self.action

    async def hold(self) -> None:
        """Wait for the release."""
        self.hit.set()
        while not self.released.is_set():
            await asyncio.sleep(0.002)


@dataclass
class Weather:
    """What every connection suffers from."""

    black: Direction | None = None
    delay: float = 0.0
    drip_bytes: int = 0
    drip_pause: float = 0.0


def commits(request: Request) -> bool:
    """Matches what makes the server commit: COMMIT, or a writing statement outside a transaction."""
    return request.commits


def explicit_commit(request: Request) -> bool:
    """Matches COMMIT."""
    return request.is_commit


def saying(text: str) -> Match:
    """Matches requests with a statement that contains `text`."""
    return lambda request: request.says(text)


def nth(number: int) -> Match:
    """Matches the n-th request of a connection, from 1."""
    return lambda request: request.number == number
