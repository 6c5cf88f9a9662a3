"""The faults of a run, drawn from its seed before it starts: what strikes when, and whom.

Counts what really happened, not what was planned: a lost answer counts when an answer was lost.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psycopg

from app.queue.enqueue import enqueue
from app.queue.job import NewJob
from scripts.chaos_rig.journal import Journal
from scripts.chaos_rig.processes import Managed
from scripts.chaos_rig.proxy import FaultProxy
from scripts.chaos_rig.rules import Direction, Rule
from scripts.chaos_rig.server import PrivateServer

KINDS = (
    "kill_worker",
    "stop_cont",
    "term_worker",
    "kill_api",
    "server_immediate_stop",
    "kill_backend",
    "terminate_backends",
    "drop_commit_reply",
    "cut_before_commit",
    "cut_reply",
    "blackhole",
    "reset",
    "delay",
    "slow_drip",
    "pinned_snapshot",
    "long_writer",
)
DECK = (*KINDS, "stop_cont")
"""What is drawn before anything is drawn again: stops past the lease twice, they have most to say about fences."""
AT_ONCE = 4
"""How many faults may overlap."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault: seconds after the start, which, on which of the candidates (taken modulo), and how strong (0 to 1)."""

    at: float
    kind: str
    target: int
    strength: float


def plan(seed: int, seconds: float, every: float, kinds: Sequence[str] = DECK) -> list[Planned]:
    """The faults of a run. Every one of `kinds` comes once before any comes again."""
    choice = random.Random(f"{seed}/faults")  # noqa: S311 - which faults
    planned: list[Planned] = []
    deck: list[str] = []
    at = 1.0
    while at < seconds:
        deck = deck or choice.sample(kinds, len(kinds))
        planned.append(Planned(at, deck.pop(), choice.randrange(1_000), choice.random()))
        at += choice.uniform(0.5, 1.5) * every
    return planned


