"""The choice of the next agents: who may be chosen, who ranks first and why, and that a seed decides it alone."""

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domains.conversations.agents import seed_agents, seed_mapping
from app.domains.conversations.friendship import FriendshipLevel, FriendshipStatus
from app.domains.conversations.selection import (
    AgentMapping,
    AgentPrompting,
    BotType,
    Candidates,
    SelectionRules,
    affinity,
    choose_candidates,
)
from app.domains.conversations.topic_metrics import TopicMetrics

EVEN = SelectionRules(chance=0)
STRANGER, ACQUAINTANCE, FRIEND = FriendshipLevel


def agent(agent_id: str, *topics: str, bot_type: BotType = BotType.TALK) -> AgentPrompting:
    return AgentPrompting(agent_id, agent_id.title(), bot_type, topics)


def status(level: FriendshipLevel = STRANGER, **topics: TopicMetrics) -> FriendshipStatus:
    return FriendshipStatus("user_1", Decimal(0), level, 0, topics)


def talks(
    friendship: FriendshipStatus,
    agents: Iterable[AgentPrompting],
    *,
    recent: list[str] | None = None,
    rules: SelectionRules = EVEN,
    weights: dict[str, float] | None = None,
) -> tuple[str, ...]:
    agents = list(agents)
    mapping = [
        AgentMapping(friendship.level, one.agent_id, (weights or {}).get(one.agent_id, 1.0)) for one in agents
    ]
    chosen = choose_candidates(friendship, mapping, agents, seed="s", recent_agents=recent or [], rules=rules)
    return chosen.talk_candidates


GOOD = TopicMetrics(user_turns=20, questions=5, sentiment_thousandths=10_000)
BAD = TopicMetrics(user_turns=20, questions=0, sentiment_thousandths=-18_000)
TWO = [agent("talk_a", "movies"), agent("talk_b", "food")]


def test_what_the_user_likes_comes_first() -> None:
    assert talks(status(movies=GOOD, food=BAD), TWO) == ("talk_a", "talk_b")
    assert talks(status(movies=BAD, food=GOOD), TWO) == ("talk_b", "talk_a")


def test_a_new_topic_beats_one_that_is_disliked_and_loses_to_one_that_is_loved() -> None:
    assert talks(status(movies=BAD), TWO) == ("talk_b", "talk_a")
    assert talks(status(movies=GOOD), TWO) == ("talk_a", "talk_b")


def test_the_preference_of_the_level_counts() -> None:
    assert talks(status(), TWO, weights={"talk_b": 1.5})[0] == "talk_b"


def test_who_talked_last_steps_back() -> None:
    assert talks(status(movies=GOOD), TWO, recent=["talk_a"])[0] == "talk_b"
    assert talks(status(), [TWO[0]], recent=["talk_a"]) == ("talk_a",)


def test_the_list_offers_different_topics() -> None:
    agents = [agent("talk_a", "movies"), agent("talk_b", "movies"), agent("talk_c", "food")]
    assert talks(status(movies=GOOD), agents) == ("talk_b", "talk_c", "talk_a")


def test_lists_are_as_long_as_the_rules_say() -> None:
    agents = [agent(f"talk_{number}") for number in range(9)]
    assert len(talks(status(), agents)) == 5
    assert len(talks(status(), agents, rules=SelectionRules(most_talks=2))) == 2
    assert talks(status(), agents, rules=SelectionRules(most_talks=0)) == ()


def test_only_enabled_agents_of_the_level_and_type_are_chosen() -> None:
    agents = [
        agent("talk_here"),
        agent("talk_other_level"),
        agent("talk_unmapped"),
        replace(agent("talk_off"), enabled=False),
        agent("game_here", bot_type=BotType.GAME_ACTIVITY),
        agent("greeting_here", bot_type=BotType.GREETING),
    ]
    mapping = [
        AgentMapping(STRANGER, "talk_here"),
        AgentMapping(FRIEND, "talk_other_level"),
        AgentMapping(STRANGER, "talk_off"),
        AgentMapping(STRANGER, "talk_missing"),
        AgentMapping(STRANGER, "talk_unmapped", enabled=False),
        AgentMapping(STRANGER, "game_here"),
        AgentMapping(STRANGER, "greeting_here", weight=0.5),
    ]
    chosen = choose_candidates(status(), mapping, agents, seed="s")
    assert chosen == Candidates("greeting_here", ("talk_here",), ("game_here",))
    assert chosen.as_json() == {
        "greeting_agent": "greeting_here",
        "talk_candidates": ["talk_here"],
        "game_candidates": ["game_here"],
    }


