"""The metrics of a process put together, and the small server of a worker; the API's route is in scraping.py.

One process is one target: nothing is shared between processes, Prometheus adds them up.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import prometheus_client
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.config import Settings
from app.errors import ConfigurationError
from app.observability.conversation_metrics import ConversationMetrics
from app.observability.customer_metrics import CustomerMetrics, HostGauges
from app.observability.gauges import DatabaseGauges
from app.observability.http_metrics import HttpMetrics
from app.observability.queue_metrics import QueueMetrics
from app.observability.topic_metrics import TopicGauges, TopicMetrics

_log = logging.getLogger(__name__)


def bind_metrics(registry: CollectorRegistry) -> Callable[[], None]:
    """Let `registry` count what this process reports from now on; the result ends that."""
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    queue = QueueMetrics()
    registry.register(queue)
    leaving = [
        *queue.listen(),
        *ConversationMetrics(registry).listen(),
        *CustomerMetrics(registry).listen(),
        *HttpMetrics(registry).listen(),
        *TopicMetrics(registry).listen(),
    ]
    registry.register(HostGauges())
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)

    def unbind() -> None:
        for leave in leaving:
            leave()

    return unbind


@contextmanager
def open_metrics(settings: Settings, url: str) -> Iterator[CollectorRegistry]:
    """A registry with everything that a process on this database tells, for the length of a block."""
    registry = CollectorRegistry(auto_describe=False)
    gauges = DatabaseGauges(url, settings)
    registry.register(gauges)
    registry.register(TopicGauges(url, settings))
    unbind = bind_metrics(registry)
    try:
        yield registry
    finally:
        unbind()
        gauges.close()


class _Sized(Protocol):
    @property
    def held(self) -> int: ...


class _Busy(Protocol):
    @property
    def busy(self) -> int: ...


class _Pool(Protocol):
    def size(self) -> int: ...
    def checkedout(self) -> int: ...


class PoolGauges(Collector):
    """How much of a connection pool is in use, read at a scrape."""

    def __init__(self, pools: Mapping[str, Any]) -> None:
        self._pools: dict[str, _Pool] = dict(pools)

    def collect(self) -> Iterable[Metric]:
        """The gauges."""
        names = ["pool"]
        size = GaugeMetricFamily(
            "tandem_pool_connections_most", "Connections the pool may hold", labels=names
        )
        used = GaugeMetricFamily("tandem_pool_connections_used", "Connections in use now", labels=names)
        for name, pool in self._pools.items():
            size.add_metric([name], pool.size())
            used.add_metric([name], pool.checkedout())
        return size, used


class WorkerProcess(Protocol):
    """What is read of a worker's supervisor."""

    @property
    def url(self) -> str: ...
    @property
    def inbox(self) -> _Sized: ...
    @property
    def slots(self) -> _Busy: ...
    @property
    def pools(self) -> Mapping[str, Any]: ...


class WorkerGauges(Collector):
    """How full a worker process is, read from its supervisor at a scrape."""

    def __init__(self, settings: Settings, worker: WorkerProcess) -> None:
        self._slots = settings.worker.slots
        self._worker = worker

    def collect(self) -> Iterable[Metric]:
        """The gauges."""
        yield GaugeMetricFamily("tandem_worker_slots", "Jobs this process may run at once", value=self._slots)
        yield GaugeMetricFamily("tandem_worker_slots_busy", "Jobs it runs", value=self._worker.slots.busy)
        yield GaugeMetricFamily("tandem_worker_leases", "Leases it holds", value=self._worker.inbox.held)


@contextmanager
def start_worker_metrics(settings: Settings, worker: WorkerProcess) -> Iterator[str]:
    """Serve a worker's metrics in a thread of its own for the length of a block; yields the address.

    Raises ConfigurationError when the port is taken; port 0 takes a free one, and the log says which.
    """
    host, port = settings.worker.metrics_host, settings.worker.metrics_port
    with open_metrics(settings, worker.url) as registry:
        registry.register(WorkerGauges(settings, worker))
        registry.register(PoolGauges(worker.pools))
        try:
            server, thread = prometheus_client.start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise ConfigurationError(
                "metrics-port", f"metrics cannot be served on {host}:{port}: {error.strerror or error}"
            ) from error
        address = f"http://{_host(server)}:{server.server_port}/metrics"
        _log.info("metrics at %s", address)
        try:
            yield address
        finally:
            server.shutdown()
            server.server_close()
            thread.join(5.0)


def _host(server: Any) -> str:
    host = str(server.server_address[0])
    return f"[{host}]" if ":" in host else host
