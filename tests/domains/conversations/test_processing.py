"""What a worker makes of conversations: scores, friendships that add up, candidates, and the event's outcome."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from app.context import present
from app.domains.conversations import processing_store
from app.domains.conversations.friendship import FriendshipStatus, add_conversation
from app.domains.conversations.scoring import score_conversation
from tests.support.conversations import (
    END,
    START,
    body,
    claim_one,
    end,
    ended_at,
    event,
    friendship,
    handle,
    make_settings,
    opened_sessions,
    read,
    registered,
    serving,
    working,
    write,
)
from tests.support.waiting import eventually_async


def expected(made: dict[str, Any], topic: str | None = "movies") -> Any:
    return score_conversation(
        made["conversation_log"],
        bot_type=made["bot_type"],
        bot_id=made["bot_id"],
        topic=topic,
        start_time=datetime.fromisoformat(made["start_time"]),
        end_time=datetime.fromisoformat(made["end_time"]),
    )


async def test_a_conversation_goes_through_the_whole_machine(db_url: str) -> None:
    async with working(db_url), serving(db_url) as client:
        answer = await end(client)
        await eventually_async(lambda: event(db_url).status == "PROCESSED")
        again = await end(client)
        state = (await client.get("/v1/conversations/conv_1")).json()
        candidates = (await client.get("/v1/users/user_1/candidates")).json()

    score = expected(body())
    row = event(db_url)
    assert (row.stored, row.attempt_count, row.next_attempt_at) == ("PROCESSED", 1, None)
    assert (row.friendship_score_change, row.new_friendship_level) == (
        score.friendship_score_change,
        "PHASE1_STRANGER",
    )
    assert row.score == score.as_json()
    assert (row.error_code, row.error_details) == (None, None)

    friend = friendship(db_url)
    assert (friend.friendship_score, friend.conversations) == (score.friendship_score_change, 1)
    assert friend.topic_metrics == score.as_json()["topic_metrics"]
    assert [one["agent"] for one in friend.recent_agents] == ["talk_movie_preference"]
    assert friend.last_conversation_at == START + timedelta(minutes=20)

    assert state["status"] == "PROCESSED"
    assert state["job"]["status"] == "SUCCEEDED"
    assert state["outcome"]["friendship_score_change"] == float(score.friendship_score_change)
    assert state["outcome"]["score"]["total_turns"] == 2
    assert again == answer | {"status": "PROCESSED"}
    assert candidates["event_id"] == answer["event_id"]
    assert candidates["greeting_agent"].startswith("greeting_")
    assert candidates["talk_candidates"]
    assert candidates["game_candidates"]
    created, expires = (datetime.fromisoformat(candidates[name]) for name in ("created_at", "expires_at"))
    assert expires - created == timedelta(hours=12)


async def test_concurrent_conversations_of_a_user_add_up(db_url: str) -> None:
    bodies = [
        body(f"conv_{number}", end_time=ended_at(number + 1), bot_id=f"talk_{number}") for number in range(12)
    ]
    async with serving(db_url) as client:
        for made in bodies:
            await end(client, made["conversation_id"], end_time=made["end_time"], bot_id=made["bot_id"])
    # Two workers: one process alone never runs two conversations of a user at once.
    async with working(db_url), working(db_url):
        await eventually_async(
            lambda: (
                read(db_url, "SELECT count(*) FROM conversation_events WHERE status = 'PROCESSED'")[0].count
                == len(bodies)
            )
        )
    status = FriendshipStatus("user_1")
    for made in bodies:
        status = add_conversation(status, expected(made, topic=None))
    friend = friendship(db_url)
    assert (friend.friendship_score, friend.conversations) == (status.score, 12)
    assert friend.friendship_level == status.level.value
    assert {name: metrics["turns"] for name, metrics in friend.topic_metrics.items()} == {
        name: metrics.turns for name, metrics in status.topic_metrics.items()
    }
    assert [one["agent"] for one in friend.recent_agents] == ["talk_11", "talk_10", "talk_9"]
    total = read(db_url, "SELECT sum(friendship_score_change) AS total FROM conversation_events")[0].total
    assert total == friend.friendship_score


async def test_the_order_of_processing_does_not_change_the_friendship(db_url: str) -> None:
    """Every order of three conversations, each with its own user."""
    log = [{"speaker": "user", "text": "I hate this, you are stupid!", "timestamp": "2025-11-25T18:00:00Z"}]
    kinds: list[dict[str, Any]] = [
        {"end_time": ended_at(5)},
        {"end_time": ended_at(9), "bot_type": "GAME_ACTIVITY", "bot_id": "game_word_chain"},
        {"end_time": ended_at(7), "conversation_log": log, "bot_id": "talk_school_day"},
    ]
    orders = list(permutations(range(3)))
    async with opened_sessions(db_url) as sessions, serving(db_url) as client:
        registry = registered(sessions)
        for user, order in enumerate(orders):
            for number in order:
                await end(client, f"c{user}-{number}", f"u{user}", **kinds[number])
                await handle(registry, await claim_one(db_url))
    found = [friendship(db_url, f"u{user}") for user in range(len(orders))]
    assert len({(row.friendship_score, row.friendship_level, row.conversations) for row in found}) == 1
    assert all(row.topic_metrics == found[0].topic_metrics for row in found)
    agents = [[one["agent"] for one in row.recent_agents] for row in found]
    assert agents == [["game_word_chain", "talk_school_day", "talk_movie_preference"]] * len(orders)


async def test_an_older_end_time_never_replaces_newer_candidates(db_url: str) -> None:
    async with opened_sessions(db_url) as sessions, serving(db_url) as client:
        registry = registered(sessions)
        newer = await end(client, "newer", end_time=ended_at(30))
        await handle(registry, await claim_one(db_url))
        await end(client, "older", end_time=ended_at(10))
        await handle(registry, await claim_one(db_url))
        kept = (await client.get("/v1/users/user_1/candidates")).json()
        assert (kept["event_id"], friendship(db_url).conversations) == (newer["event_id"], 2)

        newest = await end(client, "newest", end_time=ended_at(31))
        await handle(registry, await claim_one(db_url))
        replaced = (await client.get("/v1/users/user_1/candidates")).json()
    assert replaced["event_id"] == newest["event_id"]
    assert event(db_url, "older").status == "PROCESSED"


async def test_candidates_expire_and_then_an_older_conversation_may_bring_new_ones(db_url: str) -> None:
    async with opened_sessions(db_url) as sessions, serving(db_url) as client:
        registry = registered(sessions)
        await end(client, "newer", end_time=ended_at(30))
        await handle(registry, await claim_one(db_url))
        write(db_url, "UPDATE agent_candidates SET expires_at = clock_timestamp()")
        expired = await client.get("/v1/users/user_1/candidates")
        await end(client, "older", end_time=ended_at(10))
        await handle(registry, await claim_one(db_url))
        fresh = await client.get("/v1/users/user_1/candidates")
    assert (expired.status_code, fresh.status_code) == (404, 200)
    assert expired.json()["type"] == "urn:tandem:problem:no-candidates"


async def test_levels_follow_the_score_and_the_thresholds_can_be_set(db_url: str) -> None:
    low = make_settings(conversations={"thresholds": {"acquaintance": 10, "friend": 40}})
    levels = []
    async with opened_sessions(db_url) as sessions, serving(db_url) as client:
        registry = registered(sessions, low)
        for number in range(3):
            await end(client, f"c{number}")
            await handle(registry, await claim_one(db_url))
            levels.append(event(db_url, f"c{number}").new_friendship_level)
    assert levels == ["PHASE2_ACQUAINTANCE", "PHASE3_FRIEND", "PHASE3_FRIEND"]
    assert friendship(db_url).friendship_level == "PHASE3_FRIEND"


async def test_weights_can_be_set(db_url: str) -> None:
    silent = {"per_turn": 0, "per_question": 0, "depth": 0, "per_minute": 0, "warmth": 0, "hostility": 0}
    weights = make_settings(conversations={"scoring": silent | {"per_minute": 0.5}})
    async with opened_sessions(db_url) as sessions, serving(db_url) as client:
        await end(client)
        await handle(registered(sessions, weights), await claim_one(db_url))
    assert event(db_url).friendship_score_change == Decimal("10.0")


async def test_agents_are_the_tables_and_a_disabled_one_is_not_chosen(db_url: str) -> None:
    write(
        db_url, "UPDATE agent_prompting SET enabled = agent_id IN ('greeting_old_friend', 'talk_big_dreams')"
    )
    write(
        db_url,
        "UPDATE friendship_agent_mapping SET friendship_level = 'PHASE1_STRANGER'"
        " WHERE agent_id = 'talk_big_dreams' AND friendship_level = 'PHASE3_FRIEND'",
    )
    async with opened_sessions(db_url) as sessions, serving(db_url) as client:
        await end(client)
        await handle(registered(sessions), await claim_one(db_url))
        found = (await client.get("/v1/users/user_1/candidates")).json()
    assert (found["greeting_agent"], found["talk_candidates"], found["game_candidates"]) == (
        None, ["talk_big_dreams"], []
    )  # fmt: skip


@pytest.mark.parametrize("turns", [0, 3000])
async def test_empty_and_long_logs_are_processed_without_blocking_the_loop(db_url: str, turns: int) -> None:
    entry = {
        "speaker": "user",
        "text": "Con thích phim này lắm, hay quá!",
        "timestamp": "2025-11-25T18:00:00Z",
    }
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0)
            longest = max(longest, loop.time() - before)

    async with opened_sessions(db_url) as sessions, serving(db_url) as client:
        await end(client, conversation_log=[entry] * turns)
        claimed = await claim_one(db_url)
        watching = asyncio.create_task(watch())
        started = asyncio.get_running_loop().time()
        await handle(registered(sessions), claimed)
        took = asyncio.get_running_loop().time() - started
        watching.cancel()
    assert event(db_url).score["total_turns"] == turns
    # A ratio, not a time: scored on the loop itself, the long log would hold it for most of the whole.
    assert longest < took * 0.7 or turns == 0


async def test_the_callers_request_id_is_bound_where_the_job_runs(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    lock = processing_store.lock_friendship

    async def look(session: Any, user_id: str) -> Any:
        seen.append(dict(present()))
        return await lock(session, user_id)

    monkeypatch.setattr(processing_store, "lock_friendship", look)
    async with opened_sessions(db_url) as sessions, serving(db_url) as client:
        answer = (await client.post(END, json=body(), headers={"X-Request-ID": "call-7"})).json()
        await handle(registered(sessions), await claim_one(db_url))
        # Another program wrote this job, and its context is no object.
        await end(client, "conv_2")
        write(db_url, "UPDATE tandem.job SET context = '[1]' WHERE id <> %s", answer["job_id"])
        await handle(registered(sessions), await claim_one(db_url))
    assert seen[0] == {"request_id": "call-7", "conversation_id": "conv_1", "job_id": answer["job_id"]}
    assert set(seen[1]) == {"job_id"}


async def test_times_are_compared_as_instants(db_url: str) -> None:
    """19:00+07:00 is before 13:00Z, although its text is greater."""
    async with opened_sessions(db_url) as sessions, serving(db_url) as client:
        registry = registered(sessions)
        start = {"start_time": "2025-11-25T10:00:00Z"}
        newer = await end(client, "newer", end_time="2025-11-25T13:00:00Z", **start)
        await handle(registry, await claim_one(db_url))
        await end(client, "older", end_time="2025-11-25T19:00:00+07:00", bot_id="talk_older", **start)
        await handle(registry, await claim_one(db_url))
        kept = (await client.get("/v1/users/user_1/candidates")).json()
    assert kept["event_id"] == newer["event_id"]
    assert datetime.fromisoformat(kept["source_end_time"]) == datetime(2025, 11, 25, 13, tzinfo=UTC)
    assert [one["agent"] for one in friendship(db_url).recent_agents] == [
        "talk_movie_preference",
        "talk_older",
    ]
