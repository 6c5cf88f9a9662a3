"""From a conversation's log to its metrics and the change of the friendship score. No database, no clock.

The formula with a worked example is in docs/scoring.md; every number in it is a field of `ScoringWeights`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from app.domains.conversations.language import Language, detect, words_of
from app.domains.conversations.lexicon import Emotion
from app.domains.conversations.sentiment import TurnFeeling, feel
from app.domains.conversations.session_emotion import SessionEmotion, session_emotion
from app.domains.conversations.tokens import read_sentences
from app.domains.conversations.topic_metrics import (
    OTHER_TOPICS,
    TopicMetrics,
    Topics,
    topic_name,
    topics_as_json,
)

MOST_TOPICS: Final = 20  # per conversation; later ones are counted together as `other`
GENERAL: Final = "general"


class ScoringWeights(BaseModel):
    """Every number of the formula. Points are points of the friendship score; caps keep any part bounded."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    per_turn: float = Field(0.4, ge=0, le=100)
    most_turns: int = Field(40, ge=0, le=10_000)
    per_question: float = Field(2.5, ge=0, le=100)
    most_questions: int = Field(6, ge=0, le=10_000)
    depth: float = Field(6.0, ge=0, le=100)
    deep_letters: int = Field(60, ge=1, le=100_000)
    """Mean letters per user turn from which the depth counts in full."""
    per_minute: float = Field(0.25, ge=0, le=100)
    most_minutes: int = Field(20, ge=0, le=10_000)
    per_extra_topic: float = Field(1.5, ge=0, le=100)
    most_extra_topics: int = Field(4, ge=0, le=MOST_TOPICS)
    warmth: float = Field(20.0, ge=0, le=1000)
    """Times the user's mean valence, -1 .. 1."""
    confiding: float = Field(0.25, ge=0, le=1)
    """What is left of the negative valence of a sad, anxious or angry turn: who confides does not reject."""
    hostility: float = Field(20.0, ge=0, le=1000)
    """Times the share of the user's turns that are hostile to the bot."""
    talk: float = Field(1.0, ge=0, le=10)
    greeting: float = Field(0.6, ge=0, le=10)
    game_activity: float = Field(0.8, ge=0, le=10)
    lowest: Decimal = Field(Decimal("-25.0"), ge=-1000, le=0)
    highest: Decimal = Field(Decimal("60.0"), ge=0, le=1000)


DEFAULT_WEIGHTS: Final = ScoringWeights()


@dataclass(frozen=True, slots=True)
class Turn:
    """One entry of the log. Every speaker but "user" counts as the bot."""

    by_user: bool
    text: str
    topic: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ScoreParts:
    """The summands of the formula in points, before the factor of the bot type and the bounds."""

    turns: float = 0.0
    questions: float = 0.0
    depth: float = 0.0
    duration: float = 0.0
    topics: float = 0.0
    warmth: float = 0.0
    hostility: float = 0.0

    @property
    def total(self) -> float:
        engagement = self.turns + self.questions + self.depth + self.duration + self.topics
        return engagement + self.warmth + self.hostility


@dataclass(frozen=True, slots=True)
class ConversationScore:
    """What one conversation adds. `friendship_score_change` has one decimal; the topics' scores sum to it."""

    total_turns: int
    user_turns: int
    user_initiated_questions: int
    topic_metrics: Topics
    session_emotion: SessionEmotion
    sentiment: float
    languages: Mapping[str, int]
    parts: ScoreParts
    friendship_score_change: Decimal

    def as_json(self) -> dict[str, Any]:
        """For a JSONB column or an API answer."""
        return {
            "total_turns": self.total_turns,
            "user_turns": self.user_turns,
            "user_initiated_questions": self.user_initiated_questions,
            "topic_metrics": topics_as_json(self.topic_metrics),
            "session_emotion": self.session_emotion.value,
            "sentiment": round(self.sentiment, 3),
            "languages": dict(self.languages),
            "parts": {name: round(points, 2) for name, points in asdict(self.parts).items()},
            "friendship_score_change": float(self.friendship_score_change),
        }


def score_conversation(
    conversation_log: Sequence[object],
    *,
    bot_type: str,
    bot_id: str = "",
    topic: str | None = None,
    start_time: datetime | None = None,
    end_time: datetime | None = None,
    weights: ScoringWeights = DEFAULT_WEIGHTS,
) -> ConversationScore:
    """Score a finished conversation. Deterministic, linear in the log's size; no log makes it raise.

    Entries that are no objects or have no text are left out; turns without a topic get
    `topic`, say the agent's first one, or else what `topic_of_bot` makes of `bot_id`.
    """
    turns = read_log(conversation_log, default_topic=topic_name(topic) or topic_of_bot(bot_id))
    feelings, languages = _read_user_turns(turns)
    start, end = _as_utc(start_time), _as_utc(end_time)
    minutes = max(0.0, (end - start).total_seconds() / 60) if start and end else 0.0
    parts = _parts(turns, feelings, minutes, weights)
    change = _bounded(parts.total * _factor(bot_type, weights), weights)
    return ConversationScore(
        total_turns=len(turns),
        user_turns=len(feelings),
        user_initiated_questions=sum(feeling.asks for feeling in feelings.values()),
        topic_metrics=_topic_metrics(turns, feelings, int(change * 10), end),
        session_emotion=session_emotion(list(feelings.values())),
        sentiment=_mean([feeling.valence for feeling in feelings.values()]),
        languages=languages,
        parts=parts,
        friendship_score_change=change,
    )


