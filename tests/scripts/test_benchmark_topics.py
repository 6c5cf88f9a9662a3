"""The benchmark of topics: which runs there are, what a million messages cost, and tiny runs of T1 and T2."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from scripts.bench import brokers, catalogue, report
from scripts.bench.main import main
from scripts.bench.plan import TOPICS, plan
from scripts.bench.price import dollars_per_million
from scripts.bench.results import Line
from scripts.bench.runner import measure
from scripts.bench.server import Server, benchmark_server
from scripts.bench.workloads import Options

MOST_STATEMENTS = 0.2
MOST_WAL_BYTES = 4_000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The benchmark's server."""
    with benchmark_server() as running:
        yield running


def test_brokers_take_turns_and_leave_out_what_they_cannot_do() -> None:
    peers = [catalogue.load(name) for name in ("tandem", "nats", "rabbitmq", "redis", "floor")]
    steps = list(plan(peers, TOPICS, repeat=1, quick=True))
    t2 = [(step.options.groups, step.peer.name) for step in steps if step.workload == "T2"]
    everybody = ["tandem", "nats", "rabbitmq", "redis"]
    assert t2 == [(groups, name) for groups in (1, 4) for name in everybody]
    assert [step.peer.name for step in steps if step.workload == "T4"] == ["tandem"]
    assert not list(plan(peers[1:4], ["W1", "W3"], repeat=1, quick=True))


def test_every_broker_can_be_started_and_names_its_durability() -> None:
    assert set(brokers.PLANS) == {
        peer.broker for name in catalogue.names() if (peer := catalogue.load(name)).broker
    }


@pytest.mark.parametrize("arguments", [["T5"], ["T2", "--groups", "many"], ["topics", "--repeat", "x"]])
def test_a_wrong_argument_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_an_unknown_peer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="no peer 'kafka'"):
        main(["topics", "--peers", "tandem,kafka"])


def test_the_price_of_a_million_messages() -> None:
    """An hour of CPU at half use is two core hours; a kilobyte a message is a gigabyte kept for a week."""
    assert dollars_per_million(3600.0, 0.0) == pytest.approx(0.10)
    assert dollars_per_million(0.0, 1000.0) == pytest.approx(0.10 * 7 / 30.4)


def test_the_table_has_what_a_message_costs() -> None:
    line = Line(peer="tandem", version="1", workload="T2", workers=1, conns=1, jobs_s=9000.0)
    line.detail = {"server_cpu_us_per_job": 70.0, "usd_per_million": 0.05}
    theirs = replace(line, peer="nats", jobs_s=3000.0, detail={})
    text = report.table([line, theirs], ["topics"])
    assert "| T2 jobs_s | 9,000 | nats 3,000 | 3 |" in text
    assert "| T2 | tandem | – | – | – | 70 | – | – | 0.05 |" in text


def test_a_broker_that_is_missing_makes_the_run_void(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    redis = replace(catalogue.load("redis"), package="psycopg")
    monkeypatch.setattr(catalogue, "prepare", lambda peer: None)
    monkeypatch.setattr(catalogue.Peer, "version", lambda peer: "1")
    monkeypatch.setenv("PATH", "")
    line = measure(server, redis, "T2", Options(jobs=10))
    assert line.void == "redis-server is not installed; Debian: apt-get install redis-server"


@pytest.mark.embedded
def test_latency_of_a_few_messages(server: Server) -> None:
    line = measure(server, catalogue.load("tandem"), "T1", Options(seconds=1.0, rate=50, conns=2))
    assert line.void is None
    assert (line.n, line.lost, line.doubled) == (50, 0, 0)
    assert line.p50_ms is not None
    assert line.p99_ms is not None
    assert 0 < line.p50_ms <= line.p99_ms


@pytest.mark.embedded
def test_what_a_message_costs_two_groups(server: Server) -> None:
    line = measure(server, catalogue.load("tandem"), "T2", Options(jobs=2_000, groups=2))
    assert line.void is None
    assert (line.n, line.lost, line.doubled, line.variant) == (2_000, 0, 0, "2 groups")
    assert line.detail["deliveries"] == 4_000
    assert line.statements_per_job is not None
    assert line.statements_per_job < MOST_STATEMENTS
    assert line.wal_bytes_per_job is not None
    assert line.wal_bytes_per_job < MOST_WAL_BYTES
    assert line.detail["usd_per_million"] > 0
