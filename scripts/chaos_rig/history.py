"""The history checker: what was called against what the database holds in the end. Linear, and it knows no server.

Every op has a name of its own, so each question is a look-up: lost, ghosts, double effects, stuck, out of order.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from decimal import Decimal

from scripts.chaos_rig.admission import Limits, Tenure, check_key_order, check_tenures
from scripts.chaos_rig.journal import Call

CONVERSATION = "conversation"
ASKED = "/asked"
"""Behind the name of an op: the op that asks for its job's cancel."""
REDRIVEN = "/redriven"
"""Behind the name of an op: the calls that redrive its job, which dies once."""
AT_LEAST_ONCE = frozenset({"plain", "delayed"})
"""Kinds whose effects may happen more than once; those of all others must not."""


@dataclass(frozen=True, slots=True)
class JobFact:
    """A job in the end: every place it stands in, and how it ended."""

    job_id: int
    op: str
    places: tuple[str, ...]
    outcome: str | None = None
    token: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """One row of the ledger: a handler did its work. `at` in seconds since the epoch, by the database's clock."""

    op: str
    job_id: int
    token: int
    at: float


@dataclass(frozen=True, slots=True)
class Event:
    """A conversation's event in the end."""

    op: str
    event_id: str
    user: str
    status: str
    job_id: int | None
    change: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Friendship:
    """What was added up for a user."""

    conversations: int
    score: Decimal


@dataclass
class Facts:
    """All that the database holds in the end, and what was seen of it on the way."""

    jobs: list[JobFact] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    friendships: dict[str, Friendship] = field(default_factory=dict)
    retries: dict[int, list[int]] = field(default_factory=dict)
    """The numbers of each job's failed tries, in the order in which they were written."""
    orphans: list[str] = field(default_factory=list)
    """Membership rows without a job."""
    seen_ended: dict[int, int] = field(default_factory=dict)
    """Token by job of exactly-once jobs that were seen SUCCEEDED while faults went on."""
    deaths: dict[int, int] = field(default_factory=dict)
    """How often a job became a dead letter."""
    tenures: list[Tenure] = field(default_factory=list)
    """Leases of managed queues as they began and ended."""
    limits: Limits = field(default_factory=Limits)


@dataclass
class Findings:
    """What is wrong, in words, by kind; and how much there was to check."""

    acked: int = 0
    unknown: int = 0
    failed: int = 0
    recovered: int = 0
    """Ops whose only answers were unknown, and which had happened."""
    duplicates: int = 0
    """Repeated effects of at-least-once jobs: allowed, and counted."""
    redriven: int = 0
    """Dead letters whose redrive was acknowledged."""
    limits_reached: int = 0
    """How often a limit was full."""
    lost: list[str] = field(default_factory=list)
    ghosts: list[str] = field(default_factory=list)
    double_effects: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    order_violations: list[str] = field(default_factory=list)
    limit_violations: list[str] = field(default_factory=list)
    unstable: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    """Answers that no fault excuses; the clients see them, not the checker."""

    VIOLATIONS = (
        "lost",
        "ghosts",
        "double_effects",
        "stuck",
        "order_violations",
        "limit_violations",
        "unstable",
        "unexpected",
    )

    @property
    def violations(self) -> dict[str, list[str]]:
        """Only what is wrong."""
        return {name: found for name in self.VIOLATIONS if (found := getattr(self, name))}


@dataclass
class Op:
    """All calls of one name. Calls that are repeated share it."""

    kind: str
    due: float | None
    acked: set[str] = field(default_factory=set)
    unknown: bool = False
    cancel: set[str] = field(default_factory=set)
    """What was answered to who asked for the job's cancel; empty when nobody asked."""


