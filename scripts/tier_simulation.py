"""Simulates a day of the four tiers: arrivals and run times are drawn, everything else is the product's own SQL.

Submissions, rates, quotas, admission, expiry and ledger run as in production; only the clock of the session is moved.
"""

import argparse
import asyncio
import heapq
import json
import random
import secrets
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import pi, sin
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
from sqlalchemy.ext.asyncio import async_sessionmaker

from app.applications import customer_workflows, make_registry
from app.config import CHECKOUT, Settings
from app.database import embedded, migrate
from app.database.connect import connect
from app.domains.customers import administration, repository, service
from app.domains.customers.schemas import SubmitJob
from app.domains.customers.service import Caller, Submission
from app.errors import TooMany
from app.queue.admission_store import AdmissionStore
from app.queue.expiry import expire_overdue
from app.queue.job import ClaimedJob
from app.queue.store import Finish
from scripts.tier_picture import draw

WORKER = uuid.UUID(int=1)
LEASE = timedelta(days=2)
GLOBAL_LIMIT, CAPACITY, MEAN_SECONDS = 8, 60, 300.0
CUSTOMERS = {"vip": 2, "premium": 6, "pro": 8, "free": 40}
PEAK_LOAD = {"vip": 0.5, "premium": 0.3, "pro": 0.35, "free": 1.2}
"""Work offered at the peak, as a share of what the global limit can do."""


@dataclass(order=True)
class Event:
    """Something that happens at a second of the simulated day."""

    at: float
    number: int
    what: str = field(compare=False)
    data: Any = field(compare=False, default=None)


@dataclass
class Tally:
    """What became of a tier's requests."""

    waits: list[tuple[float, float]] = field(default_factory=list)
    refused: dict[str, list[float]] = field(default_factory=dict)
    accepted: int = 0
    expired: int = 0
    blocked_by_global: int = 0


