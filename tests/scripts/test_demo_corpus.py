"""The demo's conversations: enough of them, well-formed bodies, several languages, the same ones every time."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from app.domains.conversations.agents import seed_agents
from app.domains.conversations.language import Language
from app.domains.conversations.scoring import score_conversation
from scripts.demo_corpus import CHATTERBOT, CHITCHAT, WRITTEN, DemoConversation, load_conversations

UNTIL = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def loaded() -> list[DemoConversation]:
    return load_conversations(600, until=UNTIL)


def sources(loaded: list[DemoConversation]) -> Counter[str]:
    return Counter(one.source.partition("/")[0] for one in loaded)


def test_as_many_as_asked_for_and_all_different(loaded: list[DemoConversation]) -> None:
    assert sources(loaded) == {CHITCHAT: 300, CHATTERBOT: 300, WRITTEN: 12}
    assert len({one.body["conversation_id"] for one in loaded}) == len(loaded)
    texts = {tuple(entry["text"] for entry in one.body["conversation_log"]) for one in loaded}
    assert len(texts) == len(loaded)


def test_several_languages(loaded: list[DemoConversation]) -> None:
    assert len({one.source for one in loaded}) >= 15


def test_bodies_are_what_the_api_takes(loaded: list[DemoConversation]) -> None:
    agents = {(one.agent_id, one.agent_name, one.bot_type.value) for one in seed_agents()}
    for one in loaded:
        body = one.body
        assert set(body) == {
            "conversation_id",
            "profile_id",
            "bot_type",
            "bot_id",
            "bot_name",
            "start_time",
            "end_time",
            "conversation_log",
        }
        assert (body["bot_id"], body["bot_name"], body["bot_type"]) in agents
        assert {entry["speaker"] for entry in body["conversation_log"]} == {"user", "bot"}
        assert all(entry["text"].strip() for entry in body["conversation_log"])


def test_times_are_in_order_and_nobody_is_in_two_conversations_at_once(
    loaded: list[DemoConversation],
) -> None:
    by_user: dict[str, list[tuple[datetime, datetime]]] = {}
    for one in loaded:
        start, end = (datetime.fromisoformat(one.body[name]) for name in ("start_time", "end_time"))
        times = [datetime.fromisoformat(entry["timestamp"]) for entry in one.body["conversation_log"]]
        assert start < times[0] <= times[-1] < end <= UNTIL
        assert times == sorted(times)
        assert end - start < timedelta(hours=3)
        by_user.setdefault(one.body["profile_id"], []).append((start, end))
    assert [one.body["end_time"] for one in loaded] == sorted(one.body["end_time"] for one in loaded)
    assert sum(len(spans) >= 3 for spans in by_user.values()) > 50
    for spans in by_user.values():
        assert all(before[1] < after[0] for before, after in pairwise(sorted(spans)))


def test_the_same_arguments_give_the_same_list(loaded: list[DemoConversation]) -> None:
    assert load_conversations(600, until=UNTIL) == loaded


def test_another_run_is_new_work_with_the_same_texts(loaded: list[DemoConversation]) -> None:
    again = load_conversations(600, until=UNTIL, run="two")
    assert {one.body["conversation_id"] for one in again}.isdisjoint(
        one.body["conversation_id"] for one in loaded
    )
    assert sources(again) == sources(loaded)


def test_another_seed_chooses_others(loaded: list[DemoConversation]) -> None:
    other = load_conversations(100, seed="other", until=UNTIL, written=False)
    assert sources(other) == {CHITCHAT: 50, CHATTERBOT: 50}
    assert {one.body["conversation_id"] for one in other} != {one.body["conversation_id"] for one in loaded}


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="only"):
        load_conversations(100_000)


def test_the_written_conversations_are_read_as_vietnamese(loaded: list[DemoConversation]) -> None:
    vietnamese = {Language.VIETNAMESE, Language.VIETNAMESE_PLAIN, Language.MIXED}
    for one in loaded:
        if one.source == WRITTEN:
            scored = score_conversation(one.body["conversation_log"], bot_type=one.body["bot_type"])
            assert set(scored.languages) <= vietnamese