def read_log(conversation_log: Sequence[object], *, default_topic: str = GENERAL) -> list[Turn]:
    """The turns that have text. A turn without a topic belongs to the topic talked about before it."""
    turns: list[Turn] = []
    topic = default_topic
    seen: set[str] = set()
    for entry in conversation_log:
        if not isinstance(entry, Mapping):
            continue
        text = entry.get("text")
        if not isinstance(text, str) or not text.strip():
            continue
        topic = topic_name(entry.get("topic")) or topic
        if topic not in seen and len(seen) >= MOST_TOPICS:
            topic = OTHER_TOPICS
        seen.add(topic)
        turns.append(Turn(entry.get("speaker") == "user", text, topic, _instant(entry.get("timestamp"))))
    return turns


def topic_of_bot(bot_id: str) -> str:
    """ "talk_movie_preference" talks about "movie_preference", who only greets about nothing in particular."""
    name = topic_name(bot_id) or GENERAL
    return GENERAL if name.startswith("greeting") else name.removeprefix("talk_").removeprefix("game_")


def _read_user_turns(turns: Sequence[Turn]) -> tuple[dict[int, TurnFeeling], dict[str, int]]:
    """Feeling of each user turn by its position, and how many turns are in which language."""
    sentences = {index: read_sentences(turn.text) for index, turn in enumerate(turns) if turn.by_user}
    words = {index: words_of(read) for index, read in sentences.items()}
    main = detect([word for spoken in words.values() for word in spoken])
    feelings: dict[int, TurnFeeling] = {}
    languages: dict[str, int] = {}
    for index, read in sentences.items():
        language = detect(words[index])
        if language is Language.UNKNOWN:
            language = main
        languages[language.value] = languages.get(language.value, 0) + 1
        feelings[index] = feel(read, language)
    return feelings, dict(sorted(languages.items()))


def _parts(
    turns: Sequence[Turn], feelings: Mapping[int, TurnFeeling], minutes: float, weights: ScoringWeights
) -> ScoreParts:
    """Without a word from the user there is nothing to score: a bot that talks to itself makes no friend."""
    if not feelings:
        return ScoreParts()
    letters = _mean([sum(map(str.isalpha, turns[index].text)) for index in feelings])
    topics = {turns[index].topic for index in feelings}
    hostile = sum(_is_hostile(feeling) for feeling in feelings.values()) / len(feelings)
    asked = sum(feeling.asks for feeling in feelings.values())
    return ScoreParts(
        turns=weights.per_turn * min(len(turns), 2 * len(feelings), weights.most_turns),
        questions=weights.per_question * min(asked, weights.most_questions),
        depth=weights.depth * min(1.0, letters / weights.deep_letters),
        duration=weights.per_minute * min(minutes, weights.most_minutes),
        topics=weights.per_extra_topic * min(len(topics) - 1, weights.most_extra_topics),
        warmth=weights.warmth * _mean([_warmth(feeling, weights) for feeling in feelings.values()]),
        hostility=0.0 - weights.hostility * hostile,
    )


def _warmth(feeling: TurnFeeling, weights: ScoringWeights) -> float:
    if feeling.valence >= 0 or _is_hostile(feeling):
        return feeling.valence
    strongest = max(feeling.emotions, key=lambda emotion: (feeling.emotions[emotion], emotion), default=None)
    confides = strongest in (Emotion.SADNESS, Emotion.FEAR, Emotion.ANGER)
    return feeling.valence * weights.confiding if confides else feeling.valence


def _is_hostile(feeling: TurnFeeling) -> bool:
    return feeling.valence < 0 and Emotion.HOSTILITY in feeling.emotions


def _factor(bot_type: str, weights: ScoringWeights) -> float:
    factors = {"GREETING": weights.greeting, "GAME_ACTIVITY": weights.game_activity}
    return factors.get(bot_type, weights.talk)


def _bounded(points: float, weights: ScoringWeights) -> Decimal:
    change = Decimal(points).quantize(Decimal("0.1"), ROUND_HALF_EVEN)
    return max(weights.lowest, min(weights.highest, change)).quantize(Decimal("0.1"), ROUND_HALF_EVEN)


def _topic_metrics(
    turns: Sequence[Turn], feelings: Mapping[int, TurnFeeling], tenths: int, end: datetime | None
) -> dict[str, TopicMetrics]:
    topics: dict[str, TopicMetrics] = {}
    for index, turn in enumerate(turns):
        feeling = feelings.get(index)
        topics[turn.topic] = topics.get(turn.topic, TopicMetrics()) + TopicMetrics(
            turns=1,
            user_turns=int(turn.by_user),
            questions=int(feeling is not None and feeling.asks),
            sentiment_thousandths=round(1000 * feeling.valence) if feeling is not None else 0,
            last_talked_at=end or turn.at,
        )
    shares = _shares(topics, tenths)
    return {
        topic: metrics + TopicMetrics(conversations=1, score_tenths=shares.get(topic, 0))
        for topic, metrics in sorted(topics.items())
    }


def _shares(topics: Topics, tenths: int) -> dict[str, int]:
    """Split the change over the topics by user turns plus questions; largest remainder, no tenth lost."""
    weight = {topic: metrics.user_turns + metrics.questions for topic, metrics in topics.items()}
    whole = sum(weight.values())
    if not whole:
        return {}
    size = abs(tenths)
    shares = {topic: size * part // whole for topic, part in weight.items()}
    by_remainder = sorted(weight, key=lambda topic: (-(size * weight[topic] % whole), topic))
    for topic in by_remainder[: size - sum(shares.values())]:
        shares[topic] += 1
    return {topic: share if tenths >= 0 else -share for topic, share in shares.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _instant(raw: object) -> datetime | None:
    try:
        return _as_utc(datetime.fromisoformat(raw)) if isinstance(raw, str) else None
    except (ValueError, OverflowError):
        return None


def _as_utc(when: datetime | None) -> datetime | None:
    if when is None:
        return None
    try:
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except OverflowError:
        return None
