"""What a run of topics uses at the server: CPU of its processes, and the bytes that it has written to its files."""

from scripts.bench.brokers import Broker
from scripts.bench.meter import Cost, Meter

# WAL files are filled with zeros before they are used again and again: that is no message's cost.
WRITTEN = """
SELECT (coalesce(sum(write_bytes), 0) + coalesce(sum(extend_bytes), 0))::bigint FROM pg_stat_io
WHERE NOT (object = 'wal' AND context = 'init')"""


class ServerSpending:
    """A database of ours: statements, WAL, CPU, and what is written to WAL and tables, with a checkpoint at the end."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._before: Cost | None = None
        self._written: float | None = None

    def begin(self) -> None:
        """Count from here."""
        self._meter.run("CHECKPOINT")  # what was written before is not to be counted at the end
        self._before, self._written = self._meter.read(), float(self._meter.number(WRITTEN))

    def per_message(self, messages: int) -> dict[str, float | None]:
        """Used since then."""
        if self._before is None:
            raise RuntimeError("begin() comes first")
        used = self._meter.read().since(self._before)
        self._meter.run("CHECKPOINT")
        written = float(self._meter.number(WRITTEN))
        return {
            "statements": used.statements / messages,
            "wal_bytes": used.wal / messages,
            "server_cpu_us": used.server_cpu / messages * 1e6,
            "disk_bytes": _difference(written, self._written, messages),
        }


class BrokerSpending:
    """A broker's processes: CPU and bytes written to disk."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._cpu = 0.0
        self._written: float | None = None

    def begin(self) -> None:
        """Count from here."""
        self._cpu, self._written = self._broker.cpu_seconds(), self._broker.disk_bytes()

    def per_message(self, messages: int) -> dict[str, float | None]:
        """Used since then."""
        return {
            "statements": None,
            "wal_bytes": None,
            "server_cpu_us": (self._broker.cpu_seconds() - self._cpu) / messages * 1e6,
            "disk_bytes": _difference(self._broker.disk_bytes(), self._written, messages),
        }


def _difference(now: float | None, before: float | None, messages: int) -> float | None:
    return None if now is None or before is None else (now - before) / messages