def check(calls: Sequence[Call], facts: Facts) -> Findings:
    """Compare. Only a run that has drained may be judged: before that, what is on its way counts as stuck."""
    found = Findings()
    ops = _ops([call for call in calls if not call.op.endswith(REDRIVEN)])
    asked = {name.removesuffix(ASKED): ops.pop(name) for name in list(ops) if name.endswith(ASKED)}
    found.acked = sum(bool(op.acked) for op in ops.values())
    found.unknown = sum(call.outcome == "unknown" for call in calls)
    found.failed = sum(call.outcome == "fail" for call in calls)
    jobs: dict[str, list[JobFact]] = defaultdict(list)
    for job in facts.jobs:
        jobs[job.op].append(job)
    effects: dict[str, list[Effect]] = defaultdict(list)
    for effect in facts.effects:
        effects[effect.op].append(effect)
    events = {event.op: event for event in facts.events}

    for name, op in ops.items():
        if name in asked:
            op.cancel = asked[name].acked or {"UNKNOWN"}
        if op.kind == CONVERSATION:
            _check_conversation(name, op, events.get(name), jobs.get(name, []), found)
        else:
            _check_job_op(name, op, jobs.get(name, []), effects.get(name, []), found)
    for name in jobs.keys() - ops.keys():
        found.ghosts.append(f"{name}: nobody asked for its job {jobs[name][0].job_id}")
    for name in events.keys() - ops.keys():
        found.ghosts.append(f"{name}: nobody asked for its event")
    _check_deaths([call for call in calls if call.op.endswith(REDRIVEN)], facts, found)
    _check_managed(calls, facts, found)
    _check_effects(facts, found)
    _check_friendships(facts, found)
    _check_retries(facts.retries, found)
    _check_stability(facts, found)
    found.ghosts += [f"{orphan}: stands without a job" for orphan in facts.orphans]
    return found


def _ops(calls: Sequence[Call]) -> dict[str, Op]:
    ops: dict[str, Op] = {}
    for call in calls:
        op = ops.setdefault(call.op, Op(call.kind, call.due))
        if call.outcome == "ok" and call.answer is not None:
            op.acked.add(call.answer)
        op.unknown |= call.outcome == "unknown"
    return ops


def _check_presence(name: str, op: Op, there: str | None, found: Findings, *, what: str) -> None:
    """Acknowledged means there, under the id that was told; refused means not there."""
    if there is None:
        if op.acked:
            found.lost.append(f"{name}: acknowledged as {what} {min(op.acked)}, and it is not there")
        return
    if not op.acked and not op.unknown:
        found.ghosts.append(f"{name}: certainly not done, and {what} {there} is there")
    found.recovered += not op.acked and op.unknown
    for other in sorted(op.acked - {there}):
        found.lost.append(f"{name}: acknowledged as {what} {other}, but it is {there}")


def _check_job_op(name: str, op: Op, jobs: list[JobFact], effects: list[Effect], found: Findings) -> None:
    _check_presence(name, op, str(jobs[0].job_id) if jobs else None, found, what="job")
    for extra in jobs[1:]:
        found.ghosts.append(f"{name}: a second job {extra.job_id} beside {jobs[0].job_id}")
    for job in jobs:
        _check_end(name, job, found, op.cancel)
        mine = [effect for effect in effects if effect.job_id == job.job_id]
        if job.outcome == "SUCCEEDED" and not mine:
            found.lost.append(f"{name}: job {job.job_id} succeeded without its effect")
        if job.outcome == "CANCELLED":
            found.ghosts += [f"{name}: cancelled, and job {job.job_id} took effect" for _ in mine]
        elif op.kind in AT_LEAST_ONCE:
            found.duplicates += max(0, len(mine) - 1)
        else:
            _check_once(name, job, mine, found)
    if op.due is not None:
        early = [effect.at for effect in effects if effect.at < op.due]
        found.order_violations += [f"{name}: ran {op.due - at:.3f} s before it was due" for at in early]


def _check_end(name: str, job: JobFact, found: Findings, cancel: Set[str] = frozenset()) -> None:
    """Exactly one place, and that is `done`: with a success, or cancelled where somebody asked for it."""
    if not job.places:
        found.lost.append(f"{name}: job {job.job_id} stands nowhere")
    elif len(job.places) > 1:
        found.ghosts.append(f"{name}: job {job.job_id} stands in {', '.join(job.places)} at once")
    elif job.places != ("done",):
        found.stuck.append(f"{name}: job {job.job_id} is still in {job.places[0]}")
    elif "CANCELLED" in cancel and job.outcome != "CANCELLED":
        found.lost.append(f"{name}: the cancel of job {job.job_id} was acknowledged, and it {job.outcome}")
    elif job.outcome != "SUCCEEDED" and not (cancel and job.outcome == "CANCELLED"):
        found.lost.append(f"{name}: job {job.job_id} ended as {job.outcome} ({job.error})")


