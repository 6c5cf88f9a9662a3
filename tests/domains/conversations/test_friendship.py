"""Levels by thresholds, and the laws of adding: any order of the same conversations gives the same row."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from functools import reduce
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.domains.conversations.friendship import (
    FriendshipLevel,
    FriendshipStatus,
    FriendshipThresholds,
    add_conversation,
)
from app.domains.conversations.scoring import score_conversation
from app.domains.conversations.topic_metrics import (
    TopicMetrics,
    merge_topics,
    topic_name,
    topics_as_json,
    topics_from_json,
)

NUMBERS = st.integers(0, 10**6)
METRICS = st.builds(
    TopicMetrics,
    conversations=NUMBERS,
    turns=NUMBERS,
    user_turns=NUMBERS,
    questions=NUMBERS,
    sentiment_thousandths=st.integers(-(10**9), 10**9),
    score_tenths=st.integers(-(10**6), 10**6),
    last_talked_at=st.none() | st.datetimes(datetime.fromisoformat("1990-01-01"), timezones=st.just(UTC)),
)
TOPICS = st.dictionaries(
    st.sampled_from(["movies", "food", "âm_nhạc", "school", "other"]), METRICS, max_size=5
)


@given(TOPICS, TOPICS)
def test_merging_is_commutative(one: dict[str, TopicMetrics], other: dict[str, TopicMetrics]) -> None:
    assert merge_topics(one, other) == merge_topics(other, one)


@given(TOPICS, TOPICS, TOPICS)
def test_merging_is_associative(
    one: dict[str, TopicMetrics], two: dict[str, TopicMetrics], three: dict[str, TopicMetrics]
) -> None:
    assert merge_topics(merge_topics(one, two), three) == merge_topics(one, merge_topics(two, three))


@given(TOPICS)
def test_nothing_is_neutral(topics: dict[str, TopicMetrics]) -> None:
    assert merge_topics(topics, {}) == topics == merge_topics({}, topics)


@given(TOPICS, TOPICS)
def test_the_stored_form_loses_nothing(one: dict[str, TopicMetrics], other: dict[str, TopicMetrics]) -> None:
    stored = json.loads(json.dumps(topics_as_json(one)))
    assert topics_from_json(stored) == one
    assert merge_topics(topics_from_json(stored), other) == merge_topics(one, other)
    assert topics_from_json(None) == {}


TEXTS = st.lists(
    st.fixed_dictionaries(
        {
            "speaker": st.sampled_from(["user", "bot"]),
            "text": st.sampled_from(["I love it", "con buồn", "Why?", "im đi", "phim hay quá", "ok"]),
            "topic": st.sampled_from(["movies", "food", "school"]),
        }
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=40)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_any_order_of_the_same_conversations_gives_the_same_status(logs: list[list[dict[str, Any]]]) -> None:
    scored = [
        score_conversation(entries, bot_type="TALK", end_time=datetime(2025, 1, 1, tzinfo=UTC))
        for entries in logs
    ]
    results = {
        json.dumps(
            [str(status.score), status.level, status.conversations, topics_as_json(status.topic_metrics)]
        )
        for order in permutations(scored)
        for status in [reduce(add_conversation, order, FriendshipStatus("user_1"))]
    }
    assert len(results) == 1


@pytest.mark.parametrize(
    ("score", "level"),
    [
        ("-40.0", FriendshipLevel.STRANGER),
        ("0", FriendshipLevel.STRANGER),
        ("29.9", FriendshipLevel.STRANGER),
        ("30.0", FriendshipLevel.ACQUAINTANCE),
        ("35.5", FriendshipLevel.ACQUAINTANCE),
        ("119.9", FriendshipLevel.ACQUAINTANCE),
        ("120.0", FriendshipLevel.FRIEND),
        ("10000", FriendshipLevel.FRIEND),
    ],
)
def test_levels(score: str, level: FriendshipLevel) -> None:
    assert FriendshipThresholds().level(Decimal(score)) is level


def test_the_names_of_the_levels() -> None:
    assert list(FriendshipLevel) == ["PHASE1_STRANGER", "PHASE2_ACQUAINTANCE", "PHASE3_FRIEND"]


@given(st.decimals(0, 1000, places=1), st.decimals(0, 1000, places=1), st.decimals(-100, 2000, places=1))
def test_levels_rise_with_the_score(acquaintance: Decimal, more: Decimal, score: Decimal) -> None:
    thresholds = FriendshipThresholds(acquaintance=acquaintance, friend=acquaintance + more + 1)
    order = list(FriendshipLevel)
    assert order.index(thresholds.level(score)) <= order.index(thresholds.level(score + 50))


@pytest.mark.parametrize(
    "wrong", [{"acquaintance": 50, "friend": 50}, {"acquaintance": 50, "friend": 20}, {"friend": "NaN"}]
)
def test_thresholds_must_ascend(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FriendshipThresholds.model_validate(wrong)


def test_a_conversation_is_added() -> None:
    entries = [{"speaker": "user", "text": "I love this film, do you?", "topic": "movies"}]
    scored = score_conversation(entries, bot_type="TALK")
    before = FriendshipStatus("user_1", Decimal("29.0"), topic_metrics={"food": TopicMetrics(turns=3)})
    after = add_conversation(before, scored)
    assert after.score == Decimal("29.0") + scored.friendship_score_change
    assert after.level is FriendshipLevel.ACQUAINTANCE
    assert after.conversations == 1
    assert sorted(after.topic_metrics) == ["food", "movies"]


def test_means_come_from_sums() -> None:
    metrics = TopicMetrics(user_turns=4, sentiment_thousandths=-1000, score_tenths=355)
    assert metrics.sentiment == -0.25
    assert metrics.score == Decimal("35.5")
    assert TopicMetrics().sentiment == 0


@pytest.mark.parametrize("wrong", [{"turns": "many"}, {"turns": None}, {"last_talked_at": "soon"}])
def test_a_stored_row_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        TopicMetrics.from_json(wrong)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("Movies", "movies"),
        ("  Ẩm thực & Du lịch ", "ẩm_thực_du_lịch"),
        ("a" * 100, "a" * 64),
        ("\x00\ud800\u202e", None),
        ("", None),
        (None, None),
        (5, None),
    ],
)
def test_topic_names(raw: object, name: str | None) -> None:
    assert topic_name(raw) == name
