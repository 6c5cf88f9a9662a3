"""The benchmark's own judgement, and the gate on what a job costs: counts of statements and bytes, never time."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from scripts.bench import catalogue, connection_workload, report
from scripts.bench.broker_meter import RedisMeter
from scripts.bench.brokers import Broker
from scripts.bench.catalogue import Peer
from scripts.bench.evidence import Start, lost_and_doubled, percentiles, read
from scripts.bench.peers import recorder
from scripts.bench.plan import plan, takes_part
from scripts.bench.results import Line
from scripts.bench.runner import measure
from scripts.bench.server import Server, benchmark_server
from scripts.bench.workloads import Options

# The keys of the performance page: whoever reads the lines relies on all of them.
KEYS = {
    "peer", "version", "workload", "workers", "conns", "n", "jobs_s", "p50_ms", "p95_ms", "p99_ms", "ratio",
    "backlog", "wal_bytes_per_job", "statements_per_job", "rss_mb", "lost", "doubled",
}  # fmt: skip
MOST_STATEMENTS = 0.05
MOST_WAL_BYTES = 1300


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The benchmark's server."""
    with benchmark_server() as running:
        yield running


def starts(*numbers: int) -> list[Start]:
    """One handler start per number."""
    return [Start(n, 10.0 + i, 9.0) for i, n in enumerate(numbers)]


@pytest.mark.parametrize(
    ("ran", "enqueued", "unfinished", "expected"),
    [
        ((0, 1, 2), 3, 0, (0, 0)),
        ((0, 2), 3, 0, (1, 0)),
        ((0, 2), 3, 1, (0, 0)),
        ((0, 1, 1, 2), 3, 0, (0, 1)),
        ((1, 1, 1), 3, 0, (2, 2)),
        ((), 3, 3, (0, 0)),
    ],
)
def test_finds_lost_and_doubled_jobs(
    ran: tuple[int, ...], enqueued: int, unfinished: int, expected: tuple[int, int]
) -> None:
    assert lost_and_doubled(starts(*ran), enqueued, unfinished) == expected


def test_a_job_that_fails_once_has_to_run_twice() -> None:
    assert lost_and_doubled(starts(0, 1, 0, 2), 3, 0, fail_every=10) == (0, 0)
    assert lost_and_doubled(starts(0, 1, 2), 3, 0, fail_every=10) == (1, 0)
    assert lost_and_doubled(starts(0, 1, 0, 2, 0), 3, 0, fail_every=10) == (0, 1)


def test_percentiles_of_few_and_many() -> None:
    assert percentiles([]) == (0.0, 0.0, 0.0)
    assert percentiles([7.0]) == (7.0, 7.0, 7.0)
    p50, p95, p99 = percentiles([float(n) for n in range(1, 1001)])
    assert (round(p50), round(p95), round(p99)) == (500, 951, 991)


def test_every_peer_is_declared_and_every_environment_locked() -> None:
    for name in catalogue.names():
        peer = catalogue.load(name)
        home = catalogue.HERE / name
        program = "adapter" if peer.has_jobs else "topics"
        assert (home / (f"{program}.mjs" if peer.language == "node" else f"{program}.py")).exists()
        if name not in catalogue.OURS:
            locked = (home / "requirements.txt").read_text()
            assert "--hash=sha256:" in locked
            assert "://" not in locked, "no index address belongs in a lock"


def test_celery_has_jobs_on_a_broker_and_no_part_in_what_needs_a_snapshot() -> None:
    celery, redis = catalogue.load("celery"), catalogue.load("redis")
    assert celery.has_jobs
    assert not redis.has_jobs
    names = [one.workload for one in plan([celery, redis], ["W1", "W3", "W6", "W8"], repeat=1, quick=True)]
    assert names == ["W1", "W1", "W3", "W3"]


