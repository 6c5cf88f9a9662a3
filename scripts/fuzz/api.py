"""scripts/fuzz_api: schemathesis with all checks against a running API, then the database and the log are judged.

Exit code 0: nothing found; 1: something was; 2: the fuzzer could not run, or did too little to say anything.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from app.config import CHECKOUT
from scripts.chaos_rig.processes import free_port
from scripts.chaos_rig.server import private_server

PLACE = CHECKOUT / ".tandem" / "fuzz"
SETTINGS = {
    "TANDEM_WORKER__LEASE_SECONDS": "5",
    "TANDEM_SWEEPER__EVERY_SECONDS": "1",
    "TANDEM_API__AUTH": "required",
    # A check calls without and with a wrong credential, again and again: it wants 401, not 429.
    "TANDEM_API__FAILURES_PER_MINUTE": "1000000",
}
CONFIG = Path(__file__).with_name("schemathesis.toml")
LEAST_CASES = 200
MOST_GROWTH_MB = 200.0
FOUND, FAILED = 1, 2
# Jobs in several states, so that cancel, retry and result have something to find.
SEEDS = """
SELECT tandem.enqueue('nobody-runs-this', '{}', queue => 'default') FROM generate_series(1, 20);
SELECT tandem.enqueue('process_conversation_event', '{}', queue => 'conversations') FROM generate_series(1, 20);
SELECT tandem.enqueue('later', '{}', run_at => clock_timestamp() + interval '1 day') FROM generate_series(1, 5);
"""
WRONG = """
SELECT (SELECT count(*) FROM (
            SELECT j.id FROM tandem.job AS j LEFT JOIN (
                SELECT job_id FROM tandem.ready UNION ALL SELECT job_id FROM tandem.scheduled
                UNION ALL SELECT job_id FROM tandem.blocked UNION ALL SELECT job_id FROM tandem.lease
                UNION ALL SELECT job_id FROM tandem.done) AS p ON p.job_id = j.id
            GROUP BY j.id HAVING count(p.job_id) <> 1) AS misplaced),
       (SELECT count(*) FROM conversation_events AS e LEFT JOIN tandem.job AS j ON j.id = e.job_id WHERE j.id IS NULL),
       (SELECT count(*) FROM tandem.job)
