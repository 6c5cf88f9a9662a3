"""The API's resident memory: at rest, and after each tenth of many ended conversations. W9 measures its speed."""

import math

import psutil

from scripts.bench.http_workload import OUR_EVENTS, OURS, Load, load_slice, serving
from scripts.bench.workloads import Run

CLIENTS = 10
FIRST_SECONDS = 1.0


def memory_api(run: Run) -> None:
    """`POST /v1/conversations/end` by 10 clients or `conns`; `ratio` is the end against the second tenth."""
    requests, clients = run.options.jobs or 100_000, max(CLIENTS, run.options.conns)
    seen, readings = Load(), list[float]()
    with serving(OURS, run.programs.url) as (port, process):
        at_rest = _rss_mb(process)
        run.begin()
        slices = 0
        for tenth in range(1, 11):
            while (missing := math.ceil(requests * tenth / 10) - seen.sent) > 0:
                seconds = missing / seen.requests_s if seen.requests else FIRST_SECONDS
                load_slice(seen, port, process, clients, min(max(seconds, 0.5), 30.0), slices)
                seen.waits.clear()  # thousands of figures that nobody reads
                slices += 1
            readings.append(_rss_mb(process))
    line = run.line
    line.n, line.jobs_s = seen.sent, seen.requests_s
    line.rss_mb, line.ratio = readings[-1], readings[-1] / readings[1]
    line.detail = {"rss_mb_at_rest": at_rest, "rss_mb_by_tenth": readings, "api_cpu_us": seen.cpu_us}
    written = run.meter.number(OUR_EVENTS)
    line.lost, line.doubled = max(0, seen.sent - written), max(0, written - seen.sent)
    if seen.refused or written != seen.sent:
        line.void = f"refused {seen.refused}; {seen.sent} accepted, in the database {written}"


def _rss_mb(process: psutil.Process) -> float:
    return round(float(process.memory_info().rss) / 1e6, 1)
