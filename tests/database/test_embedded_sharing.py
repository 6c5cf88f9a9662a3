"""The embedded server between processes: who starts it, who stops it, and what a crash leaves."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from app.config import CHECKOUT
from app.database import embedded
from app.errors import Conflict

pytestmark = pytest.mark.embedded

USER = """
import sys
from pathlib import Path
from app.database import embedded
with embedded.running(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.readline()
"""
StartUser = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def start_user(open_directory: Path) -> Iterator[StartUser]:
    """Starts processes that use the server until they are told to end."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", USER, str(open_directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_ready(process: subprocess.Popen[str]) -> None:
    """Until the process has the server."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def end(process: subprocess.Popen[str]) -> None:
    """Tell the process to leave, and wait for its end."""
    process.communicate("\n", timeout=60)
    assert process.returncode == 0


def pid_of(root: Path) -> int:
    """The process id of the server of a checkout."""
    found = embedded.find(root)
    assert found is not None
    return found[1].pid


def test_processes_that_start_together_share_one_server(open_directory: Path, start_user: StartUser) -> None:
    users = [start_user() for _ in range(3)]
    for user in users:
        wait_ready(user)
    pid = pid_of(open_directory)
    for user in users:
        assert pid_of(open_directory) == pid
        end(user)
    assert embedded.find(open_directory) is None


def test_the_starter_may_leave_first(open_directory: Path, start_user: StartUser) -> None:
    starter = start_user()
    wait_ready(starter)
    with embedded.running(open_directory) as url:
        pid = pid_of(open_directory)
        end(starter)
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert pid_of(open_directory) == pid
    assert embedded.find(open_directory) is None


def test_a_killed_starter_leaves_a_server_that_the_next_one_takes_over(
    open_directory: Path, start_user: StartUser
) -> None:
    starter = start_user()
    wait_ready(starter)
    pid = pid_of(open_directory)
    starter.send_signal(signal.SIGKILL)
    starter.wait(60)
    assert pid_of(open_directory) == pid
    with embedded.running(open_directory) as url, psycopg.connect(url):
        assert pid_of(open_directory) == pid
    assert embedded.find(open_directory) is None


def test_a_process_that_ends_without_leaving_stops_the_server_at_exit(open_directory: Path) -> None:
    code = "import sys; from pathlib import Path; from app.database import embedded\n"
    code += "embedded.ensure_running(Path(sys.argv[1])); embedded.ensure_running(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(open_directory)], check=True, cwd=CHECKOUT, timeout=60)
    assert embedded.find(open_directory) is None


def test_a_forked_child_does_not_leave_for_its_parent(open_directory: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from app.database import embedded
root = Path(sys.argv[1])
with embedded.running(root):
    child = os.fork()
    if child == 0:
        embedded.leave(root)
        os._exit(0)
    os.waitpid(child, 0)
    sys.exit(0 if embedded.find(root) else "the child stopped its parent's server")
"""
    subprocess.run([sys.executable, "-c", code, str(open_directory)], check=True, cwd=CHECKOUT, timeout=60)


def test_a_kept_server_outlives_its_users_until_it_is_stopped(open_directory: Path) -> None:
    with embedded.running(open_directory):
        embedded.keep(open_directory)
    assert embedded.find(open_directory) is not None
    with embedded.running(open_directory):
        pass
    assert embedded.find(open_directory) is not None
    assert embedded.stop(open_directory)
    assert embedded.find(open_directory) is None
    assert not embedded.stop(open_directory)
    with embedded.running(open_directory):
        pass
    assert embedded.find(open_directory) is None


def test_a_used_server_is_stopped_only_by_force(open_directory: Path, start_user: StartUser) -> None:
    user = start_user()
    wait_ready(user)
    with pytest.raises(Conflict, match="other processes use this server"):
        embedded.stop(open_directory)
    with embedded.running(open_directory), pytest.raises(Conflict):
        embedded.stop(open_directory)
    assert embedded.find(open_directory) is not None
    assert embedded.stop(open_directory, force=True)
    assert embedded.find(open_directory) is None
    end(user)
