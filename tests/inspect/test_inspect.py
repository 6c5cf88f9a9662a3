"""The operators' queries: each runs with plain psql and answers the right rows on jobs in every state."""

import csv
import io
import subprocess
import uuid
from pathlib import Path

import psycopg
import pytest

from app.queue.wake import channel
from tests.inspect.conftest import INSPECT, Inspect, Rows
from tests.support.states import ALIVE, States

FILES = sorted(file.stem for file in INSPECT.glob("*.sql"))
EVENT = """
INSERT INTO public.conversation_events (id, conversation_id, user_id, bot_type, bot_id, bot_name, start_time, end_time,
    conversation_log, body_hash, status, next_attempt_at, job_id, created_at, processed_at, friendship_score_change,
    new_friendship_level)
VALUES (%s, %s, 'u1', 'TALK', 'b', 'b', now(), now(), '[]', '', %s, now() - interval '1 hour', %s, now(), now(), 1,
    'PHASE1_STRANGER')
"""


def by(rows: Rows, column: str) -> dict[str, dict[str, str]]:
    """Rows by one of their columns, which is unique."""
    found = {row[column]: row for row in rows}
    assert len(found) == len(rows)
    return found


def ids(jobs: list[int]) -> set[str]:
    """Job ids as psql prints them."""
    return {str(job) for job in jobs}


@pytest.mark.parametrize("name", FILES)
def test_it_runs_on_an_empty_database_and_says_what_it_answers(
    name: str, shared_db_url: str, inspect: Inspect
) -> None:
    inspect(shared_db_url, name)
    first = (INSPECT / f"{name}.sql").read_text().splitlines()[0]
    assert first.startswith("-- ")


def test_queue_depth(states: States, inspect: Inspect) -> None:
    queues = by(inspect(states.url, "queue_depth"), "queue")
    assert set(queues) == {"default", "mail", "reports"}
    default, mail, reports = queues["default"], queues["mail"], queues["reports"]
    counts = {name: int(default[name]) for name in ("ready", "scheduled", "blocked", "running", "dead_24h")}
    assert counts == {"ready": 3, "scheduled": 2, "blocked": 1, "running": 3, "dead_24h": 3}
    assert default["waits"].startswith("00:05:")
    assert default["paused"] == ""
    assert mail["paused"] != ""
    assert (mail["paused_by"], default["paused_by"]) == ("ann", "")
    assert (mail["ready"], mail["scheduled"], mail["next_due"]) == ("1", "0", "")
    assert (reports["ready"], reports["scheduled"]) == ("2", "1")


def test_running(states: States, inspect: Inspect) -> None:
    rows = by(inspect(states.url, "running"), "job")
    assert set(rows) == ids(states.jobs["running"] + states.jobs["expired"])
    expired, first, second = (rows[str(job)] for job in states.jobs["expired"] + states.jobs["running"])
    assert (expired["worker"], expired["kind"]) == ("host:2", "scored")
    assert expired["lease_left"].startswith("-")
    assert (first["worker"], first["attempt"], first["note"]) == ("host:1", "1", "")
    assert second["note"] == "cancel asked"


def test_stuck_leases(states: States, inspect: Inspect) -> None:
    [row] = inspect(states.url, "stuck_leases")
    assert row["job"] == str(states.one("expired"))
    assert row["expired_for"].startswith("00:01:")
    assert (row["worker"], row["hooked"], row["leader"]) == ("host:2", "t", "nobody")
    assert len(inspect(states.url, "stuck_leases", clock_offset="1h")) == 3


def test_due_not_claimed(states: States, inspect: Inspect) -> None:
    rows = {(row["queue"], row["place"]): row for row in inspect(states.url, "due_not_claimed")}
    assert set(rows) == {("default", "ready"), ("reports", "ready"), ("reports", "scheduled")}, (
        "not the paused one"
    )
    ready = rows["default", "ready"]
    assert (ready["jobs"], ready["example"], ready["kind"]) == ("1", str(states.one("forgotten")), "plain")
    assert (ready["slots"], ready["held"], ready["likely"]) == ("4", "2", "workers have room")
    unserved = rows["reports", "ready"]
    assert (unserved["jobs"], unserved["likely"]) == ("2", "no live worker serves this queue")
    assert unserved["example"] in ids(states.jobs["unserved"])
    overdue = rows["reports", "scheduled"]
    assert (overdue["example"], overdue["likely"]) == (str(states.one("overdue")), "nobody sweeps")


