"""Many connections: those of several hosts' workers, asleep or at work, and producers' pools that mostly idle.

What is asked: does a connection that does nothing cost the others anything, and how many workers does one job wake?
"""

import time

import psutil

from scripts.bench.evidence import SECOND_STREAM, percentiles
from scripts.bench.meter import Meter
from scripts.bench.workloads import EVERY, Run

PROCESSES = 8
ACTIVE = 8
BACKENDS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND usename <> 'observer'"""


def conns(run: Run) -> None:
    """Workers of several hosts sleep while single jobs come, then 8 of `conns` connections enqueue flat out.

    `workers` of them share 8 processes, each with all its connections. p50 to p99 and `herd_statements_per_job` belong
    to the sleep, `jobs_s` and the costs to the flood: one job per transaction.
    """
    options, detail = run.options, run.line.detail
    seconds = (options.seconds or 20.0) / 2
    before = _server_mb(run)
    for place in range(min(PROCESSES, options.workers)):
        run.programs.start_workers(1, wait=False, copies=len(range(place, options.workers, PROCESSES)))
    for worker in run.programs.workers:
        worker.wait_for("ready", 120)
    idle = run.programs.begin_producing("hold", conns=max(0, options.conns - ACTIVE), seconds=3600)
    time.sleep(1.0)  # every worker must have fallen asleep
    detail["connections"] = run.meter.number(BACKENDS)
    detail["server_mb_per_connection"] = round((_server_mb(run) - before) / detail["connections"], 2)

    run.begin()
    paced = run.programs.produce("paced", seconds=seconds, every=EVERY)
    run.until_drained(paced["n"], 10.0)
    herd = _cost_per_job(run, paced["n"])
    detail["herd_statements_per_job"] = herd["statements_per_job"]
    detail["herd_server_cpu_us_per_job"] = herd["server_cpu_us_per_job"]

    run.begin()
    flood = run.programs.produce(
        "single", conns=min(ACTIVE, options.conns), seconds=seconds, first=SECOND_STREAM
    )
    run.until_drained(paced["n"] + flood["n"], 60.0)
    cost, run.before = _cost_per_job(run, flood["n"]), None
    idle.kill()
    starts, line = run.end(), run.line
    line.wal_bytes_per_job, line.statements_per_job = cost.pop("wal_per_job"), cost.pop("statements_per_job")
    line.detail |= cost
    line.jobs_s = flood["n"] / flood["seconds"]
    asleep = [one.waited_ms for one in starts if one.n < SECOND_STREAM]
    line.p50_ms, line.p95_ms, line.p99_ms = percentiles(asleep)


def _cost_per_job(run: Run, jobs: int) -> dict[str, float]:
    costs: dict[str, float] = run.meter.read().since(run.before).per_job(jobs)  # type: ignore[assignment]
    return costs


def _server_mb(run: Run) -> float:
    """Memory that the server's processes have each for themselves; shared buffers are not in it."""
    assert isinstance(run.meter, Meter)  # noqa: S101 - no broker has this workload
    own = 0
    for process in psutil.Process(run.meter.postmaster).children():
        try:
            own += process.memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
    return own / 1e6
