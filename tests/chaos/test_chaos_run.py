"""scripts/chaos in its short form with fixed seeds: real processes, a private server, and all promises judged."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.config import CHECKOUT
from scripts.chaos_rig.__main__ import exit_code
from scripts.chaos_rig.history import Findings
from scripts.chaos_rig.nemesis import DECK, KINDS, plan

VIOLATIONS = Findings.VIOLATIONS


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


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [1, 2])
def test_no_promise_is_broken(pytestconfig: pytest.Config, seed: int) -> None:
    code, report, told = run(
        pytestconfig, "--seconds", "18", "--every", "0.9", "--rate", "25", "--seed", str(seed)
    )
    assert {name: report[name] for name in VIOLATIONS} == dict.fromkeys(VIOLATIONS, 0), told
    assert code == 0, told
    assert report["seed"] == seed
    assert report["acked"] > 0
    assert report["unknown"] > 0
    assert sum(count > 0 for count in report["faults"].values()) >= 8


CLEAN = {**dict.fromkeys(VIOLATIONS, 0), "acked": 9, "unknown": 1, "faults": {"reset": 1}, "drained": True}


def test_a_clean_report_passes() -> None:
    assert exit_code(CLEAN) == 0


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_any_violation_fails(violation: str) -> None:
    assert exit_code({**CLEAN, violation: 1}) == 1


def test_what_did_not_drain_was_not_judged_and_fails() -> None:
    assert exit_code({**CLEAN, "drained": False}) == 1


@pytest.mark.parametrize("nothing", [{"faults": {"reset": 0}}, {"unknown": 0}, {"acked": 0}])
def test_a_run_that_put_nothing_to_the_test_is_void(nothing: dict[str, Any]) -> None:
    assert exit_code({**CLEAN, **nothing}) == 3


def test_a_seed_draws_the_same_faults_and_all_kinds_before_any_twice() -> None:
    faults = plan(7, 60, 1.0)
    assert faults == plan(7, 60, 1.0)
    assert faults != plan(8, 60, 1.0)
    assert sorted(fault.kind for fault in faults[: len(DECK)]) == sorted(DECK)
    assert set(DECK) == set(KINDS)
