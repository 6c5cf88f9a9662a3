"""scripts/chaos: a workload, faults drawn from a seed, then heal, drain, and judge by SQL and the journal.

Exit code 0: nothing is wrong; 1: a promise is broken; 2: the rig failed; 3: void, nothing was put to the test.
"""

import argparse
import json
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg

from app.config import CHECKOUT
from scripts.chaos_rig import history, ledger
from scripts.chaos_rig.driver import Workload
from scripts.chaos_rig.journal import Journal, read_calls
from scripts.chaos_rig.nemesis import DECK, KINDS, Nemesis, plan
from scripts.chaos_rig.observer import LIMITED, ORDERED
from scripts.chaos_rig.planted import BUGS, plant_functions
from scripts.chaos_rig.processes import Managed, free_port
from scripts.chaos_rig.proxy import FaultProxy
from scripts.chaos_rig.server import PrivateServer, private_server

LEASE = 3.0
SETTINGS = {
    "TANDEM_WORKER__LEASE_SECONDS": str(LEASE),
    "TANDEM_WORKER__SLOTS": "20",
    "TANDEM_WORKER__DRAIN_SECONDS": "3",
    "TANDEM_SWEEPER__EVERY_SECONDS": "0.5",
    "TANDEM_SWEEPER__LEADER_LEASE_SECONDS": "2",
    "TANDEM_SWEEPER__RECONCILE_EVERY_SECONDS": "2",
    "TANDEM_DATABASE__CONNECT_TIMEOUT_SECONDS": "2",
    "TANDEM_DATABASE__CALL_TIMEOUT_SECONDS": "3",
    "TANDEM_DATABASE__IDLE_IN_TRANSACTION_TIMEOUT_MS": "2500",
    "TANDEM_DATABASE__POOL_WAIT_SECONDS": "2",
    "TANDEM_API__REQUEST_SECONDS": "3",
    "TANDEM_CONVERSATIONS__RETRY_DELAYS_SECONDS": json.dumps([0.2, 0.5] + [1.0] * 200),
    "TANDEM_CONVERSATIONS__CRASH_LIMIT": "1000",
    "TANDEM_CONVERSATIONS__FALLBACK_DELAY_SECONDS": "15",
    "TANDEM_LOGGING__FORMAT": "text",
}
QUEUES = f"default,conversations,customers,notifications,{ORDERED},{LIMITED}"
PLACE = CHECKOUT / ".tandem" / "chaos"
VOID, FAILED, BROKEN = 3, 2, 1


@dataclass
class Rig:
    """What is running."""

    server: PrivateServer
    workers: list[Managed]
    api: Managed
    address: str
    proxies: dict[str, FaultProxy]
    journal: Journal
    seen_ended: dict[int, int] = field(default_factory=dict)

    @property
    def processes(self) -> list[Managed]:
        """Workers and API."""
        return [*self.workers, self.api]