def _check_once(name: str, job: JobFact, effects: list[Effect], found: Findings) -> None:
    if len(effects) > 1:
        found.double_effects.append(f"{name}: job {job.job_id} took effect {len(effects)} times")
    for effect in effects:
        if job.outcome is None:
            found.double_effects.append(f"{name}: job {job.job_id} took effect and has not ended")
        elif effect.token != job.token:
            found.double_effects.append(f"{name}: job {job.job_id} took effect under a token that lost it")


def _check_conversation(name: str, op: Op, event: Event | None, jobs: list[JobFact], found: Findings) -> None:
    _check_presence(name, op, event.event_id if event else None, found, what="event")
    if event is None:
        found.ghosts += [f"{name}: job {job.job_id} without its event" for job in jobs]
        return
    if not jobs:
        found.lost.append(f"{name}: event {event.event_id} without a job")
    for extra in jobs[1:]:
        found.ghosts.append(f"{name}: a second job {extra.job_id} beside {jobs[0].job_id}")
    for job in jobs:
        _check_end(name, job, found)
    if event.status == "PENDING":
        found.stuck.append(f"{name}: event {event.event_id} is still PENDING")
    elif event.status != "PROCESSED":
        found.lost.append(f"{name}: event {event.event_id} is {event.status}")


def _check_deaths(calls: Sequence[Call], facts: Facts, found: Findings) -> None:
    """A job dies once at most, and one redrive brings it back: nobody else, and no second one for the same death."""
    told: dict[str, list[str]] = defaultdict(list)
    for call in calls:
        told[call.op.removesuffix(REDRIVEN)].append(call.outcome)
    for job in facts.jobs:
        deaths, redrives = facts.deaths.get(job.job_id, 0), told.get(job.op, [])
        found.redriven += "ok" in redrives
        if deaths > 1:
            found.double_effects.append(f"{job.op}: job {job.job_id} died {deaths} times")
        if redrives.count("ok") > 1:
            found.double_effects.append(
                f"{job.op}: {redrives.count('ok')} redrives of one death were acknowledged"
            )
        if deaths and job.outcome != "DEAD" and not {"ok", "unknown"} & set(redrives):
            found.ghosts.append(f"{job.op}: job {job.job_id} died, and came back without a redrive")


def _check_managed(calls: Sequence[Call], facts: Facts, found: Findings) -> None:
    """Managed queues: the order of each key, and all limits."""
    observed = check_tenures(facts.tenures, facts.limits)
    found.order_violations += observed.order + check_key_order(calls, [effect.op for effect in facts.effects])
    found.limit_violations += observed.limits
    found.limits_reached = observed.reached


def _check_effects(facts: Facts, found: Findings) -> None:
    known = {job.job_id for job in facts.jobs}
    for effect in facts.effects:
        if effect.job_id not in known:
            found.ghosts.append(f"{effect.op}: an effect of job {effect.job_id}, which does not exist")


def _check_friendships(facts: Facts, found: Findings) -> None:
    """Each processed conversation counts once for its user: the number of them, and the sum of their changes."""
    count: Counter[str] = Counter()
    total: dict[str, Decimal] = defaultdict(Decimal)
    for event in facts.events:
        if event.status == "PROCESSED" and event.change is not None:
            count[event.user] += 1
            total[event.user] += event.change
    for user in sorted(count.keys() | facts.friendships.keys()):
        there = facts.friendships.get(user, Friendship(0, Decimal(0)))
        if there.conversations > count[user]:
            found.double_effects.append(f"{user}: {there.conversations} counted, {count[user]} processed")
        elif there.conversations < count[user]:
            found.lost.append(f"{user}: {there.conversations} counted, {count[user]} processed")
        elif there.score != total[user]:
            found.double_effects.append(
                f"{user}: the score is {there.score}, its changes add up to {total[user]}"
            )


def _check_retries(retries: Mapping[int, Sequence[int]], found: Findings) -> None:
    """A try that failed is written once, and tries follow each other."""
    for job_id, numbers in retries.items():
        if any(later <= earlier for earlier, later in zip(numbers, numbers[1:], strict=False)):
            found.order_violations.append(f"job {job_id}: its failed tries are numbered {list(numbers)}")


def _check_stability(facts: Facts, found: Findings) -> None:
    """What was flushed as the end stays the end, under the same token."""
    ended = {job.job_id: job.token for job in facts.jobs if job.outcome == "SUCCEEDED"}
    for job_id, token in facts.seen_ended.items():
        if ended.get(job_id) != token:
            found.unstable.append(f"job {job_id} was seen ended, and that is not its end any more")
