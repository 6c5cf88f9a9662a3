"""What a run of jobs costs a broker, and how many jobs it holds: meter.py's part where there is no PostgreSQL."""

import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from scripts.bench.brokers import Broker


@dataclass(frozen=True)
class BrokerCost:
    """A broker's CPU seconds and the bytes that it has had written, or the difference of two readings."""

    cpu: float
    disk: float | None

    def since(self, before: Any) -> "BrokerCost":
        """What happened between two readings of this meter."""
        unknown = self.disk is None or before.disk is None
        return BrokerCost(
            self.cpu - before.cpu, None if unknown else (self.disk or 0.0) - (before.disk or 0.0)
        )

    def per_job(self, jobs: int) -> dict[str, float | None]:
        """Divided by the jobs; it has no statements and no WAL."""
        return {
            "statements_per_job": None,
            "wal_per_job": None,
            "server_cpu_us_per_job": self.cpu / max(1, jobs) * 1e6,
            "disk_bytes_per_job": None if self.disk is None else self.disk / max(1, jobs),
        }


class RedisMeter:
    """Reads a Redis server over a connection of its own."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        parts = urlsplit(broker.url)
        self._socket = socket.create_connection(
            (parts.hostname or "127.0.0.1", parts.port or 6379), timeout=30.0
        )
        self._answers = self._socket.makefile("rb")

    def read(self) -> BrokerCost:
        """The counters now."""
        return BrokerCost(self._broker.cpu_seconds(), self._broker.disk_bytes())

    def number(self, commands: str) -> int:
        """The sum of what commands answer, one a line (inline commands of the Redis protocol).

        They are asked for at once and in a transaction: a job that moves between them is counted once.
        """
        asked = [line.strip() for line in commands.splitlines() if line.strip()]
        self._socket.sendall("".join(f"{one}\r\n" for one in ("MULTI", *asked, "EXEC")).encode())
        for _ in range(len(asked) + 2):  # OK, QUEUED for each, and how many answers follow
            self._line()
        return sum(int(self._line().removeprefix(":")) for _ in asked)

    def run(self, statement: str) -> None:
        """Nothing: there is no planner that wants statistics."""

    def close(self) -> None:
        """Let the connection go."""
        self._answers.close()
        self._socket.close()

    def _line(self) -> str:
        line = self._answers.readline().decode().strip()
        if not line or line.startswith("-"):
            raise RuntimeError(f"Redis answers {line!r}")
        return line