class Simulation:
    """One run on one connection, whose clock it moves from event to event."""

    def __init__(self, connection: Any, *, hours: float, seed: int) -> None:
        self.connection = connection
        self.end = hours * 3600
        self.random = random.Random(seed)  # noqa: S311 - traffic, no secret
        self.settings = Settings()
        self.workflow = customer_workflows(self.settings)["text-keywords"]
        self.registry = make_registry(self.settings, async_sessionmaker())
        self.tallies = {tier: Tally() for tier in CUSTOMERS}
        self.events: list[Event] = []
        self.accepted: dict[int, tuple[str, float]] = {}
        self.running: dict[int, tuple[str, float]] = {}
        self.load: list[tuple[float, int, int]] = []
        self.base = datetime.now(UTC)
        self.now = 0.0
        self._numbers = iter(range(10**9))

    def plan(self, at: float, what: str, data: Any = None) -> None:
        """Let something happen later."""
        heapq.heappush(self.events, Event(at, next(self._numbers), what, data))

    async def run(self) -> None:
        """Every event in turn; admission after each, as a worker's free slot asks for it."""
        for tier in CUSTOMERS:
            self.plan(self._next_arrival(tier, 0.0), "arrive", tier)
        self.plan(60.0, "sweep")
        while self.events and self.events[0].at <= self.end:
            event = heapq.heappop(self.events)
            self.now = event.at
            await self._move_clock()
            await getattr(self, f"_{event.what}")(event.data)
            await self._admit()

    async def _move_clock(self) -> None:
        """The session's clock says base + now, whatever time has really passed."""
        offset = self.now - (datetime.now(UTC) - self.base).total_seconds()
        await self.connection.execute(
            "SELECT set_config('tandem.clock_offset', %s, false)", (f"{offset:.6f} s",)
        )

    def _next_arrival(self, tier: str, at: float) -> float:
        """A Poisson process whose rate follows the day: low at its beginning and end, highest in the middle."""
        peak = PEAK_LOAD[tier] * GLOBAL_LIMIT / MEAN_SECONDS
        while True:
            at += self.random.expovariate(peak)
            if self.random.random() < 0.25 + 0.75 * max(0.0, sin(pi * at / self.end)) or at > self.end:
                return at

    async def _arrive(self, tier: str) -> None:
        self.plan(self._next_arrival(tier, self.now), "arrive", tier)
        caller = Caller(f"{tier}-{self.random.randrange(CUSTOMERS[tier])}", tier)
        submission = Submission(self.workflow, SubmitJob(input={"text": "work"}), None)
        tally = self.tallies[tier]
        try:
            terms = await service.meet(self.connection, caller)
            await service.take_rate(self.connection, terms, "en")
            async with self.connection.transaction():
                made = await service.submit(self.connection, caller, submission, self.settings.customers)
        except TooMany as refused:
            tally.refused.setdefault(refused.code, []).append(self.now)
            return
        tally.accepted += 1
        self.accepted[made.accepted.job_id] = (tier, self.now)

    async def _finish(self, job: ClaimedJob) -> None:
        _, started = self.running.pop(job.id)
        ran_ms = (self.now - started) * 1000
        async with self.connection.transaction():
            await repository.meter_success(
                self.connection, job_id=job.id, token=job.token, attempt=job.attempt, run_ms=round(ran_ms)
            )
            await AdmissionStore(self.connection).finish_jobs([Finish(job.id, job.token, ran_ms)])

    async def _sweep(self, _: Any) -> None:
        self.plan(self.now + 60.0, "sweep")
        early = self.base - timedelta(days=1)
        for job in (await expire_overdue(self.connection, self.registry, after=early)).jobs:
            self.tallies[self.accepted.pop(job)[0]].expired += 1

    async def _admit(self) -> None:
        store = AdmissionStore(self.connection)
        admitted = await store.admit_jobs(
            "customers", want=200, token=secrets.randbits(63), worker=WORKER, lease=LEASE, thorough=True
        )
        for job in admitted.jobs:
            tier, at = self.accepted[job.id]
            self.running[job.id] = (tier, self.now)
            self.tallies[tier].waits.append((at, self.now - at))
            self.plan(self.now + self.random.expovariate(1 / MEAN_SECONDS), "finish", job)
        others = sum(tier != "vip" for tier, _ in self.running.values())
        waiting = len(self.accepted) - sum(len(one.waits) for one in self.tallies.values())
        self.load.append((self.now, others, waiting))
        await self._look_at_vip()

    async def _look_at_vip(self) -> None:
        """A VIP job that waits although its customer runs fewer than its own 10 waits for the global limit."""
        rows = await (await self.connection.execute(WAITING_VIP)).fetchall()
        self.tallies["vip"].blocked_by_global += len(rows)


WAITING_VIP = """
SELECT b.partition_key FROM tandem.blocked AS b WHERE b.queue = 'customers' AND b.partition_key LIKE 'vip-%'
GROUP BY b.partition_key
HAVING (SELECT count(*) FROM tandem.lease AS l WHERE l.queue = 'customers' AND l.partition_key = b.partition_key) < 10
"""


