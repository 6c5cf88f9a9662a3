"""A model of one job's life under two workers, a producer, a sweeper and an operator, searched state by state.

Every step is what one committed statement or one fault does. What lies below (locks, snapshots, plans) it cannot say:
tests/races drives that on a real server.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Literal, NamedTuple

Bug = Literal[
    "no_fence", "sweep_by_id", "claim_no_recheck", "effect_outside_tx", "no_idempotency", "retry_forgets_cancel",
    "rescue_forgets_cancel", "start_forgets_cancel", "cancel_by_id", "hand_back_by_id", "fail_by_id", "found_by_id",
]  # fmt: skip
Place = Literal["nowhere", "ready", "lease", "done", "dead", "cancelled"]
Phase = Literal["idle", "looking", "running", "fenced", "wrote", "unsure", "crashed"]
ENDS = ("done", "dead", "cancelled")
MAX_ATTEMPTS = 2


class Worker(NamedTuple):
    """One worker process: what it does, under which token. A stopped one is one that takes no step."""

    phase: Phase = "idle"
    token: int = 0


class State(NamedTuple):
    """All that the model knows. `losses` to `returns` (hand-backs) are what is still allowed, which keeps it finite."""

    place: Place = "nowhere"
    jobs: int = 0
    token: int = 0
    expired: bool = False
    locked_by: int = -1
    """The worker whose open transaction holds the lease row."""
    claims: int = 0
    """How often the job was claimed since it became ready."""
    attempts: int = 0
    effects: int = 0
    told: int = 0
    """How many workers were told that they ended the job."""
    ended_by: int = 0
    """The token under which it was done: who lost an answer asks for it."""
    seen_waiting: bool = False
    """The operator saw the job wait, between its two steps."""
    defied: bool = False
    """The job went back to wait for another try, or started, after its cancel was asked for."""
    stolen: bool = False
    """A token that was not the lease's ended the job."""
    ended: str = ""
    cancel: Literal["no", "asked", "met"] = "no"
    producer: Literal["new", "unsure", "acked"] = "new"
    selected: int = 0
    """The token that the sweeper saw expired, between its two steps."""
    next_token: int = 1
    workers: tuple[Worker, Worker] = (Worker(), Worker())
    losses: int = 2
    crashes: int = 1
    pauses: int = 1
    returns: int = 1


Step = tuple[str, State]


def steps(s: State, bug: Bug | None = None) -> Iterator[Step]:
    """Everything that can happen next."""
    yield from _producer(s, bug)
    yield from _operator(s, bug)
    yield from _sweeper(s, bug)
    for number in (0, 1):
        yield from _worker(s, number, bug)
        yield from _fate(s, number)


def _producer(s: State, bug: Bug | None) -> Iterator[Step]:
    if s.producer == "acked":
        return
    # A repeat of the call finds the first job by its key.
    again = s._replace(jobs=s.jobs + (bug == "no_idempotency"))
    made = again if s.jobs else s._replace(place="ready", jobs=1)
    yield "enqueue, acknowledged", made._replace(producer="acked")
    if s.losses:
        yield "enqueue, answer lost", made._replace(producer="unsure", losses=s.losses - 1)
        yield "enqueue never arrives", s._replace(producer="unsure", losses=s.losses - 1)


def _operator(s: State, bug: Bug | None) -> Iterator[Step]:
    """A cancel in two steps: look where the job is, then end it there, or leave a request."""
    if s.cancel != "no":
        return
    if s.place == "ready" and not s.seen_waiting:
        yield "operator sees a waiting job", s._replace(seen_waiting=True)
    looked = s._replace(seen_waiting=False)
    if s.seen_waiting and (s.place == "ready" or bug == "cancel_by_id"):
        yield "operator cancels it", _end(looked, "cancelled")._replace(cancel="met")
    elif s.place == "lease":
        yield "operator asks a running job to be cancelled", looked._replace(cancel="asked")
    elif s.seen_waiting and s.place in ENDS:
        yield "operator comes too late", looked


def _sweeper(s: State, bug: Bug | None) -> Iterator[Step]:
    if s.place == "ready" and s.cancel == "asked":
        yield "sweeper meets the cancel of a job that came back", _end(s, "cancelled")._replace(cancel="met")
    if s.place == "lease" and s.expired and s.locked_by < 0 and not s.selected:
        yield "sweeper sees an expired lease", s._replace(selected=s.token)
    if not s.selected:
        return
    seen = s._replace(selected=0)
    still = s.place == "lease" and s.token == s.selected and s.expired and s.locked_by < 0
    if not still and bug != "sweep_by_id":
        yield "sweeper finds it changed", seen
    elif s.cancel == "asked" and bug != "rescue_forgets_cancel":
        yield "sweeper cancels", _end(seen, "cancelled")._replace(cancel="met")
    else:
        yield "sweeper rescues", _ready(seen)._replace(defied=s.defied or s.cancel == "asked")


