"""The topics over HTTP: the three endpoints by their exact names, and a consumer written in any language."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support import topics
from tests.support.conversations import serving
from tests.support.topics import GROUP, TOPIC

AT = f"/v1/topics/{TOPIC}/groups/{GROUP}"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def api(db_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API, with one topic and one group."""
    topics.make_topic(db_url)
    async with serving(db_url) as client:
        yield client


async def call(client: httpx.AsyncClient, path: str, body: Any, status: int = 200, **headers: str) -> Any:
    response = await client.post(path, json=body, headers=headers)
    assert response.status_code == status, response.text
    return response.json()


async def consume(client: httpx.AsyncClient, most: int = 10, **options: Any) -> list[dict[str, Any]]:
    answer = await call(client, f"{AT}/consume", {"most": most, **options})
    found: list[dict[str, Any]] = answer["messages"]
    return found


async def test_publish_status_and_retry_have_the_names_of_the_product_page(
    api: httpx.AsyncClient, db_url: str
) -> None:
    told = await call(
        api, "/api/v1/queue/publish", {"topic": TOPIC, "message": {"n": 1}, "key": "cam-1"}, traceparent=TRACE
    )
    assert set(told) == {"status", "messageId"}
    assert told["status"] == "ok"
    response = await api.get("/api/v1/queue/status", params={"topic": TOPIC})
    assert response.json() == [{"topic": TOPIC, "lag": 1, "consumerCount": 0, "dlqSize": 0}]
    [message] = await consume(api)
    assert message["message_id"] == told["messageId"]
    assert (message["message"], message["key"], message["attempt"]) == ({"n": 1}, "cam-1", 1)
    assert message["headers"]["traceparent"] == TRACE
    assert message["headers"]["correlation_id"]
    for _ in range(5):
        await call(api, f"{AT}/nack", {"receipts": [message["receipt"]], "delay_seconds": 0})
        found = await consume(api)
        message = found[0] if found else message
    assert (await api.get("/api/v1/queue/status")).json()[0] == {
        "topic": TOPIC,
        "lag": 0,
        "consumerCount": 1,
        "dlqSize": 1,
    }
    dead = (await api.get("/v1/topics/dlq/messages")).json()["messages"]
    assert [(one["message"], one["attempts"], one["group"]) for one in dead] == [({"n": 1}, 5, GROUP)]
    retry = {"topic": TOPIC, "maxMessages": 10}
    assert await call(api, "/api/v1/queue/dlq/retry", retry) == {"retried": 1, "errors": 0}
    assert await call(api, "/api/v1/queue/dlq/retry", retry) == {"retried": 0, "errors": 0}
    assert [one["attempt"] for one in await consume(api)] == [1]


async def test_an_error_of_publish_has_both_forms(api: httpx.AsyncClient) -> None:
    told = await call(api, "/api/v1/queue/publish", {"topic": "nowhere", "message": 1}, 404)
    assert (told["status"], told["type"]) == ("error", "urn:tandem:problem:unknown-topic")
    assert told["error"] == told["detail"]
    assert (await call(api, "/api/v1/queue/publish", {"topic": TOPIC}, 422))["status"] == "error"
    told = await call(api, "/api/v1/queue/publish", {"topic": TOPIC, "message": "x" * 300_000}, 422)
    assert "message-too-large" in told["type"]


async def test_an_idempotency_key_publishes_once(api: httpx.AsyncClient, db_url: str) -> None:
    body = {"topic": TOPIC, "message": {"n": 1}}
    api.headers["Idempotency-Key"] = "order-7"
    first = await call(api, "/api/v1/queue/publish", body)
    assert await call(api, "/api/v1/queue/publish", body) == first
    other = await call(api, "/api/v1/queue/publish", body | {"message": {"n": 2}}, 409)
    assert other["type"] == "urn:tandem:problem:message-conflict"
    assert topics.deliveries(db_url).total() == 1


async def test_a_batch_is_published_whole_or_not_at_all(api: httpx.AsyncClient, db_url: str) -> None:
    messages = [{"message": {"n": n}, "key": f"cam-{n % 3}"} for n in range(50)]
    answer = await call(api, f"/v1/topics/{TOPIC}/messages", {"messages": messages})
    positions = [one["position"] for one in answer["messages"]]
    assert positions == sorted(positions)
    assert topics.deliveries(db_url) == dict.fromkeys(positions, 1)
    twice = [{"message": 1, "dedup_key": "k"}, {"message": 2, "dedup_key": "k"}]
    await call(api, f"/v1/topics/{TOPIC}/messages", {"messages": twice}, 409)
    assert topics.deliveries(db_url).total() == 50


async def test_what_is_acknowledged_does_not_come_again_and_a_stale_receipt_does_nothing(
    api: httpx.AsyncClient, db_url: str
) -> None:
    topics.publish(db_url, 3)
    first = await consume(api, most=2)
    receipts = [one["receipt"] for one in first]
    assert await call(api, f"{AT}/ack", {"receipts": receipts}) == {"acknowledged": receipts, "lost": []}
    assert await call(api, f"{AT}/ack", {"receipts": receipts}) == {"acknowledged": receipts, "lost": []}
    [third] = await consume(api, lease_seconds=60)
    await call(api, f"{AT}/nack", {"receipts": [third["receipt"]], "delay_seconds": 0})
    stale = await call(api, f"{AT}/ack", {"receipts": [third["receipt"]]})
    assert stale == {"acknowledged": [], "lost": [third["receipt"]]}
    assert len(await consume(api)) == 1
    assert await consume(api) == []