def report(simulation: Simulation) -> dict[str, Any]:
    """Waits, refusals and utilisation, and whether the promises were kept."""
    tiers: dict[str, dict[str, Any]] = {}
    for tier, tally in simulation.tallies.items():
        waits = sorted(wait for _, wait in tally.waits)
        tiers[tier] = {
            "accepted": tally.accepted,
            "started": len(waits),
            "expired": tally.expired,
            "refused": {code: len(times) for code, times in sorted(tally.refused.items())},
            "wait_median_s": round(waits[len(waits) // 2], 1) if waits else None,
            "wait_p95_s": round(waits[int(len(waits) * 0.95)], 1) if waits else None,
            "wait_most_s": round(waits[-1], 1) if waits else None,
        }
    busy = total = 0.0
    for (at, running, waiting), (until, _, _) in zip(simulation.load, simulation.load[1:], strict=False):
        if waiting > GLOBAL_LIMIT:
            busy, total = busy + running * (until - at), total + GLOBAL_LIMIT * (until - at)
    most = {tier: facts["wait_most_s"] or 0.0 for tier, facts in tiers.items()}
    kept = {
        "vip_never_waits_for_the_global_limit": simulation.tallies["vip"].blocked_by_global == 0,
        "global_limit_never_exceeded": max(running for _, running, _ in simulation.load) <= GLOBAL_LIMIT,
        "premium_below_30_min": most["premium"] < 1800,
        "pro_below_2_h": most["pro"] < 7200,
        "only_free_is_refused_when_full": not any(
            "system-busy" in one.refused for tier, one in simulation.tallies.items() if tier != "free"
        ),
    }
    return {
        "tiers": tiers,
        "utilisation_while_waiting": round(busy / total, 4) if total else None,
        "kept": kept,
    }


def row(first: str, *cells: object) -> str:
    """One line of the table."""
    return f"{first:<9}" + "".join(f"{cell!s:>9}" for cell in cells)


def show(told: dict[str, Any], seconds: float) -> Iterator[str]:
    """The table for people."""
    yield row("tier", "accepted", "started", "expired", "busy", "rate", "quota", "median", "p95", "most")
    for tier, one in told["tiers"].items():
        refused = [one["refused"].get(code, 0) for code in ("system-busy", "rate-limited", "quota-exceeded")]
        waits = [f"{(one[name] or 0) / 60:.1f}m" for name in ("wait_median_s", "wait_p95_s", "wait_most_s")]
        yield row(tier, one["accepted"], one["started"], one["expired"], *refused, *waits)
    yield f"utilisation of the global limit while jobs wait: {told['utilisation_while_waiting']}; took {seconds:.0f} s"
    yield from (
        f"{'kept' if well else 'BROKEN'}: {name.replace('_', ' ')}" for name, well in told["kept"].items()
    )


@contextmanager
def scratch(given: str | None) -> Iterator[str]:
    """The database to use: the given one, or one of the run's own on the checkout's embedded server."""
    if given is not None:
        yield given
        return
    with embedded.running(CHECKOUT) as url:
        found = embedded.find(CHECKOUT)
        if found is None:
            raise SystemExit("the embedded server was stopped meanwhile: try again")
        cluster, postmaster = found
        name = psycopg.sql.Identifier("tandem_simulation")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
            try:
                own = cluster.url(postmaster, database="tandem_simulation")
                migrate.upgrade(own)
                yield own
            finally:
                connection.execute(psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@asynccontextmanager
async def prepared(url: str, hours: float, seed: int) -> AsyncIterator[Simulation]:
    """A simulation on a database with the limits of the scenario."""
    async with await connect(url, name="simulation") as connection:
        await connection.execute("SET synchronous_commit = off")
        await connection.execute("SELECT tandem.set_limit('global', max_running => %s)", (GLOBAL_LIMIT,))
        await administration.set_capacity(connection, CAPACITY, actor="simulation")
        yield Simulation(connection, hours=hours, seed=seed)


def main(arguments: list[str] | None = None) -> int:
    """Run, print, draw."""
    parser = argparse.ArgumentParser(prog="scripts/simulate_tiers", description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", help="an empty migrated database; default: one of the run's own")
    parser.add_argument("--picture", type=Path, default=Path("tiers.svg"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    began = monotonic()

    async def work(url: str) -> Simulation:
        async with prepared(url, options.hours, options.seed) as simulation:
            await simulation.run()
            return simulation

    with scratch(options.database) as url:
        simulation = asyncio.run(work(url))
    told = report(simulation)
    waits = {tier: tally.waits for tier, tally in simulation.tallies.items()}
    refused = {
        tier: sorted(at for times in one.refused.values() for at in times)
        for tier, one in simulation.tallies.items()
    }
    options.picture.write_text(draw(waits, refused, simulation.load, simulation.end, GLOBAL_LIMIT))
    sys.stdout.write("\n".join(show(told, monotonic() - began)) + "\n")
    if options.json:
        sys.stdout.write(json.dumps(told | {"hours": options.hours, "seed": options.seed}) + "\n")
    return 0 if all(told["kept"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