def test_a_thread_that_cannot_enqueue_ends_the_producer(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(payload: recorder.Payload) -> None:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        recorder.produce_in_threads({"seconds": 1.0}, [broken, broken])
    assert '"n"' not in capsys.readouterr().out


def test_a_redis_broker_counts_its_jobs_in_one_transaction() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        meter = RedisMeter(Broker(url, "7", "none", psutil.Process()))
        server, _ = listener.accept()
        with server:
            server.sendall(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:40\r\n:2\r\n-ERR unknown\r\n")
            assert meter.number("LLEN default\nHLEN unacked\n") == 42
            assert server.recv(1000) == b"MULTI\r\nLLEN default\r\nHLEN unacked\r\nEXEC\r\n"
            with pytest.raises(RuntimeError, match="ERR unknown"):
                meter.number("NO")
        before = meter.read()
        assert set(meter.read().since(before).per_job(10)) >= {"wal_per_job", "statements_per_job"}
        meter.close()


def test_peers_take_turns_within_a_workload() -> None:
    peers = [catalogue.load("tandem"), catalogue.load("pgqueuer"), catalogue.load("floor")]
    steps = [(one.workload, one.peer.name) for one in plan(peers[:2], ["W5", "W9"], repeat=2, quick=True)]
    assert steps[:4] == [("W5", "tandem"), ("W5", "pgqueuer")] * 2
    assert {name for workload, name in steps[4:]} == {"tandem"}
    assert not takes_part(peers[2], "W3")


def test_the_long_form_and_the_forms_of_scale() -> None:
    tandem, floor = catalogue.load("tandem"), catalogue.load("floor")
    [step] = plan([tandem], ["W7"], repeat=1, quick=False, long=True)
    assert step.options.jobs == 10_000_000
    steps = list(plan([tandem, floor], ["scale", "memory"], repeat=1, quick=False))
    assert {step.peer.name for step in steps} == {"tandem"}
    forms = [(step.options.workers, step.options.variant) for step in steps if step.workload == "scale"]
    assert forms == [(1, None), (2, None), (4, None), (8, None), (1, "queues"), (1, "kinds")]


def test_a_recorder_keeps_every_start_and_little_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "ROWS_IN_MEMORY", 3 * 4)
    record = recorder.Recorder({"out": str(tmp_path / "record")})
    for n in range(10):
        record.ran(n, 1.0)
    record.save()
    assert [start.n for start in read([tmp_path / "record"])] == list(range(10))


def test_the_table_shows_medians_and_ratios_and_leaves_void_runs_out() -> None:
    line = Line(peer="tandem", version="1", workload="W3", workers=1, conns=1)
    ours = [replace(line, jobs_s=speed) for speed in (30_000.0, 10_000.0, 20_000.0)]
    theirs = replace(line, peer="pgqueuer", jobs_s=5_000.0)
    void = replace(line, jobs_s=99_999.0, void="1 lost, 0 doubled")
    text = report.table([*ours, theirs, void], ["all"])
    assert "| W3 | tandem | 3 | 20,000 (10,000–30,000) |" in text
    assert "| W3 jobs_s | 20,000 | pgqueuer 5,000 | 4 |" in text
    assert "99,999" not in text
    assert "1 lost, 0 doubled" in text


@pytest.mark.embedded
def test_what_a_job_costs_from_bulk_enqueue_to_done(server: Server) -> None:
    line = measure(server, catalogue.load("tandem"), "W3", Options(jobs=10_000))
    assert line.void is None
    assert (line.n, line.lost, line.doubled) == (10_000, 0, 0)
    assert line.statements_per_job is not None
    assert line.statements_per_job < MOST_STATEMENTS
    assert line.wal_bytes_per_job is not None
    assert line.wal_bytes_per_job <= MOST_WAL_BYTES
    assert set(line.detail) >= {"heap_tuples_per_job", "index_tuples_per_job", "dead_per_job"}
    assert set(vars(line)) >= KEYS


@pytest.mark.embedded
def test_a_worker_that_loses_a_job_makes_the_run_void(server: Server, tmp_path: Path) -> None:
    """The same measurement by a peer whose tables forget a job: no figure may come of it."""
    tandem = catalogue.load("tandem")
    forgetful: Peer = replace(tandem, finished=f"SELECT ({tandem.finished}) - 1")
    line = measure(server, forgetful, "W3", Options(jobs=200))
    assert line.void == "the database has 199 finished and 0 unfinished of 200"


@pytest.mark.embedded
def test_many_connections_and_a_herd_of_sleepers_are_measured(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_workload, "PROCESSES", 2)
    line = measure(server, catalogue.load("tandem"), "conns", Options(workers=3, conns=20, seconds=1.0))
    assert line.void is None
    assert (line.workers, line.lost, line.doubled) == (3, 0, 0)
    assert line.jobs_s
    assert line.p50_ms
    assert line.detail["connections"] >= 12 + 3 * 5
    assert line.detail["server_mb_per_connection"] > 0
    assert line.detail["herd_statements_per_job"] > 1
    assert line.detail["server_cpu_us_per_job"] > 0


@pytest.mark.embedded
def test_the_memory_of_the_api_is_read_after_each_tenth(server: Server) -> None:
    line = measure(server, catalogue.load("tandem"), "memory-api", Options(jobs=50))
    assert line.void is None
    assert line.n >= 50
    assert len(line.detail["rss_mb_by_tenth"]) == 10
    assert line.detail["rss_mb_by_tenth"][-1] == line.rss_mb
    assert 0 < line.detail["rss_mb_at_rest"] <= line.rss_mb
