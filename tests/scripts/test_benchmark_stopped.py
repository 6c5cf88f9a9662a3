"""A benchmark that is stopped or killed leaves no broker behind."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.config import CHECKOUT
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
