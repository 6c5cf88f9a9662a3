"""Shows lines as they come, and at the end medians and ratios as a Markdown table; plots.py draws them."""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import psutil

from app.config import CHECKOUT
from scripts.bench import plots
from scripts.bench.plan import TOPICS
from scripts.bench.results import Line

RESULTS = CHECKOUT / ".tandem" / "bench" / "results"
FIGURES = (
    "jobs_s",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "ratio",
    "backlog",
    "wal_bytes_per_job",
    "statements_per_job",
)
LATENCY = ("W4", "W8", "T1")
OURS, FLOOR = "tandem", "floor"


def show(line: Line, *, as_json: bool) -> None:
    """One run, for programs or people."""
    if as_json:
        sys.stdout.write(line.as_json() + "\n")
        sys.stdout.flush()
        return
    found = {name: getattr(line, name) for name in FIGURES}
    text = ", ".join(f"{name} {number(value)}" for name, value in found.items() if value is not None)
    void = f"  VOID: {line.void}" if line.void else ""
    print(f"{line.column:12} {line.peer:16} {text}{void}", flush=True)


def write(
    lines: Sequence[Line], arguments: Sequence[str], *, quiet: bool, left_out: Sequence[str] = ()
) -> Path:
    """Save all lines, the table and the plots below .tandem/bench/results/; print the table unless `quiet`."""
    place = RESULTS / time.strftime("%Y%m%d-%H%M%S")
    place.mkdir(parents=True, exist_ok=True)
    (place / "lines.jsonl").write_text("".join(line.as_json() + "\n" for line in lines))
    text = table(lines, arguments)
    if left_out:
        text += f"\nLeft out, since the time was up: {', '.join(dict.fromkeys(left_out))}.\n"
    (place / "table.md").write_text(text)
    if not quiet:
        print(f"\n{text}\n")
    sys.stderr.write(f"saved in {place.relative_to(CHECKOUT)}; {plots.draw(place)}\n")
    return place


def table(lines: Sequence[Line], arguments: Sequence[str]) -> str:
    """Machine, command, and one row per workload and peer: medians, with the range behind them."""
    parts = [
        f"{machine()}\n",
        f"    scripts/bench/run {' '.join(arguments)}\n",
        _results(lines),
        _ratios(lines),
    ]
    return "\n".join([*parts, _fewer(lines), _cost(lines), _topic_cost(lines), _void(lines)]).strip() + "\n"


def _results(lines: Sequence[Line]) -> str:
    rows = [
        "| workload | peer | runs | jobs/s (least–most) | p50 / p95 / p99 ms | ratio | backlog |",
        "|---|---|---|---|---|---|---|",
    ]
    for (column, peer), runs in _grouped(lines).items():
        speed = _median(runs, lambda one: one.jobs_s)
        spread = [one.jobs_s for one in runs if one.jobs_s is not None]
        between = f" ({number(min(spread))}–{number(max(spread))})" if len(spread) > 1 else ""
        waits = [_median(runs, lambda one, name=name: getattr(one, name)) for name in FIGURES[1:4]]  # type: ignore[misc]
        rows.append(
            f"| {column} | {peer} | {len(runs)} | {number(speed)}{between if speed is not None else ''} "
            f"| {' / '.join(number(one) for one in waits) if waits[0] is not None else '–'} "
            f"| {number(_median(runs, lambda one: one.ratio))} | {number(_median(runs, lambda one: one.backlog))} |"
        )
    return "\n".join(rows) + "\n"


def _ratios(lines: Sequence[Line]) -> str:
    """Tandem against the best of the others and against the floor: above 1 is better, for latencies below 1."""
    groups = _grouped(lines)
    rows = ["| workload | Tandem | best peer | ratio | floor | ratio |", "|---|---|---|---|---|---|"]
    for column, peer in groups:
        if peer != OURS:
            continue
        runs = groups[column, OURS]
        name, best = ("p95_ms", min) if runs[0].workload in LATENCY else ("jobs_s", max)
        mine = _median(runs, lambda one, name=name: getattr(one, name))  # type: ignore[misc]
        plain = " ".join(
            part for part in column.split() if part not in {"job", "sql", "event", "event-2", "many", "copy"}
        )
        others = {
            who: value
            for (where, who), found in groups.items()
            if where == plain and who != OURS
            and (value := _median(found, lambda one, name=name: getattr(one, name))) is not None  # type: ignore[misc]
        }  # fmt: skip
        floor = others.pop(FLOOR, None)
        if mine is None or not (others or floor):
            continue
        rival = best(others, key=lambda who: others[who]) if others else None
        rows.append(
            f"| {column} {name} | {number(mine)} | {f'{rival} {number(others[rival])}' if rival else '–'} "
            f"| {number(mine / others[rival]) if rival else '–'} "
            f"| {number(floor)} | {number(mine / floor) if floor else '–'} |"
        )
    return "\n".join(rows) + "\n" if len(rows) > 2 else ""


