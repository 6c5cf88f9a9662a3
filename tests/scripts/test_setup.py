"""scripts/_setup: does its work once, also when two run at once, and says what to do when it cannot.

A stand-in for the interpreter makes the environment, so that nothing is downloaded.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import CHECKOUT

STAND_IN = """\
#!/bin/sh
case "$1 $2" in
"-m venv") [ -z "$NO_VENV" ] || { echo "ensurepip is not available"; exit 1; }
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "$3" >"$3/bin/activate" ;;
"-m pip") [ "$3" = --version ] || echo "$@" >>"$INSTALLED" ;;
"-m virtualenv") exit 1 ;;
*) exec REAL "$@" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with what the set-up reads, and a stand-in interpreter."""
    root = tmp_path / "a checkout"
    for name in ("requirements", "scripts"):
        (root / name).mkdir(parents=True)
    shutil.copy(CHECKOUT / "scripts" / "_setup", root / "scripts")
    (root / "requirements" / "lock.txt").write_text("")
    (root / "pyproject.toml").write_text("")
    stand_in = tmp_path / "python3"
    stand_in.write_text(STAND_IN.replace("REAL", sys.executable))
    stand_in.chmod(0o755)
    return root


def start(root: Path, **extra: str) -> subprocess.Popen[str]:
    """Run the set-up as the scripts do."""
    home = root.parent
    environment = {
        "PATH": f"{home}:{os.defpath}",
        "INSTALLED": str(home / "installed"),
        "HOME": "/nonexistent",
    }
    return subprocess.Popen(
        ["bash", "-c", 'set -euo pipefail; . "$1/scripts/_setup"; echo "$TANDEM_VENV"', "bash", str(root)],
        env=environment | extra,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(root: Path, **extra: str) -> tuple[int, str, str]:
    """Run it to its end."""
    process = start(root, **extra)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def installs(root: Path) -> list[str]:
    """The calls of pip so far."""
    file = root.parent / "installed"
    return file.read_text().splitlines() if file.exists() else []


def test_it_installs_the_lock_by_hash_once_and_then_is_silent(checkout: Path) -> None:
    code, out, err = run(checkout)
    assert (code, out) == (0, f"{checkout}/.venv\n"), err
    assert len(installs(checkout)) == 2
    assert "--require-hashes" in installs(checkout)[0]
    assert "--no-deps --no-build-isolation --editable" in installs(checkout)[1]
    assert run(checkout) == (0, f"{checkout}/.venv\n", "")
    assert len(installs(checkout)) == 2


@pytest.mark.parametrize("file", ["requirements/lock.txt", "pyproject.toml"])
def test_a_change_of_what_it_depends_on_is_noticed(checkout: Path, file: str) -> None:
    run(checkout)
    (checkout / file).write_text("# changed\n")
    assert run(checkout)[0] == 0
    assert len(installs(checkout)) == 4


def test_two_at_once_install_once(checkout: Path) -> None:
    processes = [start(checkout) for _ in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, f"{checkout}/.venv\n"), err
    assert len(installs(checkout)) == 2


def test_a_moved_checkout_is_set_up_again(checkout: Path) -> None:
    run(checkout)
    moved = checkout.rename(checkout.with_name("moved"))
    assert run(moved)[1] == f"{moved}/.venv\n"
    assert len(installs(moved)) == 4


def test_an_interrupted_installation_is_begun_again(checkout: Path) -> None:
    run(checkout)
    (checkout / ".venv" / ".tandem-stamp").unlink()
    assert run(checkout)[0] == 0
    assert len(installs(checkout)) == 4


def test_without_python_it_says_what_to_install(checkout: Path) -> None:
    tools = checkout.parent / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "cat", "cksum"):
        (tools / name).symlink_to(shutil.which(name) or name)
    code, _, err = run(checkout, PATH=str(tools))
    assert code == 1
    assert "no Python >= 3.11" in err
    assert "apt-get install python3 python3-venv" in err


def test_a_chosen_interpreter_that_does_not_fit_is_not_replaced_silently(checkout: Path) -> None:
    code, _, err = run(checkout, TANDEM_PYTHON="/bin/false")
    assert code == 1
    assert "TANDEM_PYTHON=/bin/false is not a Python >= 3.11" in err


def test_without_the_venv_module_it_names_the_package(checkout: Path) -> None:
    code, _, err = run(checkout, NO_VENV="1")
    assert code == 1
    assert "ensurepip is not available" in err
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    assert f"apt-get install {version}-venv" in err
    assert not (checkout / ".venv").exists()