def test_dead_letters(states: States, inspect: Inspect) -> None:
    rows = inspect(states.url, "dead_letters")
    assert [(row["fingerprint"], row["jobs"]) for row in rows] == [("aaaa", "2"), ("bbbb", "1")]
    assert rows[0]["example"] == str(states.jobs["dead"][2])
    assert (rows[0]["message"], rows[0]["kind"], rows[0]["attempts"]) == (
        "ValueError: number 2",
        "plain",
        "1",
    )
    assert rows[0]["first"] <= rows[0]["last"]


def test_slowest_kinds(states: States, inspect: Inspect) -> None:
    [row] = inspect(states.url, "slowest_kinds")
    assert (row["kind"], row["jobs"]) == ("plain", "7")
    assert (row["p50"], row["longest"], row["failed"]) == ("0.025", "0.040", "42.9")


def test_throughput(states: States, inspect: Inspect) -> None:
    rows = inspect(states.url, "throughput")
    assert len(rows) == 30
    assert [sum(int(row[name]) for row in rows) for name in ("succeeded", "dead", "cancelled")] == [3, 3, 1]
    assert max(float(row["per_second"]) for row in rows) > 0
    later = inspect(states.url, "throughput", clock_offset="1h")
    assert not any(int(row["succeeded"]) for row in later)


def test_membership_is_empty_in_a_healthy_database(states: States, inspect: Inspect) -> None:
    assert inspect(states.url, "membership") == []


def test_membership_names_every_kind_of_damage(db_url: str, inspect: Inspect) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        jobs = [connection.execute("SELECT tandem.enqueue('k')").fetchone() for _ in range(4)]
        _, lost, twice, gone = (row[0] for row in jobs if row is not None)
        connection.execute("DELETE FROM tandem.ready WHERE job_id = %s", (lost,))
        connection.execute(
            "INSERT INTO tandem.done (job_id, finished_at, attempt, outcome) VALUES (%s, now(), 1, 'SUCCEEDED')",
            (twice,),
        )
        connection.execute("DELETE FROM tandem.job WHERE id = %s", (gone,))
    found = [(row["job_id"], row["problem"], row["places"]) for row in inspect(db_url, "membership")]
    assert found == [
        (str(lost), "nowhere", ""),
        (str(twice), "twice", "done, ready"),
        (str(gone), "no job", "ready"),
    ]


def test_horizon_names_who_holds_it_and_counts_dead_rows(states: States, psql: Path) -> None:
    with psycopg.connect(states.url) as holder:
        holder.execute("SET application_name = 'the holder'")
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM tandem.job")
        answer = subprocess.run(
            [psql, "-X", "--csv", "-v", "ON_ERROR_STOP=1", "-f", INSPECT / "horizon.sql", states.url],
            capture_output=True,
            text=True,
            check=True,
        )
        holders, _, tables = answer.stdout.partition("hot_table,")
        rows = list(csv.DictReader(io.StringIO(holders)))
        held = by([row for row in rows if row["detail"].startswith("the holder")], "id")
        mine = held[str(holder.info.backend_pid)]
    assert mine["holder"] == "session"
    assert int(mine["xids"]) >= 0
    assert "idle in transaction: SELECT count(*) FROM tandem.job" in mine["detail"]
    hot = by(list(csv.DictReader(io.StringIO("hot_table," + tables))), "hot_table")
    assert {"ready", "lease", "scheduled", "blocked"} <= set(hot)
    assert hot["ready"]["size"].endswith(("kB", "bytes"))


