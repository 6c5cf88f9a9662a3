"""The topics' metrics: what a process counted, what a scrape reads from the database, and the rules on them."""

from typing import Any

from prometheus_client import CollectorRegistry

from app import events
from app.config import CHECKOUT, Settings
from app.domains.topics.facts import TopicConsumed, TopicDenied, TopicPublished
from app.observability.topic_metrics import TopicGauges, TopicMetrics
from tests.support import topics
from tests.support.topics import GROUP, TOPIC

RULES = CHECKOUT / "deploy" / "prometheus"


def value(registry: CollectorRegistry, name: str, **labels: str) -> Any:
    return registry.get_sample_value(name, labels)


def test_facts_are_counted_per_topic_and_group() -> None:
    registry = CollectorRegistry()
    leaving = TopicMetrics(registry).listen()
    try:
        events.publish(TopicPublished(TOPIC, 5))
        events.publish(TopicConsumed(TOPIC, GROUP, "success", 3))
        events.publish(TopicDenied("topics:publish"))
    finally:
        for leave in leaving:
            leave()
    assert value(registry, "topic_messages_published_total", topic=TOPIC) == 5
    assert value(registry, "topic_deliveries_total", topic=TOPIC, group=GROUP, outcome="success") == 3
    assert value(registry, "topic_denied_total", operation="topics:publish") == 1


def test_a_scrape_reads_lag_from_the_database(db_url: str) -> None:
    topics.make_topic(db_url)
    topics.publish(db_url, 7)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(TopicGauges(db_url, Settings()))
    assert value(registry, "topic_lag_messages", topic=TOPIC, group=GROUP) == 7
    assert value(registry, "topic_dead_letters", topic=TOPIC, group=GROUP) == 0
    assert value(registry, "topic_consumers", topic=TOPIC, group=GROUP) == 0


def test_while_the_database_is_away_the_gauges_are_absent() -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(TopicGauges("postgresql://127.0.0.1:1/none", Settings()))
    assert value(registry, "topic_lag_messages", topic=TOPIC, group=GROUP) is None