def main() -> int:
    """Run, report, and answer the exit code."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(FAILED))
    place = PLACE / f"{time.strftime('%Y%m%d-%H%M%S')}-seed{options.seed}"
    place.mkdir(parents=True)
    try:
        report, findings, facts = _run(options, place)
    except Exception:
        traceback.print_exc()
        _say(f"the rig itself failed; journal and logs: {place}")
        return FAILED
    code = exit_code(report)
    for name, lines in findings.violations.items():
        for line in lines[:20]:
            _say(f"{name.upper()}: {line}")
    if code == 0 and not options.keep:
        shutil.rmtree(place)
    else:
        details = {"report": report, "violations": findings.violations}
        (place / "findings.json").write_text(json.dumps(details, indent=1))
        (place / "facts.txt").write_text("\n".join(str(job) for job in facts.jobs))
        _say(f"journal, logs and findings: {place}")
    _say(
        f"{ {0: 'passed', BROKEN: 'BROKEN', VOID: 'VOID: nothing was put to the test'}[code] }, seed {options.seed}"
    )
    print(json.dumps(report) if options.json else _for_people(report))
    return code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long faults go on (default 60)")
    parser.add_argument(
        "--seed", type=int, default=None, help="draws faults and workload; default: a new one"
    )
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    parser.add_argument("--rate", type=float, default=40, help="calls a second (default 40)")
    parser.add_argument("--every", type=float, default=1.2, help="seconds between faults (default 1.2)")
    parser.add_argument("--no-faults", action="store_true", help="the workload alone: the run is void")
    parser.add_argument(
        "--drain", type=float, default=300, help="seconds until all must have ended (default 300)"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep journal and logs also when nothing is wrong"
    )
    parser.add_argument(
        "--faults", type=_kinds, default=DECK, metavar="KIND,KIND", help="these faults only; default: all"
    )
    parser.add_argument("--plant", choices=BUGS, help="a bug to put into the workers: the run must find it")
    parser.add_argument("--pg-bin", type=Path, metavar="DIR", help="programs of another PostgreSQL")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = time.time_ns() % 1_000_000
    return options


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    if unknown := set(kinds) - set(KINDS):
        raise argparse.ArgumentTypeError(f"no faults: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    return kinds


def _run(options: argparse.Namespace, place: Path) -> tuple[dict[str, Any], history.Findings, history.Facts]:
    with _rig(options, place) as rig:
        nemesis = Nemesis(
            server=rig.server,
            workers=rig.workers,
            api=rig.api,
            proxies=list(rig.proxies.values()),
            journal=rig.journal,
            seed=options.seed,
            lease=LEASE,
            say=_say,
        )
        workload = Workload(
            rig.journal,
            database=rig.proxies["clients"].url,
            api=rig.address,
            seed=options.seed,
            clients=6,
            rate=options.rate,
        )
        _say(
            f"seed {options.seed}, {options.seconds:g} s, {len(rig.workers)} workers and an API at {rig.address}"
        )
        workload.start()
        faults = (
            [] if options.no_faults else plan(options.seed, options.seconds, options.every, options.faults)
        )
        nemesis.run(faults, options.seconds, _watcher(rig))
        workload.stop()
        nemesis.end()
        with rig.server.connect() as connection:
            under_fire = ledger.read_open(connection)[2]
        _say("healed; waiting until everything has ended")
        healed = time.monotonic()
        drained = _drain(rig, workload, options.drain)
        took = time.monotonic() - healed
        late = _stop(rig)
        with rig.server.connect() as connection:
            facts = ledger.read_facts(connection, rig.seen_ended)
            rescues = ledger.read_open(connection)[3]
        findings = history.check(read_calls(rig.journal.path), facts)
        findings.stuck += late + nemesis.failures
        own_ends = sum(process.own_ends for process in rig.processes)
        (place / "server.log").write_text(rig.server.log())
    findings.unexpected += workload.unexpected
    report = _report(options, findings, nemesis.counts)
    report |= {"drained": drained, "drain_seconds": round(took, 1), "rescues": rescues, "own_ends": own_ends}
    report |= {"jobs": len(facts.jobs), "effects": len(facts.effects), "ended_under_fire": under_fire}
    return report, findings, facts


def _report(
    options: argparse.Namespace, findings: history.Findings, counts: dict[str, int]
) -> dict[str, Any]:
    numbers = {name: len(getattr(findings, name)) for name in findings.VIOLATIONS}
    return {
        "acked": findings.acked,
        "unknown": findings.unknown,
        **numbers,
        "faults": counts,
        "seed": options.seed,
        "seconds": options.seconds,
        "failed": findings.failed,
        "recovered": findings.recovered,
        "duplicates": findings.duplicates,
        "redriven": findings.redriven,
        "limits_reached": findings.limits_reached,
    }


def exit_code(report: dict[str, Any]) -> int:
    """0, BROKEN, or VOID: without a fault, an unknown outcome and an acknowledged call nothing was put to the test."""
    if any(report[name] for name in history.Findings.VIOLATIONS) or not report["drained"]:
        return BROKEN
    if not any(report["faults"].values()) or not report["unknown"] or not report["acked"]:
        return VOID
    return 0


@contextmanager
def _rig(options: argparse.Namespace, place: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        _say("making a private PostgreSQL")
        server = stack.enter_context(private_server(options.pg_bin))
        names = ("clients", "api", "worker-1", "worker-2")
        proxies = {
            name: stack.enter_context(FaultProxy(server.url, seed=options.seed + index))
            for index, name in enumerate(names)
        }
        journal = Journal(place / "journal.jsonl")
        stack.callback(journal.close)
        port = free_port()
        command = ["app.cli", "api", "--port", str(port)]
        api = Managed("api", command, proxies["api"], SETTINGS, place)
        program = ["app.cli"]
        if options.plant:
            program = ["scripts.chaos_rig.planted", options.plant]
            with server.connect() as connection:
                plant_functions(connection, options.plant)
        handlers = [
            *program,
            "worker",
            "--queues",
            QUEUES,
            "--handlers",
            "scripts.chaos_rig.handlers:register",
        ]
        workers = [Managed(name, handlers, proxies[name], SETTINGS, place) for name in names[2:]]
        for process in (api, *workers):
            stack.callback(process.end_now)
            process.start()
        rig = Rig(server, workers, api, f"http://127.0.0.1:{port}", proxies, journal)
        _until_ready(rig, place)
        yield rig


def _until_ready(rig: Rig, place: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            ready = httpx.get(f"{rig.address}/health/ready").status_code == 200
        except httpx.TransportError:
            ready = False
        with rig.server.connect() as connection:
            row = connection.execute("SELECT count(*) FROM tandem.worker").fetchone()
        if ready and row is not None and row[0] == len(rig.workers):
            return
        time.sleep(0.1)
    sys.stderr.write("".join(path.read_text()[-2000:] for path in place.glob("*.log")))
    raise TimeoutError("API and workers did not start")


def _watcher(rig: Rig) -> Any:
    """Called a few times a second: restarts what ended, remembers what has ended for good, tells how it goes."""
    last = [time.monotonic(), 0.0]

    def watch() -> None:
        for process in rig.processes:
            process.tend()
        if time.monotonic() - last[0] < 1.0:
            return
        last[0] = time.monotonic()
        try:
            with rig.server.connect() as connection:
                rig.seen_ended.update(ledger.read_ended(connection))
                unended, pending, ended, rescued = ledger.read_open(connection)
        except psycopg.Error:
            return
        if time.monotonic() - last[1] > 5.0:
            last[1] = time.monotonic()
            _say(f"{ended} jobs ended, {unended} not yet, {pending} conversations pending, {rescued} rescues")

    return watch


def _drain(rig: Rig, workload: Workload, seconds: float) -> bool:
    """Wait until every job has ended, dead letters are back and done, and no conversation is pending."""
    end, watch = time.monotonic() + seconds, _watcher(rig)
    while time.monotonic() < end:
        watch()
        try:
            workload.redriver.redrive_rest(rig.server.url)
            with rig.server.connect() as connection:
                unended, pending, _, _ = ledger.read_open(connection)
        except psycopg.Error:
            unended, pending = 1, 0
        if not unended and not pending:
            return True
        time.sleep(0.25)
    return False


def _stop(rig: Rig) -> list[str]:
    """End every process in good order; answers what did not end."""
    late: list[str] = []
    for process in rig.processes:
        try:
            process.stop()
        except TimeoutError as error:
            late.append(str(error))
    return late


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def _for_people(report: dict[str, Any]) -> str:
    faults = ", ".join(f"{name} {count}" for name, count in sorted(report["faults"].items()) if count)
    numbers = ", ".join(f"{name} {value}" for name, value in report.items() if name != "faults")
    return f"{numbers}\nfaults: {faults}"


if __name__ == "__main__":
    sys.exit(main())
