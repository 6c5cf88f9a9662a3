"""scripts/floors, the short form: every committed job runs once; the known wrong rule for floors is found."""

import json

import pytest

from scripts.floor_rig.__main__ import BROKEN, main

SHORT = ["--delay", "0.6", "--producers", "25", "--drain", "60", "--json"]


def run(db_url: str, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, float], str]:
    """The exit code, the report, and what was said of broken promises."""
    code = main([*SHORT, "--server", db_url, *options])
    told = capsys.readouterr()
    return code, json.loads(told.out.splitlines()[-1]), told.err


def test_every_job_that_was_committed_runs_once_however_late(
    db_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report, said = run(db_url, capsys, "--seconds", "4", "--seed", "4")
    assert code == 0, (report, said)
    assert report["drained"]
    assert report["committed"] > 20
    assert report["taken_back"] > 0
    assert report["worker_restarts"] >= 1


def test_the_snapshots_xmax_as_a_bound_is_found(db_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    # How the server interleaves is not in the seed: a bug may hide from one run, not from a few.
    found = []
    for seed in range(1, 6):
        code, report, _ = run(db_url, capsys, "--seconds", "3", "--seed", str(seed), "--plant", "xmax")
        found.append((code, report["below_floor"], report["lost"]))
        if code == BROKEN:
            break
    assert any(below or lost for _, below, lost in found), found
