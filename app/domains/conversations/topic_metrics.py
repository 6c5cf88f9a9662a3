"""What a user's conversations about one topic add up to. Sums of integers only, so that conversations that
end at the same time may be added in any order and always give the same row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, TypeAlias

OTHER_TOPICS: Final = "other"
LONGEST_TOPIC: Final = 64
_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TopicMetrics:
    """Counts and sums for one topic.

    `sentiment_thousandths` is the sum over user turns of their valence (-1 .. 1) in thousandths;
    `score_tenths` is the topic's part of the friendship score in tenths of a point; `last_talked_at` in UTC.
    """

    conversations: int = 0
    turns: int = 0
    user_turns: int = 0
    questions: int = 0
    sentiment_thousandths: int = 0
    score_tenths: int = 0
    last_talked_at: datetime | None = None

    @property
    def sentiment(self) -> float:
        """Mean valence of the user's turns, -1 .. 1; 0 without any."""
        return self.sentiment_thousandths / 1000 / self.user_turns if self.user_turns else 0.0

    @property
    def score(self) -> Decimal:
        return Decimal(self.score_tenths) / 10

    def __add__(self, other: "TopicMetrics") -> "TopicMetrics":
        """Commutative and associative; `TopicMetrics()` changes nothing."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in _SUMMED}
        return TopicMetrics(**sums, last_talked_at=latest(self.last_talked_at, other.last_talked_at))

    def as_json(self) -> dict[str, Any]:
        """For the JSONB column: what is summed, and `sentiment` and `score` for people who read by SQL."""
        document: dict[str, Any] = {name: getattr(self, name) for name in _SUMMED}
        document["sentiment"] = round(self.sentiment, 3)
        document["score"] = float(self.score)
        document["last_talked_at"] = self.last_talked_at.isoformat() if self.last_talked_at else None
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "TopicMetrics":
        """Inverse of `as_json`; missing members count as zero. Raises ValueError or TypeError on nonsense."""
        when = document.get("last_talked_at")
        return cls(
            **{name: int(document.get(name, 0)) for name in _SUMMED},
            last_talked_at=datetime.fromisoformat(when).astimezone(UTC) if when else None,
        )


_SUMMED: Final = tuple(field.name for field in fields(TopicMetrics) if field.name != "last_talked_at")


Topics: TypeAlias = Mapping[str, TopicMetrics]


def latest(one: datetime | None, other: datetime | None) -> datetime | None:
    """The later of two instants, either of which may be missing."""
    if one is None or other is None:
        return one or other
    return max(one, other)


def merge_topics(one: Topics, other: Topics) -> dict[str, TopicMetrics]:
    """Add up topic by topic. Commutative and associative, with `{}` as its neutral element."""
    nothing = TopicMetrics()
    return {topic: one.get(topic, nothing) + other.get(topic, nothing) for topic in sorted({*one, *other})}


def topics_as_json(topics: Topics) -> dict[str, dict[str, Any]]:
    return {topic: topics[topic].as_json() for topic in sorted(topics)}


def topics_from_json(document: Mapping[str, Mapping[str, Any]] | None) -> dict[str, TopicMetrics]:
    return {topic: TopicMetrics.from_json(metrics) for topic, metrics in (document or _EMPTY).items()}


def topic_name(raw: object) -> str | None:
    """A topic as it is stored: lower case, words joined by "_", at most 64 characters; None if empty."""
    if not isinstance(raw, str):
        return None
    kept = "".join(letter if letter.isalnum() else " " for letter in raw[: 4 * LONGEST_TOPIC].lower())
    return "_".join(kept.split())[:LONGEST_TOPIC].strip("_") or None