def test_sleepers(states: States, inspect: Inspect) -> None:
    with psycopg.connect(states.url, autocommit=True) as sleeper:
        sleeper.execute("SET application_name = 'tandem listen'")
        row = sleeper.execute("SELECT tandem.wake_lane('default')").fetchone()
        assert row is not None
        sleeper.execute("SELECT pg_try_advisory_lock_shared(1413565006, %s)", row)
        sleeper.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel(row[0]))))
        [found] = inspect(states.url, "sleepers")
        assert (found["lane"], found["pid"]) == (str(row[0]), str(sleeper.info.backend_pid))
        assert found["session"] == "tandem listen"
        assert "default" in found["queues"].split(", ")
    assert inspect(states.url, "sleepers") == []


def test_workers(states: States, inspect: Inspect) -> None:
    rows = by(inspect(states.url, "workers"), "worker")
    assert {name: row["state"] for name, row in rows.items()} == {"host:1": "alive", "host:2": "silent"}
    assert (rows["host:1"]["held"], rows["host:1"]["slots"], rows["host:1"]["leads"]) == ("2", "4", "f")
    assert rows["host:2"]["held"] == "1"


def test_workers_and_stuck_leases_name_the_leader(db_url: str, inspect: Inspect) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO tandem.worker (id, name, mode, queues, concurrency, version, started_at, seen_at, stopped_at)"
            " VALUES (%s, 'host:1', 'poll', '{default,mail}', 2, '0.1.0', now(), now(), NULL)",
            (ALIVE,),
        )
        connection.execute(
            "INSERT INTO tandem.leader (name, holder, token, acquired_at, expires_at)"
            " VALUES ('sweeper', %s, 1, now(), now() + interval '15 seconds')",
            (ALIVE,),
        )
        connection.execute(
            "INSERT INTO tandem.lease (job_id, token, worker, claimed_at, expires_at, priority, attempt, crashes,"
            " suspect, queue) VALUES (1, 1, %s, now(), now() - interval '1 minute', 5, 1, 0, false, 'default')",
            (ALIVE,),
        )
    [worker] = inspect(db_url, "workers")
    assert (worker["leads"], worker["queues"]) == ("t", "default, mail")
    [stuck] = inspect(db_url, "stuck_leases")
    assert (stuck["leader"], stuck["hooked"]) == ("host:1", "f")


def test_floors(states: States, inspect: Inspect) -> None:
    lanes = {(row["queue"], row["priority"]): row for row in inspect(states.url, "floors")}
    default = lanes["default", "5"]
    assert int(default["safe_floor"]) == int(default["lowest"]) > 1
    assert all(row["below"] == "0" for row in lanes.values())
    assert int(default["behind"]) > 0
    assert lanes["mail", "5"]["lowest"] != ""


def test_floors_show_a_job_below_its_floor(db_url: str, inspect: Inspect) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("SELECT tandem.enqueue('k')")
        connection.execute(
            "INSERT INTO tandem.lane_floor (queue, priority, floor) VALUES ('default', 5, 100)"
        )
    [row] = inspect(db_url, "floors")
    assert (row["below"], row["lowest"], row["safe_floor"]) == ("1", "1", "100")


def test_events_without_job(states: States, db_url: str, inspect: Inspect) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        jobs = [connection.execute("SELECT tandem.enqueue('score')").fetchone() for _ in range(3)]
        alive, ended, done = (row[0] for row in jobs if row is not None)
        connection.execute(
            "WITH gone AS (DELETE FROM tandem.ready WHERE job_id = ANY(%s) RETURNING job_id) INSERT INTO tandem.done"
            " (job_id, finished_at, attempt, outcome) SELECT job_id, now(), 1, 'SUCCEEDED' FROM gone",
            ([ended, done],),
        )
        for name, status, job in (
            ("fine", "PENDING", alive),
            ("no-job", "PENDING", None),
            ("lost-job", "PENDING", 4711),
            ("ended", "PENDING", ended),
            ("processed", "PROCESSED", done),
        ):
            connection.execute(EVENT, (uuid.uuid4(), name, status, job))
    rows = by(inspect(db_url, "events_without_job"), "conversation_id")
    assert {name: row["problem"] for name, row in rows.items()} == {
        "no-job": "no job",
        "lost-job": "no job",
        "ended": "job SUCCEEDED but event PENDING",
    }
    assert rows["no-job"]["due"].startswith("01:00:")