def _worker(s: State, number: int, bug: Bug | None) -> Iterator[Step]:
    me = s.workers[number]
    mine = s.place == "lease" and s.token == me.token
    free = s.locked_by in (-1, number)
    if me.phase == "idle" and s.place == "ready":
        yield f"{number} looks", _be(s, number, "looking")
    elif me.phase == "looking":
        yield from _claim(s, number, bug)
    elif me.phase == "running":
        if bug == "effect_outside_tx":
            yield (
                f"{number} writes outside",
                _be(s._replace(effects=s.effects + 1), number, "wrote", me.token),
            )
        elif bug == "no_fence":
            yield f"{number} begins", _be(s, number, "fenced", me.token)
        elif mine and s.locked_by < 0:
            yield f"{number} proves its lease", _be(s._replace(locked_by=number), number, "fenced", me.token)
        if mine and s.expired:
            yield f"{number} beats", s._replace(expired=False)
        if (mine and free) or bug == "fail_by_id":
            yield from _fail(s, number, bug)
        if s.returns and ((mine and free) or bug == "hand_back_by_id"):
            # The try is refunded and a cancel's request goes along: whoever claims next ends it.
            yield f"{number} hands back", _ready(_be(s, number, "idle"))._replace(returns=s.returns - 1)
        if not mine:
            yield f"{number} learns that its lease is lost", _be(s, number, "idle")
    elif me.phase in ("fenced", "wrote"):
        yield from _commit(s, number, bug)
    elif me.phase == "unsure":
        if bug == "no_fence":  # the finish is sent again, and nothing stops it
            yield from _commit(s, number, bug)
        elif mine and free:
            yield from _fail(s, number, bug)  # the commit had not happened: the try counts as failed
        elif s.place == "done" and (s.ended_by == me.token or bug == "found_by_id"):
            yield f"{number} learns that it had committed", _be(s, number, "idle")._replace(told=s.told + 1)
        else:
            yield f"{number} finds its token gone", _be(s, number, "idle")


def _claim(s: State, number: int, bug: Bug | None) -> Iterator[Step]:
    taken = s.place == "ready" or (bug == "claim_no_recheck" and s.place == "lease")
    if not taken:
        yield f"{number} finds it taken", _be(s, number, "idle")
        return
    claimed = s._replace(
        place="lease", token=s.next_token, next_token=s.next_token + 1, expired=False, claims=s.claims + 1
    )
    if s.cancel == "asked" and bug != "start_forgets_cancel":
        ended = _end(_be(claimed, number, "idle"), "cancelled")._replace(cancel="met")
        yield f"{number} ends what came back to be cancelled", ended
        return
    claimed = claimed._replace(defied=s.defied or s.cancel == "asked")
    yield f"{number} claims", _be(claimed, number, "running", s.next_token)
    if s.losses:
        yield f"{number} claims, answer lost", _be(claimed._replace(losses=s.losses - 1), number, "idle")


def _fail(s: State, number: int, bug: Bug | None) -> Iterator[Step]:
    """The handler failed: another try, a dead letter, or the cancel that somebody asked for."""
    idle = _be(s, number, "idle")
    if s.cancel == "asked" and bug != "retry_forgets_cancel":
        yield f"{number} cancels", _end(idle, "cancelled")._replace(cancel="met")
    elif s.attempts + 1 >= MAX_ATTEMPTS:
        yield f"{number} gives up", _end(idle, "dead")._replace(attempts=s.attempts + 1)
    else:
        again = _ready(idle)._replace(defied=s.defied or s.cancel == "asked")
        yield f"{number} fails", again._replace(attempts=s.attempts + 1)


def _commit(s: State, number: int, bug: Bug | None) -> Iterator[Step]:
    me = s.workers[number]
    mine = s.place == "lease" and s.token == me.token
    unlocked = s._replace(locked_by=-1 if s.locked_by == number else s.locked_by)
    if not mine and bug != "no_fence":
        yield f"{number} rolls back", _be(unlocked, number, "idle")
        return
    effects = s.effects + (me.phase != "wrote")
    done = _end(unlocked, "done")._replace(effects=effects, stolen=s.stolen or not mine, ended_by=me.token)
    yield f"{number} commits", _be(done, number, "idle")._replace(told=s.told + 1)
    if s.losses:
        lost = done._replace(losses=s.losses - 1)
        yield f"{number} commits, answer lost", _be(lost, number, "unsure", me.token)
        cut = unlocked._replace(losses=s.losses - 1)
        yield f"{number}'s commit never arrives", _be(cut, number, "unsure", me.token)


