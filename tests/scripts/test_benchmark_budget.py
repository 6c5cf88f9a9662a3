"""Which runs of the benchmark fit in a time, and how much a slow peer is given. No run, no clock of this machine."""

from dataclasses import replace

import pytest

from scripts.bench import budget, catalogue, report
from scripts.bench.catalogue import Pace
from scripts.bench.main import main
from scripts.bench.plan import Step, for_pace, plan
from scripts.bench.results import Line
from scripts.bench.workloads import Options

ALL = (
    "tandem",
    "floor",
    "pgqueuer",
    "procrastinate",
    "oban",
    "graphile-worker",
    "pg-boss",
    "awa",
    "absurd",
    "celery",
)
PEERS = [catalogue.load(name) for name in ALL]
SLOW = Pace(enqueues=1_000, drains=500, keeps_up=200)


@pytest.mark.parametrize(
    ("workload", "options", "jobs"),
    [
        ("W2", Options(), 10_000),
        ("W3", Options(workers=2), 5_000),
        ("W3", Options(jobs=2_000), 2_000),
        ("W7", Options(), 20_000),
        ("W7", Options(seconds=100), 75_000),
        ("W8", Options(seconds=10), 10_000),
        ("W5", Options(), None),
    ],
)
def test_a_slow_peer_gets_fewer_jobs(workload: str, options: Options, jobs: int | None) -> None:
    assert for_pace(SLOW, workload, options) == replace(options, jobs=jobs)


def test_a_fast_peer_gets_the_pages_jobs_and_nobody_more_than_it_keeps_up_with() -> None:
    for workload in ("W2", "W3", "W7"):
        assert for_pace(Pace(), workload, Options()) == Options()
    assert for_pace(Pace(), "W6", Options()).rate == 10_000
    assert for_pace(SLOW, "W6", Options()).rate == pytest.approx(140)
    assert for_pace(SLOW, "W6", Options(rate=50)).rate == 50


def test_a_slow_peer_takes_no_longer_than_the_others() -> None:
    steps = list(plan(PEERS, ["W2", "W3", "W7"], repeat=1))
    assert max(map(budget.estimate, steps)) < 60
    assert {step.peer.name for step in steps} == set(ALL)


@pytest.mark.parametrize("minutes", [25, 30, 45, 60, 120])
def test_what_is_chosen_fits_and_has_every_peer(minutes: float) -> None:
    fit = budget.fitting(PEERS, None, repeat=3, minutes=minutes)
    assert fit.seconds <= minutes * 60
    assert {(one.workload, one.peer.name) for one in fit.steps} == {
        (one.workload, one.peer.name) for one in plan(PEERS, budget.WORKLOADS, repeat=1)
    }
    longer = budget.fitting(PEERS, None, repeat=3, minutes=2 * minutes)
    assert longer.seconds >= fit.seconds


def test_when_nothing_fits_the_first_come_first_and_the_rest_is_named() -> None:
    fit = budget.fitting(PEERS, ["W1", "W5"], repeat=3, minutes=1)
    left_out: list[Step] = []
    ran = list(budget.within(fit.steps, 0.2, left_out))  # instant: every step that is shorter than that
    assert fit.text.startswith("quick forms once, until the time is up")
    assert ran
    assert {step.workload for step in left_out} == {"W5"}
    assert len(ran) + len(left_out) == len(fit.steps)


def test_an_estimate_runs_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.bench.main.benchmark_server", lambda: pytest.fail("a server was started"))
    for arguments in (["--budget", "30"], ["--workloads", "W1,W2"]):
        with pytest.raises(SystemExit) as done:
            main(["all", "--estimate", "--peers", "tandem,celery", *arguments])
        assert done.value.code == 0
        assert "minutes" in capsys.readouterr().err


def test_the_table_says_who_had_fewer_jobs() -> None:
    line = Line(peer="tandem", version="1", workload="W3", workers=1, conns=1, n=50_000, jobs_s=20_000.0)
    text = report.table([line, replace(line, peer="celery", n=3_000, jobs_s=300.0)], ["all"])
    assert "Fewer jobs for slow peers: W3 celery 3,000 of 50,000." in text