def _fewer(lines: Sequence[Line]) -> str:
    """Who got fewer jobs than the others, because it is slow (plan.for_pace)."""
    jobs = {
        group: max(one.n for one in runs)
        for group, runs in _grouped(lines).items()
        if runs[0].workload in ("W2", "W3", "W7", "W8")
    }
    most: dict[str, int] = {}
    for (column, _), n in jobs.items():
        most[column.split()[0]] = max(n, most.get(column.split()[0], 0))
    fewer = [
        f"{column} {peer} {n:,} of {most[column.split()[0]]:,}"
        for (column, peer), n in jobs.items()
        if n < most[column.split()[0]]
    ]
    return f"Fewer jobs for slow peers: {', '.join(fewer)}.\n" if fewer else ""


def _cost(lines: Sequence[Line]) -> str:
    rows = [
        "| workload | peer | statements | WAL bytes | heap rows | index entries | dead rows "
        "| CPU µs: server | producer | worker | MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (column, peer), runs in _grouped(lines).items():
        if runs[0].wal_bytes_per_job is None or runs[0].workload in ("W9", *TOPICS):
            continue

        def detail(name: str, runs: Sequence[Line] = runs) -> str:
            return number(_median(runs, lambda one: one.detail.get(name)))

        rows.append(
            f"| {column} | {peer} | {number(_median(runs, lambda one: one.statements_per_job))} "
            f"| {number(_median(runs, lambda one: one.wal_bytes_per_job))} | {detail('heap_tuples_per_job')} "
            f"| {detail('index_tuples_per_job')} | {detail('dead_per_job')} | {detail('server_cpu_us_per_job')} "
            f"| {detail('producer_cpu_us_per_job')} | {detail('worker_cpu_us_per_job')} "
            f"| {number(_median(runs, lambda one: one.rss_mb))} |"
        )
    return "Cost per job:\n\n" + "\n".join(rows) + "\n" if len(rows) > 2 else ""


def _topic_cost(lines: Sequence[Line]) -> str:
    """What a message costs from publish to the last acknowledgement, and a million of them in money (price.py)."""
    rows = [
        "| workload | peer | statements | WAL bytes | bytes written "
        "| CPU µs: server | producer | worker | $ a million |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    details = (
        "disk_bytes_per_job",
        "server_cpu_us_per_job",
        "producer_cpu_us_per_job",
        "worker_cpu_us_per_job",
    )
    for (column, peer), runs in _grouped(lines).items():
        if runs[0].workload in TOPICS:
            figures = [_median(runs, lambda one: one.statements_per_job)]
            figures.append(_median(runs, lambda one: one.wal_bytes_per_job))
            figures += [_detail(runs, name) for name in (*details, "usd_per_million")]
            rows.append(f"| {column} | {peer} | {' | '.join(number(one) for one in figures)} |")
    return "Cost per message published:\n\n" + "\n".join(rows) + "\n" if len(rows) > 2 else ""


def _void(lines: Sequence[Line]) -> str:
    void = [f"- {line.column} {line.peer}: {line.void}" for line in lines if line.void]
    return "Void runs, left out above:\n\n" + "\n".join(void) + "\n" if void else ""


def _grouped(lines: Sequence[Line]) -> dict[tuple[str, str], list[Line]]:
    """The runs that count, by workload form and peer, in the order of the first one."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in sorted(lines, key=lambda one: (one.workload, one.workers, one.conns)):
        if not line.void:
            groups.setdefault((line.column, line.peer), []).append(line)
    return groups


def _median(runs: Iterable[Line], figure: Callable[[Line], float | None]) -> float | None:
    values = [value for one in runs if (value := figure(one)) is not None]
    return statistics.median(values) if values else None


def _detail(runs: Sequence[Line], name: str) -> float | None:
    return _median(runs, lambda one: one.detail.get(name))


def number(value: float | None) -> str:
    """As many digits as mean something."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> str:
    """Where and when, as one line."""
    try:
        model = next(
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        )
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    commit = subprocess.run(
        ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    memory = psutil.virtual_memory().total / 1024**3
    load = os.getloadavg()[1]
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({model}), {memory:.0f} GiB, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, commit {commit}, "
        f"load average {load:.1f} at the end."
    )
