"""The deferred wake-up: one row and one probe per transaction and queue, and none of it outlives the transaction."""

from typing import LiteralString

import psycopg
from psycopg.rows import tuple_row

from app.database.deadline import BoundedConnection
from app.queue.enqueue import enqueue, enqueue_many
from app.queue.job import NewJob

ROWS = "SELECT count(*) FROM tandem.wake_request"
ASKED = "SELECT (SELECT count(*) FROM tandem.wake_request) + (SELECT count(*) FROM tandem.ready WHERE wakes)"


def requests(connection: psycopg.Connection[tuple[int, ...]], query: LiteralString = ASKED) -> int:
    row = connection.cursor(row_factory=tuple_row).execute(query).fetchone()
    assert row is not None
    return int(row[0])


def test_one_request_per_transaction_and_queue(tx: BoundedConnection) -> None:
    for _ in range(3):
        enqueue(tx, NewJob("test"))
    enqueue_many(tx, [NewJob("test"), NewJob("test")])
    tx.execute("SELECT tandem.enqueue('test'), tandem.wake_queue_at_commit('default')")
    assert requests(tx) == 1
    enqueue(tx, NewJob("test", queue="conversations"))
    assert requests(tx) == 2
    tx.execute("SELECT tandem.wake_at_commit(3), tandem.wake_at_commit(3)")
    assert requests(tx) == 3


def test_a_batch_over_many_queues_asks_for_lanes(tx: BoundedConnection) -> None:
    enqueue_many(tx, [NewJob("test", queue=f"q{number % 8}") for number in range(40)])
    assert requests(tx, "SELECT count(*) FROM tandem.wake_request WHERE queue IS NOT NULL") == 8
    enqueue_many(tx, [NewJob("test", queue=f"q{number}") for number in range(500)])
    assert requests(tx, "SELECT count(*) FROM tandem.wake_request WHERE queue IS NULL") == 32


def test_a_savepoint_takes_its_request_back_and_the_next_enqueue_makes_another(tx: BoundedConnection) -> None:
    tx.execute("SAVEPOINT here")
    enqueue(tx, NewJob("test"))
    tx.execute("ROLLBACK TO here")
    assert requests(tx) == 0
    enqueue(tx, NewJob("test"))
    assert requests(tx) == 1


def test_a_batch_before_a_single_job_asks_for_both(tx: BoundedConnection) -> None:
    enqueue_many(tx, [NewJob("test"), NewJob("test")])
    enqueue(tx, NewJob("test"))
    assert requests(tx) == 1


def test_the_lane_is_woken_although_the_marked_job_is_gone_at_the_commit(db_url: str) -> None:
    with psycopg.connect(db_url) as connection, psycopg.connect(db_url, autocommit=True) as sleeper:
        sleeper.execute(
            "SELECT pg_advisory_lock_shared(1413565006, tandem.wake_lane('default') + n) FROM unnest('{0,32}'::int[]) n"
        )
        sleeper.execute("DO $$ BEGIN EXECUTE 'LISTEN tandem_wake_' || tandem.wake_lane('default'); END $$")
        first = enqueue(connection, NewJob("test"))
        enqueue(connection, NewJob("test"))
        connection.execute("DELETE FROM tandem.ready WHERE job_id = %s", (first.job_id,))
        assert list(sleeper.notifies(timeout=0)) == []
        connection.commit()
        assert len(list(sleeper.notifies(timeout=10, stop_after=1))) == 1


def test_the_commit_removes_the_request(db_url: str) -> None:
    with psycopg.connect(db_url) as connection:
        for round in range(3):
            enqueue_many(connection, [NewJob("test", {"round": round})] * 2)
            connection.execute("SAVEPOINT here")
            enqueue_many(connection, [NewJob("test", queue="other")] * 2)
            connection.execute("RELEASE here")
            assert requests(connection, ROWS) == 2
            connection.commit()
            assert requests(connection, ROWS) == 0
            connection.commit()


def test_a_caller_that_resets_its_session_can_still_commit(db_url: str) -> None:
    with psycopg.connect(db_url) as connection:
        enqueue(connection, NewJob("test"))
        connection.execute("RESET ALL")
        connection.commit()
        row = connection.execute("SELECT count(*) FROM tandem.ready").fetchone()
        assert row == (1,)


def test_the_removal_does_not_read_what_others_left_dead(tx: BoundedConnection) -> None:
    # While somebody holds an old snapshot, a scan would meet the dead row of every commit since.
    tx.execute("SELECT tandem.wake_at_commit(7)")
    tx.execute("SET CONSTRAINTS ALL IMMEDIATE")
    scans = tx.execute(
        "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'wake_request'"
    ).fetchone()
    assert scans == (0,)
    assert requests(tx) == 0
