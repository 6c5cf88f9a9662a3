"""The rules of managed queues, checked on what an observer saw: order per key, and every limit. It knows no server.

A tenure is one lease of a job from its commit to its end, in the order in which the database wrote them.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scripts.chaos_rig.journal import Call


@dataclass(frozen=True, slots=True)
class Tenure:
    """A lease that begins or ends."""

    begins: bool
    job_id: int
    token: int
    queue: str
    key: str | None
    kind: str
    exempt: bool = False
    """Its key does not count against the global limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many may run at once. In an ordered queue that is one job of each key, whatever else is said."""

    ordered: frozenset[str] = frozenset()
    of_all: int | None = None
    of_queue: Mapping[str, int] = field(default_factory=dict)
    of_kind: Mapping[str, int] = field(default_factory=dict)
    of_key: Mapping[str, int] = field(default_factory=dict)
    """By queue, for each of its keys."""


@dataclass
class Observed:
    """What the tenures say. `reached` counts how often a limit was full: where it is 0 no limit was put to the test."""

    order: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    reached: int = 0


def check_tenures(tenures: Sequence[Tenure], limits: Limits) -> Observed:
    """Replay: how many run under each limit after each beginning."""
    seen, running = Observed(), Counter[str]()
    live: dict[tuple[int, int], Tenure] = {}
    for tenure in tenures:
        name = (tenure.job_id, tenure.token)
        if not tenure.begins:
            if live.pop(name, None) is None:
                seen.limits.append(f"job {tenure.job_id}: a lease ended that never began, or ended twice")
            else:
                running.subtract(_counted(tenure, limits).keys())
            continue
        if name in live:
            seen.limits.append(f"job {tenure.job_id}: one lease began twice")
            continue
        live[name] = tenure
        for what, most in _counted(tenure, limits).items():
            running[what] += 1
            seen.reached += running[what] == most
            if running[what] > most:
                found = seen.order if what.startswith("ordered") else seen.limits
                found.append(f"{what}: {running[what]} run at once, job {tenure.job_id} too many of {most}")
    return seen


def _counted(tenure: Tenure, limits: Limits) -> dict[str, int]:
    """The limits that this lease counts against, by what to call them."""
    counted: dict[str, int] = {}
    if tenure.key is not None and tenure.queue in limits.ordered:
        counted[f"ordered key {tenure.queue}/{tenure.key}"] = 1
    if tenure.key is not None and tenure.queue in limits.of_key:
        counted[f"key {tenure.queue}/{tenure.key}"] = limits.of_key[tenure.queue]
    if tenure.queue in limits.of_queue:
        counted[f"queue {tenure.queue}"] = limits.of_queue[tenure.queue]
    if tenure.kind in limits.of_kind:
        counted[f"kind {tenure.kind}"] = limits.of_kind[tenure.kind]
    if limits.of_all is not None and not tenure.exempt:
        counted["all managed queues"] = limits.of_all
    return counted


def check_key_order(calls: Sequence[Call], effects: Sequence[str]) -> list[str]:
    """Of two jobs of a key, where the second was asked for after the first was acknowledged, the first acts first.

    `effects` are the ops in the order in which they took effect. An op without an acknowledgement may have been
    committed at any time after it was sent, so nothing is said about who should have waited for it.
    """
    found: list[str] = []
    keyed = {call.op: call for call in calls if call.key is not None}
    acted: dict[str, list[Call]] = defaultdict(list)
    for op in effects:
        if (call := keyed.get(op)) is not None and call.key is not None:
            acted[call.key].append(call)
    for key, order in acted.items():
        ahead: Call | None = None
        """Of those that have acted, the one that was asked for last."""
        for call in order:
            if ahead is not None and call.outcome == "ok" and call.told_at < ahead.sent_at:
                found.append(
                    f"key {key}: {ahead.op} acted before {call.op}, which had been acknowledged first"
                )
            if ahead is None or call.sent_at > ahead.sent_at:
                ahead = call
    return found
