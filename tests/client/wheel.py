"""The wheel of the client, built from this checkout, and environments that have it and nothing else of ours."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from app.config import CHECKOUT


def build_wheel(place: Path) -> Path:
    """Build the wheel below `place`."""
    source = place / "source"
    shutil.copytree(CHECKOUT / "app", source / "app", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", code, str(place)], cwd=source, check=True, capture_output=True, text=True
    )
    (wheel,) = place.glob("tandem_queue-*.whl")
    return wheel


class Environment:
    """A virtual environment of another program."""

    def __init__(self, place: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
        self.python = place / "bin" / "python"

    def install_from_registry(self, *names: str) -> None:
        """Install packages in the versions that the tests have. Skips the test when no registry answers."""
        wanted = [f"{name}=={version(name.partition('[')[0])}" for name in names]
        installed = self._pip("--only-binary", ":all:", *wanted)
        if installed.returncode:
            reason = (installed.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            pytest.skip(f"skipped: the package registry cannot be used: {reason}")

    def install_wheel(self, wheel: Path) -> None:
        """Install the client; what it depends on must be there already."""
        installed = self._pip("--no-index", str(wheel))
        assert installed.returncode == 0, installed.stderr

    def run(self, script: Path, *arguments: str) -> str:
        """Run a script of that program; answers what it prints. Fails with what it says on its way down."""
        ran = subprocess.run(
            [str(self.python), "-I", "-W", "error", str(script), *arguments],
            cwd=script.parent,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def _pip(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        options = ["--disable-pip-version-check", "--no-input", "--retries", "1", "--timeout", "20"]
        command: Sequence[str] = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(self.python),
            "install",
            *options,
        ]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
