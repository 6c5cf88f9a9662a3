"""What other programs install: the package `tandem` alone, and a command that knows where it is."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from app.config import CHECKOUT
from tests.client.wheel import build_wheel


@pytest.fixture
def built(tmp_path: Path) -> list[str]:
    """The names in a wheel built from this checkout."""
    with zipfile.ZipFile(build_wheel(tmp_path)) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
        requires = [line for line in archive.read(metadata).decode().splitlines() if "Requires-Dist" in line]
        assert [line.split()[1].split(">")[0] for line in requires] == ["psycopg"]
        return archive.namelist()


def test_the_wheel_holds_the_client_and_nothing_of_the_service(built: list[str]) -> None:
    packages = {name.split("/")[0] for name in built if ".dist-info/" not in name}
    assert packages == {"tandem"}
    assert {"tandem/__init__.py", "tandem/_command.py", "tandem/py.typed"} <= set(built)
    modules = {file.name for file in (CHECKOUT / "app" / "client").glob("*.py")}
    assert {name.split("/")[1] for name in built if name.endswith(".py")} == modules
    statements = {file.name for file in (CHECKOUT / "app" / "client").glob("*.sql")}
    assert {name.split("/")[1] for name in built if name.endswith(".sql")} == statements != set()


def test_the_command_of_a_checkout_is_the_services(tmp_path: Path) -> None:
    command = CHECKOUT / "app" / "client" / "_command.py"
    code = f"import runpy; runpy.run_path({str(command)!r})['main']()"
    told = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0
    assert "transactional job queue" in told.stdout


def test_the_command_of_an_installed_client_says_where_the_commands_are(tmp_path: Path) -> None:
    package = tmp_path / "lib" / "site-packages" / "tandem"
    shutil.copytree(CHECKOUT / "app" / "client", package)
    code = "from tandem._command import main; main()"
    told = subprocess.run(
        [sys.executable, "-P", "-c", code, "up"],
        env={"PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert "run from the repository" in told.stderr
