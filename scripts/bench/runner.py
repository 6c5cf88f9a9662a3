"""Measures one workload of one peer on a fresh database or broker, and never takes a failure for a figure."""

import contextlib
import itertools
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from scripts.bench import brokers, catalogue
from scripts.bench.api_memory import memory_api
from scripts.bench.broker_meter import RedisMeter
from scripts.bench.brokers import BrokerMissingError
from scripts.bench.catalogue import InterpreterMissingError, Peer
from scripts.bench.connection_workload import conns
from scripts.bench.http_workload import w9
from scripts.bench.limit_workload import LIMIT_WORKLOADS
from scripts.bench.meter import Meter
from scripts.bench.programs import ProgramFailedError, programs
from scripts.bench.results import Line
from scripts.bench.server import Server
from scripts.bench.spending import BrokerSpending, ServerSpending
from scripts.bench.topics import TOPIC_WORKLOADS, Spending, TopicRun
from scripts.bench.workloads import WORKLOADS, Options, Run

ALL = {**WORKLOADS, "W9": w9, "memory-api": memory_api, "conns": conns, **LIMIT_WORKLOADS}
_numbers = itertools.count(1)


def measure(server: Server, peer: Peer, workload: str, options: Options) -> Line:
    """Run it once. A peer that fails, takes too long or cannot run here gives a void line."""
    line = Line(
        peer=peer.name,
        version="",
        workload=workload,
        workers=options.workers,
        conns=options.conns,
        variant=options.variant or (f"{options.groups} groups" if options.groups != 1 else None),
    )
    try:
        catalogue.prepare(peer)
        line.version = peer.version()
        if workload in TOPIC_WORKLOADS:
            _measure_topics(server, peer, line, options)
        else:
            _measure_jobs(server, peer, line, options)
    except (InterpreterMissingError, BrokerMissingError, ProgramFailedError) as error:
        line.void = str(error)
    except subprocess.CalledProcessError as error:
        line.void = f"the environment cannot be made: {error}"
    return line


def _measure_jobs(server: Server, peer: Peer, line: Line, options: Options) -> None:
    if not peer.has_jobs:
        raise ProgramFailedError(f"{peer.name} is measured by T1 to T3 alone")
    if peer.broker is not None:
        _measure_jobs_on_broker(peer, line, options)
        return
    name = f"bench_{next(_numbers)}"
    with server.database(name) as url, programs(peer, url) as started:
        started.setup()
        observer_url = server.address(name, observer=True)
        meter = Meter(observer_url, server.pid)
        try:
            ALL[line.workload](Run(started, meter, options, line, observer_url))
        finally:
            meter.close()


def _measure_jobs_on_broker(peer: Peer, line: Line, options: Options) -> None:
    with brokers.running(peer) as broker, programs(peer, broker.url) as started:
        line.version = f"{line.version} on {peer.broker} {broker.version}"
        line.detail["durability"] = broker.durability
        started.setup()
        meter = RedisMeter(broker)
        try:
            ALL[line.workload](Run(started, meter, options, line, observer_url=""))
        finally:
            meter.close()


def _measure_topics(server: Server, peer: Peer, line: Line, options: Options) -> None:
    if not peer.has_topics:
        raise ProgramFailedError(f"{peer.name} has no topics")
    with _place(server, peer) as place, programs(peer, place.url, "topics") as started:
        line.version = place.version or line.version
        line.detail["durability"] = place.durability
        run = TopicRun(started, place.spending, options, line, place.pin_url)
        TOPIC_WORKLOADS[line.workload](run)


@dataclass(frozen=True)
class _Place:
    """Where a run of topics takes place."""

    url: str
    spending: Spending
    durability: str
    version: str | None = None
    pin_url: str | None = None


@contextlib.contextmanager
def _place(server: Server, peer: Peer) -> Iterator[_Place]:
    """A fresh broker of the peer's kind, or a fresh database."""
    if peer.broker is not None:
        with brokers.running(peer) as broker:
            version = f"{broker.version}, {peer.package} {peer.version()}"
            yield _Place(broker.url, BrokerSpending(broker), broker.durability, version)
        return
    name = f"bench_{next(_numbers)}"
    with server.database(name) as url:
        observer_url = server.address(name, observer=True)
        meter = Meter(observer_url, server.pid)
        try:
            durability = "fsync and synchronous_commit on: flushed before it commits"
            yield _Place(url, ServerSpending(meter), durability, pin_url=observer_url)
        finally:
            meter.close()