class Nemesis:
    """Strikes. `lease` is the workers' lease in seconds: what stops a process stops it for longer."""

    def __init__(
        self,
        *,
        server: PrivateServer,
        workers: Sequence[Managed],
        api: Managed,
        proxies: Sequence[FaultProxy],
        journal: Journal,
        seed: int,
        lease: float,
        say: Callable[[str], None],
    ) -> None:
        self.server = server
        self.workers = list(workers)
        self.api = api
        self.proxies = list(proxies)
        self.journal = journal
        self.lease = lease
        self.failures: list[str] = []
        """Faults that broke what they must not break: a worker that does not end, a server that does not start."""
        self._own: Counter[str] = Counter()
        self._random = random.Random(f"{seed}/strikes")  # noqa: S311 - details of faults
        self._say = say
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fault")
        self._over = threading.Event()
        self._late = 0
        self._armed: dict[str, list[tuple[FaultProxy, Rule]]] = {}
        self._strikes: dict[str, Callable[[Planned], bool]] = {
            "kill_worker": lambda fault: self._worker(fault).kill(fault.strength),
            "stop_cont": lambda fault: self._worker(fault).pause(self.lease + 1 + 2 * fault.strength),
            "term_worker": lambda fault: self._worker(fault).terminate(),
            "kill_api": lambda fault: self.api.kill(fault.strength / 2),
            "server_immediate_stop": lambda _: self.server.crash_and_restart(),
            "kill_backend": lambda _: self.server.kill_backend(self._random),
            "terminate_backends": lambda _: self.server.terminate_backends() > 0,
            "drop_commit_reply": self._lose_answers,
            "cut_before_commit": self._lose_requests,
            "cut_reply": self._tear_answers,
            "blackhole": self._blackhole,
            "reset": self._reset,
            "delay": self._delay,
            "slow_drip": self._drip,
            "pinned_snapshot": self._pin_snapshot,
            "long_writer": self._write_long,
        }

    @property
    def counts(self) -> dict[str, int]:
        """How often each fault really happened."""
        total = Counter(self._own)
        for proxy in self.proxies:
            total += proxy.counts
        return {name: total[name] for name in KINDS} | dict(total)

    def run(self, planned: Sequence[Planned], seconds: float, every_turn: Callable[[], None]) -> None:
        """Strike as planned, for `seconds`; `every_turn` is called a few times a second."""
        started = time.monotonic()
        waiting = list(planned)
        while (now := time.monotonic() - started) < seconds:
            if waiting and waiting[0].at <= now:
                self._pool.submit(self._strike, waiting.pop(0))
            every_turn()
            time.sleep(0.1)

    def end(self) -> None:
        """Let the faults under way end, heal the network, and see that the server runs."""
        self._over.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for proxy in self.proxies:
            proxy.heal()
        self.server.ensure_running()

    def _strike(self, fault: Planned) -> None:
        if self._over.is_set():
            return
        try:
            happened = self._strikes[fault.kind](fault)
        except (psycopg.Error, ConnectionError) as error:  # another fault has the server down
            self._say(f"{fault.kind}: not now ({str(error).strip().splitlines()[0][:80]})")
            return
        except Exception as error:
            self.failures.append(f"{fault.kind}: {type(error).__name__}: {error}")
            self._say(self.failures[-1])
            return
        self.journal.note("fault", kind=fault.kind, happened=happened)
        self._say(f"{fault.kind}{'' if happened else ': not now'}")
        if happened and fault.kind in NOT_BY_PROXIES:
            self._own[fault.kind] += 1

    # --- whom ------------------------------------------------------------------------------------------------

    def _worker(self, fault: Planned) -> Managed:
        return self.workers[fault.target % len(self.workers)]

    def _proxy(self, fault: Planned) -> FaultProxy:
        return self.proxies[fault.target % len(self.proxies)]

    # --- connections -------------------------------------------------------------------------------------------

    def _lose_answers(self, fault: Planned) -> bool:
        times = 1 + int(2 * fault.strength)
        self._arm(fault.kind, [(one, one.drop_reply(times=times, skip=self._skip())) for one in self.proxies])
        return True

    def _lose_requests(self, fault: Planned) -> bool:
        times = 1 + int(2 * fault.strength)
        self._arm(fault.kind, [(one, one.cut_before(times=times, skip=self._skip())) for one in self.proxies])
        return True

    def _tear_answers(self, fault: Planned) -> bool:
        proxy = self._proxy(fault)
        self._arm(
            fault.kind, [(proxy, proxy.cut_reply(int(40 * fault.strength), times=2, skip=self._skip()))]
        )
        return True

    def _arm(self, kind: str, rules: list[tuple[FaultProxy, Rule]]) -> None:
        """What the last one of its kind has not struck is over: else faults pile up before a process that is down."""
        for proxy, rule in self._armed.get(kind, []):
            proxy.withdraw(rule)
        self._armed[kind] = rules

    def _skip(self) -> int:
        return self._random.randrange(4)

    def _blackhole(self, fault: Planned) -> bool:
        direction: Direction = self._random.choice(("both", "both", "answers", "questions"))
        proxy = self._proxy(fault)
        proxy.blackhole(direction)
        self._pause(1 + 4 * fault.strength)
        proxy.calm()
        return True

    def _reset(self, fault: Planned) -> bool:
        self._proxy(fault).reset_all()
        return True

    def _delay(self, fault: Planned) -> bool:
        proxy = self._proxy(fault)
        proxy.delay(0.02 + 0.2 * fault.strength)
        self._pause(2.0)
        proxy.calm()
        return True

    def _drip(self, fault: Planned) -> bool:
        proxy = self._proxy(fault)
        proxy.drip(20 + int(100 * fault.strength), 0.005)
        self._pause(2.0)
        proxy.calm()
        return True

    # --- sessions that stay open -------------------------------------------------------------------------------

    def _pin_snapshot(self, fault: Planned) -> bool:
        with self.server.connect() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT count(*) FROM tandem.queue")
            self._pause(1 + 2 * fault.strength)
        return True

    def _write_long(self, fault: Planned) -> bool:
        """A job whose place in the queue is drawn long before it commits."""
        self._late += 1
        call = self.journal.invoke(f"late-{self._late}", "late")
        committing = False
        try:
            with psycopg.connect(self.server.url, connect_timeout=5, application_name="late") as connection:
                job = NewJob(
                    "chaos.tx", {"op": f"late-{self._late}", "work": 0.0}, priority=fault.target % 10
                )
                answer = enqueue(connection, job)
                self._pause(1 + 2 * fault.strength)
                committing = True
                connection.commit()
        except psycopg.Error as error:
            lost = committing and error.sqlstate is None
            (self.journal.unknown if lost else self.journal.fail)(call, str(error).strip())
            raise
        self.journal.ok(call, answer.job_id)
        return True

    def _pause(self, seconds: float) -> None:
        self._over.wait(seconds)


NOT_BY_PROXIES = frozenset(KINDS) - {
    "drop_commit_reply",
    "cut_before_commit",
    "cut_reply",
    "blackhole",
    "reset",
    "delay",
    "slow_drip",
}
"""What the proxies count themselves is left out here."""
