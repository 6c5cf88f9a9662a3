"""`tandem worker`: one worker process, or several kept alive, until SIGTERM or SIGINT."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.config import CHECKOUT, Settings, load_settings
from app.errors import ConfigurationError

if TYPE_CHECKING:
    from app.queue.scaling import Bounds

Mode = Annotated[
    Literal["poll", "listen", "hybrid"] | None,
    typer.Option(help="How to find jobs: look every poll interval, trust NOTIFY, or both (default)."),
]


def register(parent: typer.Typer) -> None:
    """Add this command to the command line."""
    parent.command()(worker)


def worker(
    queues: Annotated[
        str | None, typer.Option(help="Queues to serve, by comma; a weight may follow: default=2,mail")
    ] = None,
    handlers: Annotated[
        str | None, typer.Option(help="Own handlers, by comma: module:registry; the module is on PYTHONPATH.")
    ] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="How many jobs may run at once.")] = None,
    mode: Mode = None,
    sweep: Annotated[bool, typer.Option(help="Also stand for leader of the sweep.")] = True,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of /metrics; 0 picks a free one.")
    ] = None,
    processes: Annotated[
        str,
        typer.Option(
            metavar="N|auto[:MIN-MAX]",
            help="How many worker processes, or as many as the backlog asks for; dead ones are started again.",
        ),
    ] = "1",
) -> None:
    """Run a worker: claim jobs, run their handlers, finish them.

    SIGTERM drains: running jobs end within the grace period, the rest goes back. A second SIGTERM does not wait.
    With several processes and a metrics port, the second one serves its metrics on the next port, and so on.

    `auto:2-8` grows and shrinks between the bounds, one process at a time, so that what waits starts within 30 s.

    Example: tandem worker --queues conversations --slots 20 --processes 4
    """
    import asyncio

    from app.database import durability, version
    from app.database.location import database
    from app.observability.logging import set_up_logging
    from workers.wiring import run_worker

    bounds = parse_processes(processes)
    settings = _with_options(load_settings(), queues, slots, mode, metrics_port)
    if handlers is not None:
        settings = settings.model_copy(
            update={"handlers": tuple(part.strip() for part in handlers.split(","))}
        )
    set_up_logging(settings.logging)
    with database(settings, root=CHECKOUT) as place:
        durability.check(place.url, settings=settings.database)
        version.check(place.url, settings=settings.database)
        if bounds.most > 1:
            _keep_several(settings, bounds, place.url, sweep=sweep)
            return
        asyncio.run(run_worker(settings, place.url, sweep=sweep))


def _keep_several(settings: Settings, bounds: "Bounds", url: str, *, sweep: bool) -> None:
    """The same worker several times, each a process that gets every option written out."""
    from app.cli.autoscale import Autoscale
    from app.cli.processes import Child, keep_running
    from app.cli.up import END_SECONDS

    own = settings.worker
    queues = ",".join(f"{name}={weight}" for name, weight in own.queues.items())
    options = ["--queues", queues, "--slots", str(own.slots), "--mode", own.mode]
    options += ["--handlers", ",".join(settings.handlers)] if settings.handlers else []
    options += [] if sweep else ["--no-sweep"]

    def make(number: int) -> Child:
        port = own.metrics_port and own.metrics_port + number - 1
        return Child(f"worker {number}", ["worker", *options, "--metrics-port", str(port)])

    children = [make(number) for number in range(1, bounds.least + 1)]
    grace = own.drain_seconds + END_SECONDS
    if bounds.least == bounds.most:
        keep_running(children, grace=grace)
        return
    with Autoscale(settings, url, bounds, make) as scale:
        keep_running(children, grace=grace, scale=scale)


def parse_processes(text: str) -> "Bounds":
    """`4`, `auto`, `auto:1-8` as bounds; `auto` alone goes to the number of processors.

    Raises ConfigurationError that shows the form.
    """
    import os

    from app.queue.scaling import Bounds

    if text == "auto":
        return Bounds(1, max(1, min(64, os.cpu_count() or 1)))
    low, _, high = text.removeprefix("auto:").partition("-") if text.startswith("auto:") else (text, "", text)
    if not (low.isdigit() and high.isdigit()):
        raise ConfigurationError(
            "invalid-processes", f"--processes {text!r}: write it like 4, auto or auto:1-8"
        )
    return Bounds(int(low), int(high))


def _with_options(
    settings: Settings, queues: str | None, slots: int | None, mode: str | None, metrics_port: int | None
) -> Settings:
    changes: dict[str, object] = {"slots": slots, "mode": mode, "metrics_port": metrics_port}
    if queues is not None:
        changes["queues"] = parse_queues(queues)
    given = {name: value for name, value in changes.items() if value is not None}
    return settings.model_copy(update={"worker": settings.worker.model_copy(update=given)})


def parse_queues(text: str) -> dict[str, int]:
    """`default=2,mail` as names with weights. Raises ConfigurationError that shows the form."""
    queues: dict[str, int] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        if not name or not (weight or "1").isdigit() or weight == "0":
            raise ConfigurationError("invalid-queues", f"--queues {text!r}: write it like default=2,mail")
        queues[name] = int(weight or 1)
    return queues
