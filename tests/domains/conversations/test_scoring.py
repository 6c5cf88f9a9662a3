"""The score of a conversation: the worked example of docs/scoring.md, each part of the formula, odd logs, laws."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from time import thread_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.domains.conversations.scoring import (
    DEFAULT_WEIGHTS,
    MOST_TOPICS,
    ConversationScore,
    ScoringWeights,
    read_log,
    score_conversation,
    topic_of_bot,
)
from app.domains.conversations.session_emotion import SessionEmotion
from app.domains.conversations.topic_metrics import OTHER_TOPICS

START = datetime(2025, 11, 25, 18, 0, tzinfo=UTC)
END = START + timedelta(minutes=20)
ENGLISH = [
    "bot: Hi Minh! Which film did you see?",
    "user: I saw Coco and I loved it!",
    "bot: What did you like about it?",
    "user: The music is very good, but the end is sad.",
    "bot: I know what you mean.",
    "user: Do you like music?",
    "bot: I like to hear about it.",
    "user: Thank you, see you!",
]
VIETNAMESE = [
    "bot: Chào Minh! Bạn xem phim gì vậy?",
    "user: Con xem Coco và con yêu thích phim đó!",
    "bot: Bạn thích gì ở phim?",
    "user: Nhạc thì rất tốt, nhưng kết thúc thì buồn.",
    "bot: Mình hiểu ý bạn.",
    "user: Bạn có thích âm nhạc không?",
    "bot: Mình thích nghe kể về nhạc.",
    "user: Cảm ơn bạn, hẹn gặp lại!",
]


def log(lines: list[str], topic: str | None = "movies") -> list[dict[str, Any]]:
    entries = []
    for index, line in enumerate(lines):
        speaker, text = line.split(": ", 1)
        at = (START + timedelta(seconds=30 * index)).isoformat()
        entries.append({"speaker": speaker, "text": text, "timestamp": at, "topic": topic})
    return entries


def score(entries: list[Any], bot_type: str = "TALK", **more: Any) -> ConversationScore:
    return score_conversation(entries, bot_type=bot_type, start_time=START, end_time=END, **more)


def test_the_worked_example_of_the_documentation() -> None:
    found = score(log(ENGLISH))
    assert (found.total_turns, found.user_turns, found.user_initiated_questions) == (8, 4, 1)
    assert found.sentiment == pytest.approx((0.636 - 0.443 + 0.190 + 0.579) / 4, abs=0.001)
    parts = found.as_json()["parts"]
    assert parts == {
        "turns": 3.2,
        "questions": 2.5,
        "depth": 1.98,
        "duration": 5.0,
        "topics": 0.0,
        "warmth": pytest.approx(6.47, abs=0.01),
        "hostility": 0.0,
    }
    assert found.friendship_score_change == Decimal("19.1")
    assert found.session_emotion is SessionEmotion.AFFECTIONATE
    assert found.languages == {"en": 4}


def test_the_same_conversation_in_vietnamese_scores_alike() -> None:
    english, vietnamese = score(log(ENGLISH)), score(log(VIETNAMESE))
    assert vietnamese.languages == {"vi": 4}
    assert vietnamese.user_initiated_questions == english.user_initiated_questions
    assert vietnamese.session_emotion is english.session_emotion
    assert abs(vietnamese.friendship_score_change - english.friendship_score_change) < 3


def test_the_change_of_the_original_example_is_an_ordinary_one() -> None:
    """A lively talk of twenty minutes brings about the 35.5 points that the original document gives."""
    found = score(log(ENGLISH * 3))
    assert 30 < found.friendship_score_change < 42


@pytest.mark.parametrize(("bot_type", "factor"), [("TALK", 1.0), ("GREETING", 0.6), ("GAME_ACTIVITY", 0.8)])
def test_the_bot_type_scales_the_change(bot_type: str, factor: float) -> None:
    found = score(log(ENGLISH), bot_type)
    assert float(found.friendship_score_change) == pytest.approx(found.parts.total * factor, abs=0.051)


def test_only_the_user_counts() -> None:
    grumpy_bot = [line.replace("bot: ", "bot: I hate you, you are stupid. Why? ") for line in ENGLISH]
    found, expected = score(log(grumpy_bot)), score(log(ENGLISH))
    assert found.friendship_score_change == expected.friendship_score_change
    assert found.user_initiated_questions == expected.user_initiated_questions


def test_a_bot_that_talks_to_itself_makes_no_friend() -> None:
    found = score([{"speaker": "bot", "text": "What a wonderful day! How are you?"}] * 50)
    assert found.total_turns == 50
    assert found.friendship_score_change == 0
    assert found.session_emotion is SessionEmotion.NEUTRAL


def test_a_monologue_of_the_bot_earns_no_more_than_an_exchange() -> None:
    exchange = log(["user: hello", "bot: hello"])
    assert score([*exchange, *log(["bot: hello"] * 30)]).parts.turns == score(exchange).parts.turns


def test_who_confides_is_not_punished_like_who_rejects() -> None:
    sad = score(log(["user: Con buồn lắm, con cô đơn", "bot: Mình ở đây", "user: Con sợ các bạn ghét con"]))
    hostile = score(log(["user: Đồ ngốc, im đi", "bot: Mình xin lỗi", "user: Cút đi"]))
    assert sad.session_emotion is SessionEmotion.SAD
    assert sad.friendship_score_change > 0
    assert hostile.session_emotion is SessionEmotion.ANGRY
    assert hostile.friendship_score_change < -10


@pytest.mark.parametrize(
    ("emotion", "texts"),
    [
        (SessionEmotion.HAPPY, ["I am so happy", "con vui quá"]),
        (SessionEmotion.AFFECTIONATE, ["Con yêu mẹ", "thank you my dear friend"]),
        (SessionEmotion.CURIOUS, ["What is a star?", "Mặt trăng làm bằng gì?", "ok"]),
        (SessionEmotion.NEUTRAL, ["Con đi học", "the table is brown"]),
        (SessionEmotion.MIXED, ["I love it!", "I am so sad", "con vui", "con buồn"]),
        (SessionEmotion.BORED, ["This is boring", "chán quá"]),
        (SessionEmotion.SAD, ["I feel lonely", "con buồn lắm"]),
        (SessionEmotion.ANXIOUS, ["I am scared", "con lo lắng quá"]),
        (SessionEmotion.ANGRY, ["I hate this", "con tức quá"]),
        (SessionEmotion.UPSET, ["The food is terrible", "phim này dở tệ"]),
        (SessionEmotion.NEUTRAL, []),
    ],
)
def test_session_emotions(emotion: SessionEmotion, texts: list[str]) -> None:
    assert score([{"speaker": "user", "text": text} for text in texts]).session_emotion is emotion


def test_short_turns_are_read_in_the_conversations_language() -> None:
    found = score(
        [{"speaker": "user", "text": text} for text in ["No me gusta nada", "gracias", "mal", "no"]]
    )
    assert found.languages == {"other": 4}


def test_topics_are_counted_apart_and_their_scores_add_up() -> None:
    entries = [
        *log(ENGLISH, "movies"),
        *log(["user: I like pizza", "bot: Yum"], "Food!"),
        *log(["bot: Bye"], "end"),
    ]
    found = score(entries)
    assert {topic: (m.turns, m.user_turns, m.questions) for topic, m in found.topic_metrics.items()} == {
        "movies": (8, 4, 1),
        "food": (2, 1, 0),
        "end": (1, 0, 0),
    }
    assert sum(metrics.score for metrics in found.topic_metrics.values()) == found.friendship_score_change
    assert found.topic_metrics["end"].score == 0
    assert found.topic_metrics["food"].last_talked_at == END
    assert found.parts.topics == DEFAULT_WEIGHTS.per_extra_topic


def test_a_turn_without_a_topic_goes_on_with_the_last_one() -> None:
    entries: list[dict[str, Any]] = [
        {"speaker": "bot", "text": "hi"},
        {"speaker": "user", "text": "hi", "topic": "Ẩm thực"},
        {"speaker": "user", "text": "well", "topic": ""},
    ]
    assert [turn.topic for turn in read_log(entries, default_topic="movies")] == [
        "movies",
        "ẩm_thực",
        "ẩm_thực",
    ]


@pytest.mark.parametrize(
    ("bot_id", "topic"),
    [
        ("talk_movie_preference", "movie_preference"),
        ("game_riddle_time", "riddle_time"),
        ("greeting_old_friend", "general"),
        ("", "general"),
        ("!!!", "general"),
    ],
)
def test_topics_from_bot_ids(bot_id: str, topic: str) -> None:
    assert topic_of_bot(bot_id) == topic
    assert list(score([{"speaker": "user", "text": "hi"}], bot_id=bot_id).topic_metrics) == [topic]
    assert list(score([{"speaker": "user", "text": "hi"}], bot_id=bot_id, topic="Movies").topic_metrics) == [
        "movies"
    ]


def test_topics_per_conversation_are_bounded() -> None:
    found = score([{"speaker": "user", "text": "hi", "topic": f"t{number}"} for number in range(500)])
    assert len(found.topic_metrics) == MOST_TOPICS + 1
    assert found.topic_metrics[OTHER_TOPICS].turns == 500 - MOST_TOPICS


@pytest.mark.parametrize("minutes", [-30, 0])
def test_an_end_before_the_start_lasts_no_time(minutes: int) -> None:
    end = START + timedelta(minutes=minutes)
    found = score_conversation(log(ENGLISH), bot_type="TALK", start_time=START, end_time=end)
    assert found.parts.duration == 0


def test_times_with_and_without_zone_go_together() -> None:
    end = END.astimezone(timezone(timedelta(hours=7)))
    found = score_conversation(
        log(ENGLISH), bot_type="TALK", start_time=START.replace(tzinfo=None), end_time=end
    )
    assert found.parts.duration == 5.0


ODD_LOGS: list[list[Any]] = [
    [],
    [None, 1, "user: hi", ["x"], {}],
    [{"speaker": "user"}, {"speaker": "user", "text": None}, {"speaker": "user", "text": 7}],
    [{"speaker": "user", "text": "   \n"}],
    [{"speaker": "user", "text": "hi", "timestamp": "yesterday", "topic": 5}],
    [{"speaker": "user", "text": "hi", "timestamp": "0001-01-01T00:00:00+14:00", "topic": ["x"]}],
    [{"speaker": ["user"], "text": "hi"}],
    [{"speaker": "user", "text": "\ud800\ud800 \u202e\u0301\u0301 ﷽", "topic": "\ud800"}],
]


@pytest.mark.parametrize("entries", ODD_LOGS)
def test_odd_logs_are_scored(entries: list[Any]) -> None:
    found = score(entries)
    assert json.loads(json.dumps(found.as_json()))["friendship_score_change"] == float(
        found.friendship_score_change
    )


ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "speaker": st.sampled_from(["user", "user", "bot", "admin", None, 3]),
        "text": st.one_of(
            st.text(st.characters(codec=None), max_size=80), st.sampled_from(ENGLISH + VIETNAMESE), st.none()
        ),
        "topic": st.one_of(
            st.text(max_size=20), st.sampled_from(["movies", "food"]), st.none(), st.integers()
        ),
        "timestamp": st.one_of(st.datetimes().map(datetime.isoformat), st.text(max_size=10), st.none()),
    },
)
WEIGHTS = st.builds(
    ScoringWeights,
    per_turn=st.floats(0, 100),
    most_turns=st.integers(0, 10_000),
    warmth=st.floats(0, 1000),
    hostility=st.floats(0, 1000),
    confiding=st.floats(0, 1),
    lowest=st.decimals(-1000, 0, allow_nan=False),
    highest=st.decimals(0, 1000, allow_nan=False),
)


@settings(deadline=None)
@given(
    st.lists(ENTRY, max_size=12),
    st.text(max_size=12),
    st.none() | st.datetimes(),
    st.none() | st.datetimes(timezones=st.timezones()),
    WEIGHTS,
)
def test_laws_of_the_score(
    entries: list[Any], bot_type: str, start: datetime | None, end: datetime | None, weights: ScoringWeights
) -> None:
    arguments: dict[str, Any] = {
        "bot_type": bot_type,
        "start_time": start,
        "end_time": end,
        "weights": weights,
    }
    found = score_conversation(entries, **arguments)
    change = found.friendship_score_change
    tenth = Decimal("0.1")
    assert weights.lowest - tenth < change < weights.highest + tenth
    assert change == change.quantize(tenth)
    assert 0 <= found.user_initiated_questions <= found.user_turns <= found.total_turns <= len(entries)
    assert sum(metrics.turns for metrics in found.topic_metrics.values()) == found.total_turns
    assert (
        sum(metrics.questions for metrics in found.topic_metrics.values()) == found.user_initiated_questions
    )
    if found.user_turns:
        assert sum(metrics.score for metrics in found.topic_metrics.values()) == change
    else:
        assert change == 0
    assert -1 <= found.sentiment <= 1
    assert score_conversation(entries, **arguments) == found


@pytest.mark.parametrize(
    "wrong",
    [
        {"per_turn": -1},
        {"lowest": 1},
        {"warmth": "NaN"},
        {"warmth": float("inf")},
        {"deep_letters": 0},
        {"unknown": 1},
    ],
)
def test_weights_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ScoringWeights.model_validate(wrong)


@pytest.mark.parametrize(
    "unit",
    [
        "I really loved it, but not so much! Why? ",
        "Con không vui lắm nhưng mà thích. ",
        "a",
        "\u0301\u0323",
        "không ",
        "😂",
    ],
    ids=["english", "vietnamese", "one word", "marks", "negations", "emoji"],
)
def test_the_time_grows_with_the_size_and_not_with_its_square(unit: str) -> None:
    def seconds(letters: int) -> float:
        entries = [{"speaker": "user", "text": (unit * (letters // len(unit) + 1))[:letters]}]
        best = float("inf")
        for _ in range(2):
            start = thread_time()  # the CPU time of this thread: other work on the machine does not count
            score(entries)
            best = min(best, thread_time() - start)
        return best

    seconds(1_000)  # the lexicons are loaded
    assert seconds(80_000) < 80 * max(seconds(5_000), 1e-4)  # 16 times the size; its square would be 256