async def test_a_receipt_of_another_group_is_worth_nothing(api: httpx.AsyncClient, db_url: str) -> None:
    await call(api, f"/v1/topics/{TOPIC}/groups", {"group": "other"})
    topics.publish(db_url, 1)
    [mine] = await consume(api)
    other = f"/v1/topics/{TOPIC}/groups/other"
    assert (await call(api, f"{other}/ack", {"receipts": [mine["receipt"]]}))["lost"] == [mine["receipt"]]
    assert (await call(api, f"{other}/extend", {"receipts": [mine["receipt"]]}))["lost"] == [mine["receipt"]]
    assert (await call(api, f"{other}/nack", {"receipts": [mine["receipt"]]}))["lost"] == [mine["receipt"]]
    assert (await call(api, f"{AT}/ack", {"receipts": [mine["receipt"]]}))["lost"] == []


@pytest.mark.parametrize("receipt", ["abc", "1-", "-1", "1-zz", "0-1", "01-1", "1-1-1", f"{2**63:x}-1"])
async def test_what_is_no_receipt_is_refused(api: httpx.AsyncClient, receipt: str) -> None:
    told = await call(api, f"{AT}/ack", {"receipts": [receipt]}, 422)
    assert told["type"].endswith(("bad-receipt", "validation-failed"))


async def test_a_lease_is_extended_and_a_paused_group_gets_nothing(
    api: httpx.AsyncClient, db_url: str
) -> None:
    topics.publish(db_url, 1)
    [one] = await consume(api, lease_seconds=1)
    extended = await call(api, f"{AT}/extend", {"receipts": [one["receipt"]], "lease_seconds": 600})
    assert extended["extended"] == [one["receipt"]]
    query = "SELECT expires_at > now() + interval '5 minutes' AS far FROM tandem.lease"
    assert topics.rows(db_url, query)[0].far
    assert (await call(api, f"{AT}/pause", None))["paused_at"]
    topics.publish(db_url, 1)
    assert await consume(api) == []
    assert (await call(api, f"{AT}/resume", None))["paused_at"] is None
    assert len(await consume(api)) == 1


async def test_a_replay_reaches_one_group_and_a_seek_drops_what_waits(
    api: httpx.AsyncClient, db_url: str
) -> None:
    await call(api, f"/v1/topics/{TOPIC}/groups", {"group": "other"})
    topics.fill_all(db_url)
    positions = topics.publish(db_url, 10)
    done = await consume(api, most=4)
    await call(api, f"{AT}/ack", {"receipts": [one["receipt"] for one in done]})
    await call(api, f"{AT}/replay", {"start": {"position": positions[2]}}, 202)
    topics.fill_all(db_url)
    again = {position: 2 if position >= positions[2] else 1 for position in positions}
    assert topics.deliveries(db_url) == again
    assert topics.deliveries(db_url, "other") == dict.fromkeys(positions, 1)
    seek = {"start": {"at": "beginning"}, "keep_waiting": False}
    told = await call(api, f"{AT}/replay", seek, 202)
    assert told["skipped"] == 14
    topics.fill_all(db_url)
    assert [one["position"] for one in await consume(api, most=100)] == positions


async def test_a_large_message_is_read_from_the_log(api: httpx.AsyncClient) -> None:
    body = {"topic": TOPIC, "message": {"frame": "x" * 10_000}}
    await call(api, "/api/v1/queue/publish", body)
    [found] = await consume(api)
    assert found["message"] == body["message"]


async def test_topics_and_groups_are_made_and_listed(api: httpx.AsyncClient) -> None:
    rules = {"topic": "audit.logs", "retention_seconds": 3600}
    assert (await call(api, "/v1/topics", rules))["retention_seconds"] == 3600
    assert (await call(api, "/v1/topics", rules | {"retention_seconds": 60}))["retention_seconds"] == 3600
    assert (await call(api, "/v1/topics", {"topic": "dlq"}, 422))["type"].endswith("reserved-topic")
    await call(
        api, "/v1/topics/audit.logs/groups", {"group": "g", "start": {"at": "now", "position": 1}}, 422
    )
    made = await call(api, "/v1/topics/audit.logs/groups", {"group": "g", "backoff": "linear"})
    assert (made["backoff"], made["lag"]) == ("linear", 0)
    listed = (await api.get("/v1/topics")).json()
    assert [(one["topic"], [g["group"] for g in one["groups"]]) for one in listed] == [
        ("audit.logs", ["g"]),
        (TOPIC, [GROUP]),
    ]
    assert (await api.get("/v1/topics/nowhere")).status_code == 404
    assert (await api.get("/v1/topics/audit.logs/groups/nobody")).status_code == 404
    await call(api, "/v1/topics/nowhere/groups", {"group": "g"}, 404)


async def test_a_long_poll_ends_when_a_message_comes(api: httpx.AsyncClient, db_url: str) -> None:
    waiting = asyncio.create_task(consume(api, wait_seconds=30))
    await asyncio.sleep(0)
    await asyncio.to_thread(topics.publish, db_url, 1)
    async with asyncio.timeout(20):
        assert len(await waiting) == 1