def test_a_level_without_agents_borrows_from_below_and_never_from_above() -> None:
    agents = [agent("talk_first"), agent("talk_last")]
    mapping = [AgentMapping(STRANGER, "talk_first"), AgentMapping(FRIEND, "talk_last")]
    chosen = {
        level: choose_candidates(status(level), mapping, agents, seed="s").talk_candidates
        for level in FriendshipLevel
    }
    assert chosen == {STRANGER: ("talk_first",), ACQUAINTANCE: ("talk_first",), FRIEND: ("talk_last",)}


def test_without_agents_there_is_nobody() -> None:
    assert choose_candidates(status(), [], [], seed="s") == Candidates(None, (), ())


def test_equals_take_turns_by_seed() -> None:
    agents = [agent(f"talk_{number}") for number in range(4)]
    mapping = [AgentMapping(STRANGER, one.agent_id) for one in agents]
    first = {
        choose_candidates(status(), mapping, agents, seed=f"user_1:{n}").talk_candidates[0] for n in range(60)
    }
    assert first == {one.agent_id for one in agents}


def test_a_seed_means_the_same_on_every_machine() -> None:
    chosen = choose_candidates(status(ACQUAINTANCE), seed_mapping(), seed_agents(), seed="user_123:event_1")
    assert chosen.as_json() == {
        "greeting_agent": "greeting_welcome_back",
        "talk_candidates": [
            "talk_school_day",
            "talk_science_wonder",
            "talk_best_friends",
            "talk_family_stories",
            "talk_book_corner",
        ],
        "game_candidates": ["game_trivia_quiz", "game_riddle_time", "game_story_together"],
    }


def test_affinity_is_mood_and_interest() -> None:
    assert affinity(agent("talk_a", "movies"), {}) is None
    assert affinity(agent("talk_a", "movies"), {"movies": TopicMetrics(turns=5)}) is None
    loved = affinity(
        agent("talk_a", "movies"), {"movies": TopicMetrics(user_turns=63, sentiment_thousandths=63_000)}
    )
    assert loved == pytest.approx(1.0)


AGENTS = seed_agents()
TOPIC_NAMES = sorted({topic for one in AGENTS for topic in one.topics})
STATUSES = st.builds(
    FriendshipStatus,
    user_id=st.just("user_1"),
    level=st.sampled_from(FriendshipLevel),
    topic_metrics=st.dictionaries(
        st.sampled_from(TOPIC_NAMES),
        st.builds(
            TopicMetrics,
            user_turns=st.integers(0, 500),
            questions=st.integers(0, 100),
            sentiment_thousandths=st.integers(-500_000, 500_000),
        ),
    ),
)


@settings(deadline=None)
@given(
    STATUSES,
    st.text(st.characters(codec=None), max_size=20),
    st.lists(st.sampled_from([one.agent_id for one in AGENTS]), max_size=5),
)
def test_any_choice_is_lawful_and_does_not_depend_on_the_order_of_rows(
    friendship: FriendshipStatus, seed: str, recent: list[str]
) -> None:
    mapping = list(seed_mapping())
    chosen = choose_candidates(friendship, mapping, AGENTS, seed=seed, recent_agents=recent)
    backwards = choose_candidates(friendship, mapping[::-1], AGENTS[::-1], seed=seed, recent_agents=recent)
    assert chosen == backwards
    types = {one.agent_id: one.bot_type for one in AGENTS}
    at_level = {row.agent_id for row in mapping if row.friendship_level is friendship.level}
    assert chosen.greeting_agent in at_level
    assert {*chosen.talk_candidates, *chosen.game_candidates} <= at_level
    assert {types[one] for one in chosen.talk_candidates} == {BotType.TALK}
    assert {types[one] for one in chosen.game_candidates} == {BotType.GAME_ACTIVITY}
    assert len(set(chosen.talk_candidates)) == len(chosen.talk_candidates) == 5
    assert len(set(chosen.game_candidates)) == len(chosen.game_candidates) == 3


def test_the_agents_that_ship() -> None:
    mapping = seed_mapping()
    ids = [one.agent_id for one in AGENTS]
    assert len(ids) == len(set(ids)) >= 15
    assert len({(row.friendship_level, row.agent_id) for row in mapping}) == len(mapping)
    assert {row.agent_id for row in mapping} == set(ids)
    assert "talk_movie_preference" in ids
    for one in AGENTS:
        assert one.agent_id.startswith(
            {"TALK": "talk_", "GREETING": "greeting_", "GAME_ACTIVITY": "game_"}[one.bot_type]
        )
        assert one.prompt_en.isascii()
        assert not one.prompt_vi.isascii()
    for level in FriendshipLevel:
        here = {row.agent_id for row in mapping if row.friendship_level is level}
        counts = [sum(one.bot_type is kind and one.agent_id in here for one in AGENTS) for kind in BotType]
        assert min(counts) >= 2
