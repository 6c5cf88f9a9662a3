"""What the programs of all systems with topics share: the commands, and how a delivery's number tells its group.

Publishers and records are recorder.py's. Standard library alone, because it runs in every peer's environment.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from scripts.bench.peers import recorder
from scripts.bench.peers.recorder import Client, Payload, Recorder

TOPIC = "bench"
# Deliveries of group g are written down as n + g times this.
GROUP_STRIDE = 1_000_000_000


def group_names(spec: dict[str, Any]) -> list[str]:
    """The consumer groups of a run."""
    return [f"g{number}" for number in range(spec["groups"])]


def delivered(record: Recorder, group: int, payload: Payload) -> None:
    """A group's handler starts."""
    record.ran(group * GROUP_STRIDE + payload["n"], payload["t"])


def replaying() -> None:
    """Tell the driver that the replay is asked for now."""
    recorder.say(replaying=time.time())


Prepare = Callable[[str, dict[str, Any]], Awaitable[None]]
Open = Callable[[str, dict[str, Any]], Awaitable[Client]]
Consume = Callable[[str, dict[str, Any], Recorder], Awaitable[None]]
Remaining = Callable[[str, dict[str, Any]], Awaitable[int]]


def main(*, prepare: Prepare, open_client: Open, consume: Consume, remaining: Remaining) -> None:
    """`topics.py setup|produce|work|remaining URL SPEC`: run one command.

    `spec["groups"]` groups exist from the start; with `spec["replay"]` the consumer makes them at the log's beginning.
    """
    command, url, spec = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    asyncio.run(_run(command, url, spec, prepare, open_client, consume, remaining))


async def _run(
    command: str,
    url: str,
    spec: dict[str, Any],
    prepare: Prepare,
    open_client: Open,
    consume: Consume,
    remaining: Remaining,
) -> None:
    async def opened() -> Client:
        return await open_client(url, spec)

    if command == "setup":
        await prepare(url, spec)
    elif command == "produce":
        await recorder.produce(spec, opened)
    elif command == "remaining":
        recorder.say(remaining=await remaining(url, spec))
    else:
        await consume(url, spec, Recorder(spec))
