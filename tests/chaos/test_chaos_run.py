"""scripts/chaos in its short form with fixed seeds: real processes, a private server, and all promises judged."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.config import CHECKOUT
from scripts.chaos_rig.nemesis import KINDS, plan

VIOLATIONS = ("lost", "ghosts", "double_effects", "stuck", "order_violations", "unstable", "unexpected")
pytestmark = pytest.mark.chaos


def run(pytestconfig: pytest.Config, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the last line as JSON, and what was told to people."""
    programs = pytestconfig.getoption("--pg-bin")
    command = [sys.executable, "-P", "-m", "scripts.chaos_rig", "--json", *arguments]
    result = subprocess.run(
        [*command, *(["--pg-bin", str(Path(programs))] if programs else [])],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        timeout=300,
    )
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout.splitlines()[-1]), result.stderr


@pytest.mark.parametrize("seed", [1, 2])
def test_no_promise_is_broken(pytestconfig: pytest.Config, seed: int) -> None:
    code, report, told = run(pytestconfig, "--seconds", "20", "--every", "0.9", "--seed", str(seed))
    assert {name: report[name] for name in VIOLATIONS} == dict.fromkeys(VIOLATIONS, 0), told
    assert code == 0, told
    assert report["seed"] == seed
    assert report["acked"] > 0
    assert report["unknown"] > 0
    assert sum(count > 0 for count in report["faults"].values()) >= 8


def test_a_run_without_faults_is_void(pytestconfig: pytest.Config) -> None:
    code, report, told = run(pytestconfig, "--seconds", "1", "--seed", "3", "--no-faults")
    assert code == 3, told
    assert not any(report["faults"].values())


def test_a_seed_draws_the_same_faults_and_all_kinds_before_any_twice() -> None:
    faults = plan(7, 60, 1.0)
    assert faults == plan(7, 60, 1.0)
    assert faults != plan(8, 60, 1.0)
    assert sorted(fault.kind for fault in faults[: len(KINDS)]) == sorted(KINDS)
