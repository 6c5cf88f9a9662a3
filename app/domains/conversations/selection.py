"""Who talks to the user next: one agent that greets, and ranked agents to talk and to play with.

A pure function of the friendship, two tables' rows and a seed. The ranking is explained in docs/scoring.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from math import log2
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from app.domains.conversations.friendship import LEVELS, FriendshipLevel, FriendshipStatus
from app.domains.conversations.topic_metrics import Topics


class BotType(StrEnum):
    TALK = "TALK"
    GREETING = "GREETING"
    GAME_ACTIVITY = "GAME_ACTIVITY"


@dataclass(frozen=True, slots=True)
class AgentMapping:
    """A row of friendship_agent_mapping: the agent may be chosen at this level, with this preference."""

    friendship_level: FriendshipLevel
    agent_id: str
    weight: float = 1.0
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class AgentPrompting:
    """A row of agent_prompting: the agent, what it talks about and how it is prompted, in two languages."""

    agent_id: str
    agent_name: str
    bot_type: BotType
    topics: tuple[str, ...] = ()
    prompt_en: str = ""
    prompt_vi: str = ""
    enabled: bool = True


class SelectionRules(BaseModel):
    """How many are chosen, and what makes an agent rank higher or lower."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    most_talks: int = Field(5, ge=0, le=50)
    most_games: int = Field(3, ge=0, le=50)
    affinity: float = Field(1.0, ge=0, le=10)
    """Times how much the user likes the agent's topics, -1 .. 1."""
    novelty: float = Field(0.25, ge=0, le=10)
    """For an agent none of whose topics came up yet."""
    recent: tuple[float, ...] = (0.3, 0.5, 0.7)
    """Factors for the agents of the last, the last but one ... conversation."""
    alike: float = Field(0.6, ge=0, le=1)
    """Factor for each better ranked agent of the list that has a topic in common."""
    chance: float = Field(0.2, ge=0, le=10)
    """The seed adds 0 up to this, so that equals take turns."""


DEFAULT_RULES: Final = SelectionRules()


@dataclass(frozen=True, slots=True)
class Candidates:
    """Agent ids, best first. `greeting_agent` is None when no agent that greets is enabled."""

    greeting_agent: str | None
    talk_candidates: tuple[str, ...]
    game_candidates: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "greeting_agent": self.greeting_agent,
            "talk_candidates": list(self.talk_candidates),
            "game_candidates": list(self.game_candidates),
        }


def choose_candidates(
    status: FriendshipStatus,
    mapping: Iterable[AgentMapping],
    prompting: Iterable[AgentPrompting],
    *,
    seed: str,
    recent_agents: Sequence[str] = (),
    rules: SelectionRules = DEFAULT_RULES,
) -> Candidates:
    """Choose for the user's present level.

    `seed` is any text that names user and event (say "user_123:018f..."): the same seed chooses the same.
    `recent_agents` are the bot ids of the user's last conversations, newest first. A bot type without an
    enabled agent at the level borrows from the next lower level, then from the one below.
    """
    agents = {row.agent_id: row for row in prompting if row.enabled}
    weights = _weights_by_level(mapping)

    def best(bot_type: BotType, most: int) -> tuple[str, ...]:
        eligible = _eligible(bot_type, status.level, agents, weights)
        return _rank(eligible, status.topic_metrics, recent_agents, seed, rules, most)

    return Candidates(
        greeting_agent=next(iter(best(BotType.GREETING, 1)), None),
        talk_candidates=best(BotType.TALK, rules.most_talks),
        game_candidates=best(BotType.GAME_ACTIVITY, rules.most_games),
    )


def affinity(agent: AgentPrompting, topics: Topics) -> float | None:
    """How much the user likes the agent's topics, -1 .. 1; None if none of them ever came up.

    Mood (mean valence) and interest (the user's turns and questions, on a logarithmic scale) count half each.
    """
    known = [topics[topic] for topic in agent.topics if topic in topics and topics[topic].user_turns]
    if not known:
        return None
    mood = sum(metrics.sentiment_thousandths for metrics in known) / 1000 / sum(m.user_turns for m in known)
    spoken = sum(metrics.user_turns + metrics.questions for metrics in known)
    interest = min(1.0, log2(1 + spoken) / 6)  # 63 turns and questions are as much interest as there is
    return (mood + interest) / 2


def _weights_by_level(mapping: Iterable[AgentMapping]) -> dict[FriendshipLevel, dict[str, float]]:
    weights: dict[FriendshipLevel, dict[str, float]] = {level: {} for level in LEVELS}
    for row in mapping:
        if row.enabled and row.weight > 0:
            best = weights[row.friendship_level].get(row.agent_id, 0.0)
            weights[row.friendship_level][row.agent_id] = max(best, row.weight)
    return weights


def _eligible(
    bot_type: BotType,
    level: FriendshipLevel,
    agents: Mapping[str, AgentPrompting],
    weights: Mapping[FriendshipLevel, Mapping[str, float]],
) -> list[tuple[AgentPrompting, float]]:
    for below in reversed(LEVELS[: LEVELS.index(level) + 1]):
        found = [
            (agents[agent_id], weight)
            for agent_id, weight in sorted(weights[below].items())
            if agent_id in agents and agents[agent_id].bot_type is bot_type
        ]
        if found:
            return found
    return []


def _rank(
    eligible: Sequence[tuple[AgentPrompting, float]],
    topics: Topics,
    recent_agents: Sequence[str],
    seed: str,
    rules: SelectionRules,
    most: int,
) -> tuple[str, ...]:
    """Best first; each pick lowers what is like it, so that the list offers different things."""
    points = {agent: _points(agent, weight, topics, recent_agents, seed, rules) for agent, weight in eligible}
    ranked: list[str] = []
    while points and len(ranked) < most:
        best = max(points, key=lambda agent: (points[agent], agent.agent_id))
        del points[best]
        ranked.append(best.agent_id)
        for agent in points:
            if not set(agent.topics).isdisjoint(best.topics):
                points[agent] *= rules.alike
    return tuple(ranked)


def _points(
    agent: AgentPrompting,
    weight: float,
    topics: Topics,
    recent_agents: Sequence[str],
    seed: str,
    rules: SelectionRules,
) -> float:
    liking = affinity(agent, topics)
    bonus = rules.novelty if liking is None else rules.affinity * liking
    points = weight * max(0.05, 1.0 + bonus) + rules.chance * _draw(seed, agent.agent_id)
    for agent_id, factor in zip(recent_agents, rules.recent, strict=False):
        if agent_id == agent.agent_id:
            return points * factor
    return points


def _draw(seed: str, agent_id: str) -> float:
    """A number in [0, 1) that depends on seed and agent alone, on every machine and Python the same."""
    digest = blake2b(f"{seed}\x1f{agent_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
