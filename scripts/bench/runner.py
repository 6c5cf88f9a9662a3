"""Measures one workload of one peer on a fresh database, and never takes a failure for a figure."""

import itertools

from scripts.bench import catalogue
from scripts.bench.catalogue import Peer
from scripts.bench.http_workload import w9
from scripts.bench.limit_workload import LIMIT_WORKLOADS
from scripts.bench.meter import Meter
from scripts.bench.programs import ProgramFailedError, programs
from scripts.bench.results import Line
from scripts.bench.server import Server
from scripts.bench.workloads import WORKLOADS, Options, Run

ALL = {**WORKLOADS, "W9": w9, **LIMIT_WORKLOADS}
_numbers = itertools.count(1)


def measure(server: Server, peer: Peer, workload: str, options: Options) -> Line:
    """Run it once. A peer that fails or takes too long gives a void line."""
    line = Line(
        peer=peer.name,
        version="",
        workload=workload,
        workers=options.workers,
        conns=options.conns,
        variant=options.variant,
    )
    try:
        catalogue.prepare(peer)
    except catalogue.InterpreterMissingError as error:
        line.void = str(error)
        return line
    line.version = peer.version()
    name = f"bench_{next(_numbers)}"
    with server.database(name) as url, programs(peer, url) as started:
        started.setup()
        observer_url = server.address(name, observer=True)
        meter = Meter(observer_url, server.pid)
        try:
            ALL[workload](Run(started, meter, options, line, observer_url))
        except ProgramFailedError as error:
            line.void = str(error)
        finally:
            meter.close()
    return line
