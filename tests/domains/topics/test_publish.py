"""Publishing: every group's delivery rides in the publisher's transaction, and a repeat is published once."""

from uuid import uuid4

import psycopg
import pytest

from app.client import Message, UniqueConflict, publish, publish_many
from app.client.errors import InvalidInput
from tests.support import topics
from tests.support.topics import TOPIC

GROUPS = ("ai-consumer-group", "analytics-consumer-group")


def test_message_and_deliveries_commit_together_or_not_at_all(db_url: str) -> None:
    topics.make_topic(db_url, groups=GROUPS)
    with psycopg.connect(db_url) as connection:
        publish(connection, TOPIC, {"n": 1})
        connection.rollback()
    assert topics.rows(db_url, "SELECT count(*) AS n FROM tandem.message")[0].n == 0
    assert topics.rows(db_url, "SELECT count(*) AS n FROM tandem.job")[0].n == 0
    [position] = topics.publish(db_url)
    for group in GROUPS:
        assert topics.deliveries(db_url, group) == {position: 1}


def test_a_delivery_says_what_was_published(db_url: str) -> None:
    topics.make_topic(db_url)
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "correlation_id": "c1"}
    with psycopg.connect(db_url) as connection:
        small = publish(connection, TOPIC, {"n": 1}, key="cam-1", headers=trace, schema_version=3)
        large = publish(connection, TOPIC, {"n": "x" * 5_000})
    query = "SELECT payload, partition_key, context, event_id FROM tandem.job ORDER BY id"
    first, second = topics.rows(db_url, query)
    assert first.payload["payload"] == {"n": 1}
    assert first.payload["headers"] == trace == first.context
    assert (first.payload["topic"], first.payload["position"]) == (TOPIC, small.position)
    assert (first.payload["key"], first.partition_key) == ("cam-1", "cam-1")
    assert first.payload["schema_version"] == 3
    assert first.event_id == small.message_id
    assert "payload" not in second.payload  # large bodies stay in the log alone
    assert second.payload["position"] == large.position
    assert (
        topics.rows(db_url, "SELECT octet_length(payload::text) AS size FROM tandem.message ORDER BY 1")[
            1
        ].size
        > 5_000
    )


def test_a_repeat_is_published_once_within_the_window(db_url: str) -> None:
    topics.make_topic(db_url)
    identity = uuid4()
    with psycopg.connect(db_url) as connection:
        first = publish(connection, TOPIC, {"n": 1}, message_id=identity)
        connection.commit()
        again = publish(connection, TOPIC, {"n": 1}, message_id=identity)
        keyed = publish_many(connection, TOPIC, [Message({"n": 2}, dedup_key="order-7")] * 3)
    assert first.created and first.message_id == identity
    assert (again.message_id, again.position, again.created) == (identity, first.position, False)
    assert [one.created for one in keyed] == [True, False, False]
    assert len({one.position for one in keyed}) == 1
    assert topics.deliveries(db_url).total() == 2


def test_another_body_under_the_same_id_is_an_error_and_fails_nothing_else(db_url: str) -> None:
    topics.make_topic(db_url)
    with psycopg.connect(db_url) as connection:
        publish(connection, TOPIC, {"n": 1}, dedup_key="k")
        with pytest.raises(UniqueConflict):
            publish_many(connection, TOPIC, [Message({"n": 2}, dedup_key="k"), Message({"n": 3})])
        [told, good] = publish_many(
            connection, TOPIC, [Message({"n": 2}, dedup_key="k"), Message({"n": 4})], on_conflict="report"
        )
    assert told.conflict and not good.conflict
    with psycopg.connect(db_url) as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("SELECT tandem.publish(%s, '{\"n\": 9}', dedup_key => 'k')", (TOPIC,))
    assert topics.deliveries(db_url).total() == 3


def test_after_the_window_an_id_is_free_again(db_url: str) -> None:
    topics.make_topic(db_url, dedup_window="1 minute")
    with psycopg.connect(db_url) as connection:
        publish(connection, TOPIC, {"n": 1}, dedup_key="k")
        connection.execute("SET LOCAL tandem.clock_offset = '2 minutes'")
        assert publish(connection, TOPIC, {"n": 2}, dedup_key="k").created
    assert topics.deliveries(db_url).total() == 2


def test_any_sql_client_publishes(db_url: str) -> None:
    topics.make_topic(db_url)
    with psycopg.connect(db_url) as connection:
        connection.execute("SELECT tandem.publish('camera.events', '{\"n\": 1}', key => 'cam-1')")
    assert topics.deliveries(db_url).total() == 1


def test_a_topic_that_is_not_there_and_a_message_that_is_too_large(db_url: str) -> None:
    with (
        psycopg.connect(db_url) as connection,
        pytest.raises(psycopg.errors.UndefinedObject, match="no topic"),
    ):
        publish(connection, "nowhere", {})
    topics.make_topic(db_url)
    with psycopg.connect(db_url) as connection:
        with pytest.raises(InvalidInput, match="message"):
            publish(connection, TOPIC, {"n": "x" * 300_000})
        with pytest.raises(psycopg.errors.ProgramLimitExceeded):
            connection.execute("SELECT tandem.publish(%s, to_jsonb(repeat('x', 300000)))", (TOPIC,))
        connection.rollback()
        with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="context"):
            connection.execute(
                "SELECT tandem.publish_messages(%s, ARRAY['{}']::jsonb[],"
                " headers => ARRAY[to_jsonb(repeat('x', 17000))])",
                (TOPIC,),
            )


@pytest.mark.parametrize(
    "options",
    [
        {"key": ""},
        {"key": "a\0b"},
        {"dedup_key": "x" * 256},
        {"schema_version": 0},
        {"headers": 1},
        {"message_id": "x"},
    ],
)
def test_bad_options_are_refused_before_anything_is_sent(options: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        Message({}, **options)  # type: ignore[arg-type]


def test_an_old_snapshot_never_misses_a_group(db_url: str) -> None:
    topics.make_topic(db_url, groups=())
    with psycopg.connect(db_url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT count(*) FROM tandem.topic")
        with psycopg.connect(db_url, autocommit=True) as other:
            other.execute("SELECT tandem.create_topic_group(%s, 'late')", (TOPIC,))
        with pytest.raises(psycopg.errors.SerializationFailure):
            publish(connection, TOPIC, {"n": 1})
