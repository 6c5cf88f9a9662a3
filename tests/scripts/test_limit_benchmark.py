"""The workloads of managed queues in small: real worker processes, some killed; what must be exact is exact."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.bench import catalogue
from scripts.bench.limit_workload import violations
from scripts.bench.runner import measure
from scripts.bench.server import Server, benchmark_server
from scripts.bench.workloads import Options


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The benchmark's server."""
    with benchmark_server() as running:
        yield running


def test_violations_of_order_are_found(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.write_text(
        "a 1 start 1.0\na 1 end 2.0\na 2 start 3.0\na 2 start 4.0\na 2 end 5.0\nb 3 start 1.5\n"
    )
    assert violations(journal) == 0
    journal.write_text("a 1 start 1.0\na 2 start 2.0\na 1 end 3.0\na 2 end 4.0\n")
    assert violations(journal) == 1
    journal.write_text("a 2 start 1.0\na 2 end 2.0\na 1 start 3.0\na 1 end 4.0\n")
    assert violations(journal) == 1


@pytest.mark.embedded
def test_limits_hold_while_workers_are_killed(server: Server) -> None:
    line = measure(server, catalogue.load("tandem"), "L1", Options(jobs=400, workers=2, seconds=2.0))
    assert (line.void, line.lost, line.backlog) == (None, 0, 0)
    assert line.detail["samples"] > 20
    assert (line.detail["max_overshoot"], line.detail["leaked_slots"]) == (0, 0)


@pytest.mark.embedded
def test_order_holds_while_jobs_fail_and_workers_are_killed(server: Server) -> None:
    line = measure(server, catalogue.load("tandem"), "L4", Options(jobs=300, workers=2, seconds=2.0))
    assert (line.void, line.lost, line.backlog) == (None, 0, 0)
    assert line.detail["order_violations"] == 0


@pytest.mark.embedded
def test_a_flood_of_one_key_takes_no_more_than_its_share(server: Server) -> None:
    line = measure(server, catalogue.load("tandem"), "L2", Options(jobs=2_000))
    assert line.detail["jain_index"] > 0.9


@pytest.mark.embedded
def test_many_keys_are_measured_beside_one(server: Server) -> None:
    line = measure(server, catalogue.load("tandem"), "L3", Options(jobs=6_000, seconds=0.3))
    assert {"claims_s_1", "claims_s_10000", "p95_ratio", "throughput_ratio"} <= set(line.detail)
