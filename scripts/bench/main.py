"""The command line of the benchmark: one workload of one peer, or all of them, or those of topics, interleaved."""

import argparse
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace

from scripts.bench import budget, catalogue, report
from scripts.bench.plan import JOBS, TOPICS, Step, plan
from scripts.bench.runner import measure
from scripts.bench.server import benchmark_server
from scripts.bench.workloads import Options

# What is run together: workloads, and the peers unless others are named.
GROUPS = {"all": JOBS, "topics": TOPICS}
PEERS = {"all": "tandem,floor", "topics": "tandem"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the arguments say. Exit code 1 when a run was void."""
    options = _parser().parse_args(arguments)
    end_when_asked()
    if options.workload in GROUPS:
        sys.exit(_all(options))
    peer = catalogue.load(options.peer)
    chosen = Options(
        workers=options.workers,
        conns=options.conns,
        jobs=options.jobs,
        seconds=options.seconds,
        rate=options.rate,
        variant=options.variant,
        groups=options.groups,
    )
    lines = []
    with benchmark_server() as server:
        for _ in range(options.repeat):
            lines.append(measure(server, peer, options.workload, chosen))
            report.show(lines[-1], as_json=options.json)
    sys.exit(1 if any(line.void for line in lines) else 0)


def end_when_asked() -> None:
    """SIGTERM and SIGHUP end the run as an error would: servers, brokers and workers are stopped on the way out."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def _all(options: argparse.Namespace) -> int:
    peers = [catalogue.load(name) for name in (options.peers or PEERS[options.workload]).split(",")]
    workloads = options.workloads.split(",") if options.workloads else GROUPS[options.workload]
    steps: Iterable[Step] = plan(
        peers, workloads, repeat=options.repeat, quick=options.quick, long=options.long
    )
    left_out: list[Step] = []
    if options.budget:
        chosen_workloads = workloads if options.workloads or options.workload != "all" else None
        fit = budget.fitting(peers, chosen_workloads, repeat=options.repeat, minutes=options.budget)
        sys.stderr.write(f"{fit.text}\n")
        if options.estimate:
            return 0
        steps = budget.within(fit.steps, options.budget, left_out)
    elif options.estimate:
        minutes = sum(map(budget.estimate, steps)) / 60
        sys.stderr.write(f"about {minutes:.0f} minutes\n")
        return 0
    for peer in peers:  # before the clock of a budget starts; who cannot be made gives void runs that say so
        with contextlib.suppress(catalogue.InterpreterMissingError, subprocess.CalledProcessError):
            catalogue.prepare(peer)
    lines = []
    with benchmark_server() as server:
        for step in steps:
            chosen = step.options
            if options.jobs and step.workload == "T3":
                chosen = replace(chosen, jobs=options.jobs)
            lines.append(measure(server, step.peer, step.workload, chosen))
            report.show(lines[-1], as_json=options.json)
    names = [f"{step.workload} {step.peer.name}" for step in left_out]
    report.write(lines, sys.argv[1:], quiet=options.json, left_out=names)
    return 1 if any(line.void for line in lines) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench/run", description=__doc__, epilog="docs/performance.md describes all."
    )
    parser.add_argument("workload", choices=[*JOBS, *TOPICS, *GROUPS])
    parser.add_argument("--peer", default="tandem", help=f"one of {', '.join(catalogue.names())}")
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    parser.add_argument("--conns", type=int, default=1, help="connections of W1, T1, conns; clients of W9")
    parser.add_argument(
        "--jobs",
        type=int,
        help="how many jobs (W2, W3, W7, W8, memory), requests (memory-api) or messages (T2 to T4; `topics`: T3)",
    )
    parser.add_argument("--seconds", type=float, help="how long (W1, W4 to W9, T1); W3, T2 to T4: at most")
    parser.add_argument("--rate", type=float, help="jobs per second of W6, messages of T1")
    parser.add_argument("--groups", type=int, default=1, help="consumer groups of T1 to T4")
    parser.add_argument(
        "--variant", help="tandem: W1 job, sql, event, event-2; W2 many, copy; scale queues, kinds"
    )
    parser.add_argument("--repeat", type=int, default=1, help="how often; `all` and `topics` interleave")
    parser.add_argument("--json", action="store_true", help="one JSON line per run, nothing else")
    parser.add_argument("--peers", help="`all`, `topics`: which, by comma")
    parser.add_argument("--workloads", help="`all`, `topics`: which, by comma")
    parser.add_argument(
        "--long", action="store_true", help="`all`: the forms that take long (W7 with 10 million)"
    )
    parser.add_argument(
        "--budget", type=float, metavar="MINUTES", help="`all`: the longest forms that fit, W1 to W7 (docs)"
    )
    parser.add_argument("--estimate", action="store_true", help="`all`: say how long it takes, run nothing")
    parser.add_argument("--quick", action="store_true", help="`all`, `topics`: shorter runs")
    return parser


if __name__ == "__main__":
    main()