def _fate(s: State, number: int) -> Iterator[Step]:
    """Crashes, and leases that run out: of the dead always, of the living as often as `pauses` allows."""
    me = s.workers[number]
    if me.phase == "crashed":
        yield f"{number} is started again", _be(s, number, "idle")
    elif s.crashes:
        unlocked = s._replace(locked_by=-1 if s.locked_by == number else s.locked_by, crashes=s.crashes - 1)
        yield f"{number} crashes", _be(unlocked, number, "crashed")
    if number == 0 and s.place == "lease" and not s.expired:
        held = any(
            worker.token == s.token and worker.phase not in ("idle", "crashed") for worker in s.workers
        )
        if not held:
            yield "the lease runs out", s._replace(expired=True)
        elif s.pauses:
            yield "the lease runs out under a living worker", s._replace(expired=True, pauses=s.pauses - 1)


def _be(s: State, number: int, phase: Phase, token: int = 0) -> State:
    workers = list(s.workers)
    workers[number] = Worker(phase, token)
    return s._replace(workers=(workers[0], workers[1]))


def _ready(s: State) -> State:
    return s._replace(place="ready", token=0, expired=False, claims=0)


def _end(s: State, place: Place) -> State:
    return s._replace(place=place, token=0, expired=False, ended=s.ended or place)


INVARIANTS: dict[str, Callable[[State], bool]] = {
    "AckImpliesJob": lambda s: s.producer != "acked" or s.jobs >= 1,
    "OneJobPerKey": lambda s: s.jobs <= 1,
    "OneClaimPerReadyRound": lambda s: s.claims <= 1,
    "RunningHasToken": lambda s: (s.place == "lease") == (s.token != 0),
    "OnlyCurrentTokenFinishes": lambda s: not s.stolen,
    "EffectAtMostOnce": lambda s: s.effects <= 1,
    "DoneImpliesOneEffect": lambda s: s.place != "done" or s.effects == 1,
    "OnlyDoneHasEffect": lambda s: s.place == "done" or s.effects == 0,
    "TerminalIsStable": lambda s: not s.ended or s.place == s.ended,
    "AttemptsBounded": lambda s: s.attempts <= MAX_ATTEMPTS,
    "CancelWins": lambda s: s.place != "cancelled" or s.effects == 0,
    "CallerTruth": lambda s: s.told <= 1,
    "CancelIsNotForgotten": lambda s: not s.defied,
}


class Result(NamedTuple):
    """How many states there are, and the shortest way to break each invariant that can be broken."""

    states: int
    broken: dict[str, list[str]]


def search(
    bug: Bug | None = None, *, without: str = "", start: State | None = None, until: Collection[str] = ()
) -> Result:
    """Visit every state breadth first, or until these are broken. A state that breaks one is not followed further.

    `Ends` is broken by a state from which no end of the job can be reached any more.
    """
    start = start or State()
    came: dict[State, tuple[State, str] | None] = {start: None}
    back: dict[State, list[State]] = {}
    broken: dict[str, list[str]] = {}
    waiting = deque([start])
    while waiting:
        s = waiting.popleft()
        wrong = [name for name, holds in INVARIANTS.items() if name != without and not holds(s)]
        for name in wrong:
            broken.setdefault(name, _way(came, s))
        if until and broken.keys() >= set(until):
            return Result(len(came), broken)
        if wrong:
            continue
        for label, then in steps(s, bug):
            back.setdefault(then, []).append(s)
            if then not in came:
                came[then] = (s, label)
                waiting.append(then)
    if not broken and (lost := _endless(came, back)) is not None:
        broken["Ends"] = _way(came, lost)
    return Result(len(came), broken)


def _endless(came: dict[State, tuple[State, str] | None], back: dict[State, list[State]]) -> State | None:
    good = {s for s in came if s.place in ENDS}
    waiting = deque(good)
    while waiting:
        for before in back.get(waiting.popleft(), ()):
            if before not in good:
                good.add(before)
                waiting.append(before)
    return next((s for s in came if s not in good), None)


def _way(came: dict[State, tuple[State, str] | None], s: State) -> list[str]:
    way: list[str] = []
    while (step := came[s]) is not None:
        s, label = step
        way.append(label)
    return way[::-1]
