"""The deferred wake-up: one row and one probe per transaction and lane, and none of it outlives the transaction."""

import psycopg
from psycopg.rows import tuple_row

from app.database.deadline import BoundedConnection
from app.queue.enqueue import enqueue, enqueue_many
from app.queue.job import NewJob

REQUESTS = "SELECT count(*) FROM tandem.wake_request"


def requests(connection: psycopg.Connection[tuple[int, ...]]) -> int:
    row = connection.cursor(row_factory=tuple_row).execute(REQUESTS).fetchone()
    assert row is not None
    return int(row[0])


def test_one_request_per_transaction_and_lane(tx: BoundedConnection) -> None:
    for _ in range(3):
        enqueue(tx, NewJob("test"))
    enqueue_many(tx, [NewJob("test"), NewJob("test")])
    tx.execute("SELECT tandem.enqueue('test')")
    assert requests(tx) == 1
    enqueue(tx, NewJob("test", queue="conversations"))
    assert requests(tx) == 2


def test_a_savepoint_takes_its_request_back_and_the_next_enqueue_makes_another(tx: BoundedConnection) -> None:
    tx.execute("SAVEPOINT here")
    enqueue(tx, NewJob("test"))
    tx.execute("ROLLBACK TO here")
    assert requests(tx) == 0
    enqueue(tx, NewJob("test"))
    assert requests(tx) == 1


def test_the_commit_removes_the_request(db_url: str) -> None:
    with psycopg.connect(db_url) as connection:
        for round in range(3):
            enqueue(connection, NewJob("test", {"round": round}))
            connection.execute("SAVEPOINT here")
            enqueue(connection, NewJob("test", queue="other"))
            connection.execute("RELEASE here")
            connection.commit()
            assert requests(connection) == 0
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
