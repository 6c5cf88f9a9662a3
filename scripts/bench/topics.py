"""The workloads T1 to T4 of the performance page: topics of Tandem, and of brokers beside it.

A message goes to every group; jobs_s counts messages, not deliveries, and costs are per message published.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from scripts.bench.evidence import Start, lost_and_doubled, percentiles, rate, read
from scripts.bench.peers.messages import GROUP_STRIDE
from scripts.bench.price import dollars_per_million
from scripts.bench.programs import ProgramFailedError, Programs, wait_until
from scripts.bench.results import Line
from scripts.bench.workloads import Options, pinned

RATE = 500.0
BATCH = 500
T1_SECONDS = 20.0
T2_MESSAGES = 50_000
T3_MESSAGES = 1_000_000
PATIENCE = 300.0


class Spending(Protocol):
    """Reads what the system under measurement has used so far."""

    def begin(self) -> None:
        """Count from here."""

    def per_message(self, messages: int) -> dict[str, float | None]:
        """Used since then by the server, per message: statements, wal_bytes, server_cpu_us, disk_bytes."""


@dataclass
class TopicRun:
    """One measurement under way. `pin_url` is a database whose snapshots can be held."""

    programs: Programs
    spending: Spending
    options: Options
    line: Line
    pin_url: str | None = None
    spec: dict[str, Any] = field(default_factory=dict)

    def set_up(self, *, replay: bool = False) -> None:
        """Make topic and groups."""
        self.spec = {"groups": self.options.groups, "replay": replay}
        self.programs.start("setup", **self.spec).finish(120)

    def start_consumers(self) -> None:
        """So many processes, each of which serves every group."""
        self.programs.start_workers(self.options.workers, **self.spec)

    def publish(self, messages: int, **spec: Any) -> dict[str, Any]:
        """Flat out, a batch confirmed before the next."""
        return self.programs.produce("bulk", jobs=messages, batch=BATCH, **self.spec, **spec)

    def until_handled(self, messages: int) -> None:
        """Wait until so many messages were handled by every group; `end` finds out a run that never gets there."""

        def handled() -> bool:
            self.programs.ensure_alive()
            return self.programs.ran() >= messages * self.options.groups

        wait_until(handled, self.options.seconds or PATIENCE)

    def end(self) -> list[Start]:
        """Stop the consumers, count costs, and check that every group got every message once."""
        line = self.line
        line.rss_mb = max(worker.rss_mb() for worker in self.programs.workers)
        self.programs.stop_workers()
        published = line.n = sum(int(facts["n"]) for facts in self.programs.produced)
        starts = read(self.programs.records)
        left = int(self.programs.start("remaining", **self.spec).finish(60)["remaining"])
        line.lost, line.doubled = lost_and_doubled(starts, published * self.options.groups, 0)
        self._count_cost(published)
        line.detail |= {
            "groups": self.options.groups,
            "deliveries": len(starts),
            "unacknowledged_at_end": left,
        }
        if line.lost or line.doubled or left:
            line.void = f"{line.lost} lost, {line.doubled} doubled, {left} not acknowledged at the end"
        return starts

    def _count_cost(self, messages: int) -> None:
        cost = self.spending.per_message(max(1, messages))
        self.line.statements_per_job = cost.pop("statements")
        self.line.wal_bytes_per_job = cost.pop("wal_bytes")
        for command, name in (("produce", "producer"), ("work", "worker")):
            cost[f"{name}_cpu_us"] = self.programs.cpu(command) / max(1, messages) * 1e6
        cpu = sum(value or 0.0 for name, value in cost.items() if name.endswith("cpu_us"))
        written = cost["disk_bytes"] if cost["disk_bytes"] is not None else self.line.wal_bytes_per_job
        self.line.detail |= {f"{name}_per_job": value for name, value in cost.items()}
        if written is not None:
            self.line.detail["usd_per_million"] = dollars_per_million(cpu, written)


def t1(run: TopicRun) -> None:
    """Publish to consume: one message a call at a steady rate, from just before the call to the group's handler."""
    seconds, pace = run.options.seconds or T1_SECONDS, run.options.rate or RATE
    run.set_up()
    run.start_consumers()
    time.sleep(1.0)  # it must have fallen asleep
    run.spending.begin()
    facts = run.programs.produce(
        "paced", seconds=seconds, every=1 / pace, conns=run.options.conns, batch=BATCH, **run.spec
    )
    run.until_handled(facts["n"])
    starts = run.end()
    run.line.p50_ms, run.line.p95_ms, run.line.p99_ms = percentiles([one.waited_ms for one in starts])
    run.line.jobs_s = facts["n"] / facts["seconds"]


def t2(run: TopicRun) -> None:
    """A publisher flat out beside the consumers: from the first publish to the last delivery to the last group."""
    messages = run.options.jobs or T2_MESSAGES
    run.set_up()
    run.start_consumers()
    run.spending.begin()
    facts = run.publish(messages)
    run.until_handled(messages)
    starts = run.end()
    run.line.jobs_s = _speed(starts, facts["began"], messages)
    run.line.detail["published_s"] = messages / facts["seconds"]
    if starts:
        end = facts["began"] + facts["seconds"]
        run.line.detail["deliveries_s_while_publishing"] = rate(starts, facts["began"], end)


def t3(run: TopicRun) -> None:
    """Replay: a group is made at the beginning of a log that is full; from asking to the last delivery."""
    messages = run.options.jobs or T3_MESSAGES
    run.set_up(replay=True)
    run.publish(messages)
    run.spending.begin()
    run.start_consumers()
    asked = run.programs.workers[0].wait_for("replaying", 60)
    run.until_handled(messages)
    starts = run.end()
    run.line.jobs_s = _speed(starts, asked, messages)


def t4(run: TopicRun) -> None:
    """T2 as it is, then again while another connection holds a snapshot, on the same topic by the same worker.

    `ratio` is the second against the first; `jobs_s` the second.
    """
    if run.pin_url is None:
        raise ProgramFailedError("there is no snapshot to hold")
    messages = run.options.jobs or T2_MESSAGES
    run.set_up()
    run.start_consumers()
    run.publish(messages // 10)  # what is cold at first must not count for the first half alone
    run.until_handled(messages // 10)
    run.spending.begin()
    first = run.publish(messages, first=messages)
    run.until_handled(messages // 10 + messages)
    with pinned(run.pin_url):
        second = run.publish(messages, first=2 * messages)
        run.until_handled(messages // 10 + 2 * messages)
    starts = run.end()
    early = [one for one in starts if messages <= one.n % GROUP_STRIDE < 2 * messages]
    late = [one for one in starts if one.n % GROUP_STRIDE >= 2 * messages]
    free = _speed(early, first["began"], messages)
    run.line.jobs_s = _speed(late, second["began"], messages)
    run.line.detail["unpinned_jobs_s"] = free
    if free and run.line.jobs_s:
        run.line.ratio = run.line.jobs_s / free


def _speed(starts: list[Start], since: float, messages: int) -> float | None:
    return messages / (starts[-1].at - since) if starts and starts[-1].at > since else None


TOPIC_WORKLOADS: dict[str, Callable[[TopicRun], None]] = {"T1": t1, "T2": t2, "T3": t3, "T4": t4}
