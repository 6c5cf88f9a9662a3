"""Clients of W9: keep-alive connections that send the next conversation as soon as the last one is answered.

Written on plain sockets, because an HTTP library would cost more than the server that it measures.
Usage: python -m scripts.bench.http_load PORT CLIENTS SECONDS SLICE
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

TEXT = "I watched the new movie with my family and we really liked the music in it. " * 2
TURNS = 8


@dataclass
class Seen:
    """Answers: how long each took in milliseconds, and how many there were of each status."""

    waits: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)


def conversation(number: int) -> bytes:
    """A request body whose log has about 2 KB."""
    log = [
        {
            "speaker": "user" if turn % 2 else "bot",
            "text": TEXT,
            "timestamp": f"2026-11-20T10:00:{turn:02d}Z",
        }
        for turn in range(TURNS)
    ]
    return json.dumps(
        {
            "conversation_id": f"bench_{number}",
            "profile_id": f"user_{number % 1000}",
            "bot_type": "TALK",
            "bot_id": "talk_movie_preference",
            "bot_name": "Movie Preference Talk",
            "start_time": "2026-11-20T10:00:00Z",
            "end_time": "2026-11-20T10:05:00Z",
            "conversation_log": log,
        }
    ).encode()


async def load(port: int, clients: int, seconds: float, *, first: int) -> Seen:
    """Send until the time is up."""
    seen = Seen()
    end = time.monotonic() + seconds
    await asyncio.gather(*(_client(port, end, first + i * 1_000_000, seen) for i in range(clients)))
    return seen


async def _client(port: int, end: float, number: int, seen: Seen) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.monotonic() < end:
            body = conversation(number)
            number += 1
            began = time.perf_counter()
            writer.write(
                b"POST /v1/conversations/end HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body
            )
            status = await _answer(reader)
            seen.waits.append((time.perf_counter() - began) * 1000)
            seen.statuses[status] = seen.statuses.get(status, 0) + 1
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


def main() -> None:
    """A second of warm-up, then the measurement; one JSON line. Each slice has conversations of its own."""
    port, clients, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    first = int(sys.argv[4]) * 1_000_000_000
    warm = asyncio.run(load(port, clients, 1.0 if first == 0 else 0.2, first=first + 500_000))
    began, used = time.monotonic(), time.process_time()
    seen = asyncio.run(load(port, clients, seconds, first=first))
    facts = {
        "seconds": time.monotonic() - began,
        "cpu": time.process_time() - used,
        "warm_up": len(warm.waits),
        "statuses": seen.statuses,
        "waits": seen.waits,
    }
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
