"""A benchmark that is stopped or killed leaves no broker behind, and it stops its programs gently."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from app.config import CHECKOUT
from scripts.bench.programs import Program, ProgramFailedError, Programs
from tests.support.waiting import eventually

# A broker that anybody can run, in the place of a real one.
RUN = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from scripts.bench import brokers, main

def plan(peer, place):
    port = brokers._free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    return brokers.Plan(version="1", url="", port=port, commands=[command], durability="none")

brokers.PLANS["web"] = plan
brokers.DATA = Path(sys.argv[1])
main.end_when_asked()
with brokers.running(SimpleNamespace(broker="web")) as broker:
    print(broker.process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_stopped_run_leaves_no_broker(number: signal.Signals, tmp_path: Path) -> None:
    if number == signal.SIGKILL and shutil.which("setpriv") is None:
        pytest.skip("no setpriv (util-linux): what is killed cannot tidy up")
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as run:
        assert run.stdout is not None
        broker = psutil.Process(int(run.stdout.readline()))
        run.send_signal(number)
        run.wait(60)
    eventually(lambda: not broker.is_running() or broker.status() == psutil.STATUS_ZOMBIE)


# As a Node program that hears SIGTERM once: a second one ends it before it has saved.
HEARS_ONCE = """
import json, signal, sys, time
def say(**facts): print(json.dumps(facts), flush=True)
told = []
def hear(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    told.append(True)
signal.signal(signal.SIGTERM, hear)
say(ready=True)
while not told: time.sleep(0.01)
time.sleep(0.3)
say(saved=7)
"""
ENDS_AT_ONCE = "import sys; print('nothing to do', file=sys.stderr); sys.exit(3)"


def peer(source: str) -> Any:
    return SimpleNamespace(
        name="fake", command=lambda _: [sys.executable, "-c", source], surroundings=lambda: None, bulk_batch=1
    )


def test_workers_are_told_once_to_end_and_then_waited_for(tmp_path: Path) -> None:
    running = Programs(cast(Any, peer(HEARS_ONCE)), "", tmp_path)
    try:
        running.start_workers(3)
        running.stop_workers()
        assert [worker.facts["saved"] for worker in running.workers] == [7, 7, 7]
    finally:
        for one in running.all:
            one.kill()


def test_a_program_that_ended_too_soon_is_said_to_have_ended() -> None:
    program = Program(cast(Any, peer(ENDS_AT_ONCE)), "work", "", {}, "adapter")
    try:
        with pytest.raises(ProgramFailedError, match="no 'ready' before it ended with 3: nothing to do"):
            program.wait_for("ready", 60)
    finally:
        program.kill()
