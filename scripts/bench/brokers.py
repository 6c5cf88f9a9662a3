"""Brokers beside Tandem: each measurement starts one on free loopback ports in a directory of its own, stops it by pid.

All write to disk before they confirm. A broker that cannot run here raises BrokerMissingError with the reason.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from app.config import CHECKOUT
from scripts.bench.catalogue import Peer

DATA = CHECKOUT / ".tandem" / "bench" / "brokers"
RABBITMQ = Path("/usr/lib/rabbitmq")
START_SECONDS = 120.0


class BrokerMissingError(Exception):
    """A broker cannot run here."""


@dataclass(frozen=True)
class Plan:
    """How a broker is started: commands in order, the last one is the broker; and what its settings promise."""

    version: str
    url: str
    port: int
    commands: list[list[str]]
    durability: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Broker:
    """A running broker."""

    url: str
    version: str
    durability: str
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """CPU of the broker and its children so far."""
        times = [one.cpu_times() for one in _tree(self.process)]
        own = self.process.cpu_times()
        return sum(one.user + one.system for one in times) + float(own.children_user + own.children_system)

    def disk_bytes(self) -> float | None:
        """What it has had written to disk so far; None where the system will not tell."""
        try:
            return float(sum(one.io_counters().write_bytes for one in _tree(self.process)))
        except (psutil.AccessDenied, AttributeError):
            return None


@contextlib.contextmanager
def running(peer: Peer) -> Iterator[Broker]:
    """The peer's broker for the length of a block; its data go with it. Raises BrokerMissingError."""
    DATA.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f"{peer.broker}-", dir=DATA))
    started: list[subprocess.Popen[bytes]] = []
    try:
        plan = PLANS[peer.broker or ""](peer, place)
        environment = {**os.environ, **plan.environment}
        with (place / "broker.log").open("wb") as log:
            for command in plan.commands:
                started.append(  # noqa: PERF401 - what has started is stopped, also when the next fails
                    subprocess.Popen(
                        [*_anchored(), *command], cwd=place, env=environment, stdin=subprocess.DEVNULL,
                        stdout=log, stderr=log, start_new_session=True,
                    )
                )  # fmt: skip
        _wait_for(plan.port, started[-1], place / "broker.log")
        yield Broker(plan.url, plan.version, plan.durability, psutil.Process(started[-1].pid))
    finally:
        for process in reversed(started):
            _stop(process)
        shutil.rmtree(place, ignore_errors=True)


def _anchored() -> list[str]:
    """What lets a program end with this one, also if it is killed: then no block comes to its end."""
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", "TERM"] if program else []


def _nats(peer: Peer, place: Path) -> Plan:
    program = peer.home / "bin" / "nats-server"
    port = _free_port()
    (place / "nats.conf").write_text(
        f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{place}/data", sync_interval: always }}\n'
    )
    return Plan(
        version=_answer(str(program), "--version").rpartition("v")[2],
        url=f"nats://127.0.0.1:{port}",
        port=port,
        commands=[[str(program), "-c", str(place / "nats.conf")]],
        durability="file storage, sync_interval always: flushed before it confirms",
    )


def _redis(peer: Peer, place: Path) -> Plan:
    program = shutil.which("redis-server")
    if program is None:
        raise BrokerMissingError("redis-server is not installed; Debian: apt-get install redis-server")
    port = _free_port()
    settings = {
        "bind": "127.0.0.1", "port": str(port), "dir": str(place), "save": "", "appendonly": "yes",
        "appendfsync": "always", "auto-aof-rewrite-percentage": "0",
    }  # fmt: skip
    return Plan(
        version=_answer(program, "--version").partition("v=")[2].partition(" ")[0],
        url=f"redis://127.0.0.1:{port}/0",
        port=port,
        commands=[[program, *(part for name, value in settings.items() for part in (f"--{name}", value))]],
        durability="appendfsync always: flushed before it answers",
    )


def _rabbitmq(peer: Peer, place: Path) -> Plan:
    program, epmd = RABBITMQ / "bin" / "rabbitmq-server", shutil.which("epmd")
    releases = sorted(RABBITMQ.glob("lib/rabbitmq_server-*"))
    if epmd is None or not releases or not program.exists():
        raise BrokerMissingError("rabbitmq-server is not installed; Debian: apt-get install rabbitmq-server")
    port, mapper, distribution = _free_port(), _free_port(), _free_port()
    (place / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\n")
    (place / "plugins").write_text("[].\n")
    return Plan(
        version=releases[-1].name.rpartition("-")[2],
        url=f"amqp://guest:guest@127.0.0.1:{port}/",
        port=port,
        # Its own port mapper in the foreground: RabbitMQ would leave one behind that serves the whole machine.
        commands=[[epmd, "-address", "127.0.0.1", "-port", str(mapper)], [str(program)]],
        durability="quorum queues: in the flushed log before it confirms; the replay reads a stream queue",
        environment={
            "HOME": str(place),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"bench{port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(place / "data"),
            "RABBITMQ_LOG_BASE": str(place / "log"),
            "RABBITMQ_PID_FILE": str(place / "pid"),
            "RABBITMQ_CONFIG_FILE": str(place / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(place / "none"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(place / "none.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(place / "plugins"),
        },
    )


PLANS: dict[str, Callable[[Peer, Path], Plan]] = {"nats": _nats, "redis": _redis, "rabbitmq": _rabbitmq}


def _tree(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _answer(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it listens. Raises BrokerMissingError with the end of its log."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        time.sleep(0.1)
    raise BrokerMissingError(f"it did not start: {log.read_text(errors='replace')[-1000:].strip()}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it and its children, by their pids."""
    if process.poll() is not None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        family = _tree(psutil.Process(process.pid))
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=10)
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()
