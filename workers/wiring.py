"""What this service runs: the kinds and reconcilers of every application, and the worker built from them.

The only place of the worker that knows the applications.
"""

from app.applications import customer_workflows, make_registry
from app.config import Settings
from app.domains.conversations import jobs as conversations
from app.domains.customers import jobs as customers
from app.domains.topics import jobs as topics
from app.observability.metrics import start_worker_metrics
from workers.connections import HandlerConnections
from workers.garbage import collect_seldom
from workers.leaving import leave_if_hanging
from workers.supervisor import Supervisor
from workers.sweeper.reconcile import Reconciler


def make_reconcilers(settings: Settings) -> list[Reconciler]:
    """Every application's repair."""
    repairs = [
        *conversations.reconcilers(settings),
        *customers.reconcilers(settings, customer_workflows(settings)),
        *topics.reconcilers(settings),
    ]
    return [Reconciler(name, repair, every) for name, repair, every in repairs]


def make_supervisor(settings: Settings, url: str, *, sweep: bool = True) -> Supervisor:
    """A worker process of this service; call it inside a running event loop."""
    lent = HandlerConnections(url, settings.database)
    registry = make_registry(settings, lent.sessions)
    settings = topics.serve_consumers(settings, registry)
    reconcilers = make_reconcilers(settings)
    return Supervisor(settings, url, registry, reconcilers=reconcilers, lent=lent, sweep=sweep)


async def run_worker(settings: Settings, url: str, *, sweep: bool = True) -> None:
    """A worker with its metrics, from start to drained end."""
    supervisor = make_supervisor(settings, url, sweep=sweep)
    collect_seldom()
    with start_worker_metrics(settings, supervisor):
        await supervisor.run()
    leave_if_hanging(supervisor)