"""


def main(arguments: list[str] | None = None) -> int:
    """Fuzz, report, and answer the exit code."""
    options = _options(arguments)
    place = PLACE / f"api-{time.strftime('%Y%m%d-%H%M%S')}-seed{options.seed}"
    place.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if options.api is not None:
            report = _fuzz(options, options.api, place)
        else:
            url = options.database or stack.enter_context(private_server(options.pg_bin)).url
            report = stack.enter_context(_judged(options, url, place))
    code = _exit_code(report, options)
    report |= {"seed": options.seed, "seconds": options.seconds, "exit_code": code, "place": str(place)}
    (place / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report) if options.json else _for_people(report))
    return code


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz_api", description=__doc__)
    parser.add_argument(
        "--seconds", type=int, help="repeat until then (default 60; with --examples: each phase once)"
    )
    parser.add_argument("--seed", type=int, default=None, help="draws the calls; default: a new one")
    parser.add_argument("--examples", type=int, default=None, help="most calls of one operation in one phase")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    parser.add_argument(
        "--database", metavar="URL", help="an empty, migrated database instead of a private server"
    )
    parser.add_argument("--api", metavar="URL", help="fuzz what serves there, and judge its answers alone")
    parser.add_argument("--pg-bin", type=Path, metavar="DIR", help="programs of another PostgreSQL")
    options = parser.parse_args(arguments)
    if options.seconds is None and options.examples is None:
        options.seconds = 60
    if options.seed is None:
        options.seed = time.time_ns() % 1_000_000
    return options


@contextmanager
def _judged(options: argparse.Namespace, url: str, place: Path) -> Iterator[dict[str, Any]]:
    """Fuzz an API and a worker of our own; beside the answers, the database, the log and the memory are judged."""
    with _running(url, place) as (api, address):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SEEDS)
            before = psutil.Process(api.pid).memory_info().rss
            report = _fuzz(options, address, place, key=_make_key(url, place))
            alive = api.poll() is None
            after = psutil.Process(api.pid).memory_info().rss if alive else 0
            row = connection.execute(WRONG).fetchone()
        assert row is not None  # noqa: S101 - an aggregate has a row
        log = (place / "api.log").read_text()
        yield report | {
            "alive": alive and httpx.get(f"{address}/health/ready").status_code == 200,
            "unforeseen": log.count("unforeseen error"),
            "misplaced_jobs": row[0],
            "events_without_job": row[1],
            "jobs": row[2],
            "memory_mb": [round(before / 2**20, 1), round(after / 2**20, 1)],
        }


@contextmanager
def _running(url: str, place: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    environment = _environment(url, place)
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name, *more in (("api", "--port", str(port)), ("worker",)):
            with (place / f"{name}.log").open("wb") as log:
                command = [sys.executable, "-m", "app.cli", name, *more]
                started.append(
                    subprocess.Popen(command, env=environment, cwd=CHECKOUT, stdout=log, stderr=log)
                )
        address = f"http://127.0.0.1:{port}"
        _until_ready(address, started[0])
        yield started[0], address
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environment(url: str, place: Path) -> dict[str, str]:
    environment = {**os.environ, **SETTINGS, "DATABASE_URL": url, "PYTHONPATH": str(CHECKOUT)}
    environment["TANDEM_TOPICS__AUDIT_FOLDER"] = str(place / "audit")  # signed heads of this database alone
    environment.pop("DATABASE_LISTEN_URL", None)
    return environment


def _make_key(url: str, place: Path) -> str:
    """A key that may do everything: what it is refused, it is refused for what it says."""
    command = [sys.executable, "-m", "app.cli", "keys", "create", "fuzzer", "--role", "admin", "--json"]
    made = subprocess.run(
        command, env=_environment(url, place), cwd=CHECKOUT, capture_output=True, check=True
    )
    return str(json.loads(made.stdout)["key"])


def _until_ready(address: str, api: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and api.poll() is None:
        try:
            if httpx.get(f"{address}/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError("the API did not start")


def _fuzz(options: argparse.Namespace, address: str, place: Path, key: str | None = None) -> dict[str, Any]:
    """Run schemathesis; answers what it did and found. Its own report stays in `place`."""
    details = place / "schemathesis.json"
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG), "run",
        f"{address}/openapi.json", "--phases", "examples,coverage,fuzzing,stateful",
        "--seed", str(options.seed), "--continue-on-failure",
        "--request-timeout", "20", "--report", "json", "--report-json-path", str(details),
    ]  # fmt: skip
    if key is not None:
        command += ["--header", f"Authorization: Bearer {key}"]
    if options.seconds is not None:
        command += ["--max-time", str(options.seconds)]
    if options.examples is not None:
        command += ["--max-examples", str(options.examples)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, env=environment, cwd=place, capture_output=True, check=False)
    (place / "report.txt").write_bytes(done.stdout + done.stderr)
    if not details.exists():
        sys.stderr.write((done.stdout + done.stderr).decode(errors="replace")[-3000:])
        return {"cases": 0, "operations": 0, "failures": [], "errors": ["schemathesis did not run"]}
    told = json.loads(details.read_text())
    if told["operations"] is None:
        return {"cases": 0, "operations": 0, "failures": [], "errors": told["errors"] or ["no document"]}
    return {
        "cases": told["test_cases"]["generated"],
        "operations": told["operations"]["tested"],
        "of_operations": told["operations"]["total"],
        "phases": {name: phase["status"] for name, phase in told["phases"].items()},
        "failures": [
            {"what": one["title"], "count": one["count"], "operations": one["operations"]}
            for one in told["failures"]
        ],
        "errors": told["errors"],
        "requests_by_seconds": round(told["test_cases"]["generated"] / max(told["running_time"], 0.001), 1),
    }


def _exit_code(report: dict[str, Any], options: argparse.Namespace) -> int:
    if report["errors"] or report["operations"] != report.get("of_operations"):
        return FAILED
    wrong = [report["failures"], report.get("unforeseen"), report.get("misplaced_jobs")]
    wrong += [report.get("events_without_job"), not report.get("alive", True)]
    low, high = report.get("memory_mb", (0.0, 0.0))
    if any(wrong) or high - low > MOST_GROWTH_MB:
        return FOUND
    return FAILED if options.api is None and report["cases"] < LEAST_CASES else 0


def _for_people(report: dict[str, Any]) -> str:
    lines = [f"{name}: {value}" for name, value in report.items() if name != "failures"]
    lines += [f"FOUND {one['count']} x {one['what']}: {one['operations']}" for one in report["failures"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
