"""POST /v1/conversations/end: event and job together, both addresses, repeats, rivals, and the status afterwards."""

import asyncio
import json
from uuid import UUID

import pytest

from app.domains.conversations.jobs import KIND, QUEUE
from tests.support.conversations import END, body, counts, end, event, read, serving, write
from tests.support.membership import check_membership


@pytest.mark.parametrize("address", [END, "/conversations/end"])
async def test_event_and_job_are_written_together(db_url: str, address: str) -> None:
    async with serving(db_url) as client:
        response = await client.post(address, json=body(), headers={"X-Request-ID": "call-7"})
    answer = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == "/v1/conversations/conv_1"
    assert answer["status"] == "PENDING"
    assert UUID(answer["event_id"]).version == 7

    row = event(db_url)
    assert (str(row.event_id), row.job_id) == (answer["event_id"], answer["job_id"])
    assert (row.stored, row.attempt_count, row.job_status) == ("PENDING", 0, "PENDING")
    assert (row.next_attempt_at - row.created_at).total_seconds() == 600
    [job] = read(db_url, "SELECT kind, queue, event_id, payload, context FROM tandem.job")
    assert (job.kind, job.queue, job.event_id) == (KIND, QUEUE, row.event_id)
    assert job.payload == {"event_id": answer["event_id"]}
    assert job.context == {"request_id": "call-7", "conversation_id": "conv_1"}
    check_membership(db_url)


async def test_what_was_said_is_stored_as_it_came(db_url: str) -> None:
    log = [
        {"speaker": "user", "text": 'Đẹp "quá"! 😀 \\n', "timestamp": "2025-11-25T18:00:01.5+07:00"},
        {"speaker": "bot", "text": "", "timestamp": "2025-11-25T18:00:02Z", "topic": "phim ảnh"},
    ]
    async with serving(db_url) as client:
        await end(client, conversation_log=log, bot_type="GREETING", start_time="2025-11-25T20:00:00+07:00")
    [row] = read(
        db_url,
        "SELECT user_id, bot_type, bot_id, bot_name, start_time, conversation_log FROM conversation_events",
    )
    assert row.conversation_log == log
    assert (row.user_id, row.bot_type, row.bot_id) == ("user_1", "GREETING", "talk_movie_preference")
    assert row.bot_name == "Movie Preference Talk"
    assert row.start_time.isoformat() == "2025-11-25T13:00:00+00:00"


async def test_a_repeat_gives_the_same_ids_however_the_json_is_written(db_url: str) -> None:
    async with serving(db_url) as client:
        first = await end(client)
        again = await end(client)
        turned = dict(reversed(body().items()))
        turned["conversation_log"] = [dict(reversed(turn.items())) for turn in turned["conversation_log"]]
        other_text = json.dumps(turned, ensure_ascii=True, indent=3)
        written_otherwise = await client.post(
            END, content=other_text, headers={"content-type": "application/json; charset=utf-8"}
        )
    assert first == again == written_otherwise.json()
    assert counts(db_url) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"bot_name": "Somebody Else"},
        {"profile_id": "user_2"},
        {"end_time": "2025-11-25T18:20:00.000Z"},
        {"conversation_log": []},
    ],
)
async def test_the_same_conversation_with_another_body_is_a_conflict(
    db_url: str, change: dict[str, object]
) -> None:
    async with serving(db_url) as client:
        first = await end(client)
        refused = await client.post(END, json=body() | change)
        again = await end(client)
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:tandem:problem:conversation-conflict"
    assert again == first
    assert counts(db_url) == (1, 1)


async def test_fifty_calls_at_once_make_one_event_and_one_job(db_url: str) -> None:
    async with serving(db_url) as client:
        answers = await asyncio.gather(*(client.post(END, json=body()) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1
    assert counts(db_url) == (1, 1)
    check_membership(db_url)


async def test_rivals_with_different_bodies_leave_one_winner(db_url: str) -> None:
    async with serving(db_url) as client:
        answers = await asyncio.gather(
            *(client.post(END, json=body(bot_name=f"Bot {number % 2}")) for number in range(30))
        )
    found = sorted(answer.status_code for answer in answers)
    assert set(found) == {202, 409}
    assert len({answer.text for answer in answers if answer.status_code == 202}) == 1
    assert counts(db_url) == (1, 1)
    check_membership(db_url)


async def test_a_job_that_cannot_be_written_leaves_no_event(db_url: str) -> None:
    write(
        db_url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$",
    )
    write(
        db_url, "CREATE TRIGGER refuse BEFORE INSERT ON tandem.ready FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    async with serving(db_url) as client:
        refused = await client.post(END, json=body())
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:tandem:problem:database-full"
        assert int(refused.headers["retry-after"]) > 0
        assert counts(db_url) == (0, 0)
        write(db_url, "DROP TRIGGER refuse ON tandem.ready")
        await end(client)
    assert counts(db_url) == (1, 1)


async def test_the_state_of_a_conversation_that_waits(db_url: str) -> None:
    async with serving(db_url) as client:
        answer = await end(client)
        response = await client.get("/v1/conversations/conv_1")
    state = response.json()
    assert response.status_code == 200
    assert (state["event_id"], state["job_id"]) == (answer["event_id"], answer["job_id"])
    assert (state["status"], state["event"]["status"], state["outcome"]) == ("PENDING", "PENDING", None)
    assert state["event"]["end_time"] == "2025-11-25T18:20:00Z"
    assert (state["job"]["status"], state["job"]["attempt"]) == ("PENDING", 0)
    assert "conversation_log" not in response.text


@pytest.mark.parametrize("name", ["conv_2", "%00", "..%2f..", "'; DROP TABLE x", "x" * 300, "%ff", "ü"])
async def test_unknown_and_impossible_ids_are_not_found_alike(shared_db_url: str, name: str) -> None:
    async with serving(shared_db_url) as client:
        conversation = await client.get(f"/v1/conversations/{name}")
        candidates = await client.get(f"/v1/users/{name}/candidates")
    assert (conversation.status_code, candidates.status_code) == (404, 404)
    assert conversation.headers["content-type"] == "application/problem+json"
