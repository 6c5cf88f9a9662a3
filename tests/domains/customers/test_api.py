"""The customers' HTTP API: tokens decide who asks, answers carry limits, refusals are problems in two languages."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.conversations import read, serving, write
from tests.support.customers import TEXT, set_tier, working
from tests.support.identities import bearer, guarded_settings, token
from tests.support.waiting import eventually_async

JOBS = "/v1/workflows/text-keywords/jobs"


def as_customer(customer: str, tier: str | None = None, **headers: str) -> dict[str, str]:
    """Headers of a customer's own token."""
    told: dict[str, Any] = {"customer": customer} | ({"tier": tier} if tier else {})
    return bearer(token(sub=f"user-of-{customer}", roles=["user"], **told)) | headers


@pytest.fixture
async def client(db_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The API, asking for tokens."""
    async with serving(db_url, guarded_settings()) as made:
        yield made


async def post(client: httpx.AsyncClient, headers: dict[str, str], **body: Any) -> httpx.Response:
    """Submit a job for text-keywords."""
    return await client.post(JOBS, json={"input": TEXT} | body, headers=headers)


async def test_a_submission_answers_job_limits_and_location(client: httpx.AsyncClient) -> None:
    answer = await post(client, as_customer("ann", "pro"))
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert (body["status"], body["tier"], body["priority"], body["overage"]) == ("PENDING", "pro", 1, False)
    assert body["wait_until"] is not None
    assert answer.headers["location"] == f"{JOBS}/{body['job_id']}"
    assert answer.headers["ratelimit-policy"] == '"minute";q=15;w=60, "day";q=500;w=86400'
    assert answer.headers["ratelimit"].startswith('"minute";r=14;t=')
    assert '"day";r=499;t=' in answer.headers["ratelimit"]
    vip = await post(client, as_customer("vera", "vip"))
    assert vip.headers["ratelimit-policy"] == '"minute";q=60;w=60', "an unlimited quota is no policy"
    assert vip.json()["wait_until"] is None


async def test_position_and_eta_come_with_the_answer(client: httpx.AsyncClient, db_url: str) -> None:
    ann = as_customer("ann", "pro")
    first, second = (await post(client, ann)).json(), (await post(client, ann)).json()
    assert (first["position"], second["position"]) == (1, 2)
    assert second["eta"]["basis"] in ("no-worker", "no-samples"), "nobody has served the queue yet"
    state = (await client.get(f"{JOBS}/{second['job_id']}", headers=ann)).json()
    assert (state["position"], state["eta"]) == (2, second["eta"])
    for _ in range(3):
        await post(client, ann)
    async with working(db_url):

        async def started() -> bool:
            return len(read(db_url, "SELECT 1 AS n FROM tandem.done")) == 5

        await eventually_async(started)
    done = (await client.get(f"{JOBS}/{second['job_id']}", headers=ann)).json()
    assert (done["status"], done["position"], done["eta"]) == ("SUCCEEDED", None, None)


async def test_without_a_token_or_its_permission_nothing_is_served(client: httpx.AsyncClient) -> None:
    assert (await client.post(JOBS, json={"input": TEXT})).status_code == 401
    monitor = bearer(token(roles=["monitor"], customer="ann"))
    assert (await post(client, monitor)).status_code == 403


@pytest.mark.parametrize("tier", ["vip", "premium", "pro", "free"])
async def test_the_rate_per_minute_is_the_tiers(client: httpx.AsyncClient, tier: str) -> None:
    limit = {"vip": 60, "premium": 30, "pro": 15, "free": 5}[tier]
    codes = [(await post(client, as_customer("ann", tier))).status_code for _ in range(limit)]
    assert set(codes) == {202}
    refused = await post(client, as_customer("ann", tier, **{"Accept-Language": "vi-VN,vi;q=0.9,en;q=0.5"}))
    # A slow machine may have earned tokens meanwhile; then a later request is the one too many.
    for _ in range(10 * limit):
        if refused.status_code == 429:
            break
        refused = await post(client, as_customer("ann", tier, **{"Accept-Language": "vi"}))
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    problem = refused.json()
    assert problem["type"] == "urn:tandem:problem:rate-limited"
    assert problem["detail"].startswith("Vượt quá")
    assert refused.headers["content-language"] == "vi"
    assert 1 <= int(refused.headers["retry-after"]) <= 60 // limit + 1
    assert refused.headers["ratelimit-policy"] == f'"minute";q={limit};w=60'
    assert refused.headers["ratelimit"].startswith('"minute";r=0;t=')
    assert (await post(client, as_customer("bob", tier))).status_code == 202, "another customer's rate"


async def test_a_full_system_tells_free_in_its_language(client: httpx.AsyncClient, db_url: str) -> None:
    write(db_url, "UPDATE customer_capacity SET capacity = 1")
    assert (await post(client, as_customer("ann", "free"))).status_code == 202
    for language, said in (
        ("vi", "Hệ thống đang bận"),
        ("en", "the system is busy"),
        ("fr", "the system is busy"),
    ):
        refused = await post(client, as_customer("bob", "free", **{"Accept-Language": language}))
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "30")
        assert refused.json()["type"] == "urn:tandem:problem:system-busy"
        assert refused.json()["detail"].startswith(said)
    assert (await post(client, as_customer("eve", "vip"))).status_code == 202


async def test_a_used_up_quota_is_refused_and_told(client: httpx.AsyncClient, db_url: str) -> None:
    set_tier(db_url, "free", daily_quota=1)
    assert (await post(client, as_customer("ann", "free"))).status_code == 202
    refused = await post(client, as_customer("ann", "free"))
    assert refused.json()["type"] == "urn:tandem:problem:quota-exceeded"
    assert '"day";q=1;w=86400' in refused.headers["ratelimit-policy"]


async def test_a_job_is_its_customers_alone(client: httpx.AsyncClient) -> None:
    ann, bob = as_customer("ann", "pro"), as_customer("bob", "pro")
    job = (await post(client, ann)).json()["job_id"]
    for path in (f"{JOBS}/{job}", f"{JOBS}/{job}/result"):
        assert (await client.get(path, headers=bob)).status_code == 404
    assert (await client.post(f"{JOBS}/{job}/cancel", headers=bob)).status_code == 404
    assert (await client.get(f"/v1/workflows/usage-report/jobs/{job}", headers=ann)).status_code == 404
    state = (await client.get(f"{JOBS}/{job}", headers=ann)).json()
    assert state["status"] == "PENDING"
    early = await client.get(f"{JOBS}/{job}/result", headers=ann)
    assert (early.status_code, early.json()["job_status"]) == (409, "PENDING")
    assert (await client.post(f"{JOBS}/{job}/cancel", headers=ann)).json()["cancel"] == "CANCELLED"
    assert (await client.get(f"{JOBS}/{job}", headers=ann)).json()["status"] == "CANCELLED"
    assert (await client.get(JOBS, headers=bob)).json() == {"jobs": [], "next_before": None}
    assert [one["job_id"] for one in (await client.get(JOBS, headers=ann)).json()["jobs"]] == [job]


async def test_workflows_answer_their_results(client: httpx.AsyncClient, db_url: str) -> None:
    ann = as_customer("ann", "vip")
    inputs: dict[str, dict[str, Any]] = {
        "text-keywords": {"text": "Hàng đợi công việc. Một hàng đợi công việc rất nhanh."},
        "conversation-analysis": {
            "conversation_log": [
                {"speaker": "bot", "text": "Do you like films?"},
                {"speaker": "user", "text": "I love films! Which one do you like best?"},
            ]
        },
        "usage-report": {},
    }
    jobs = {}
    for name, given in inputs.items():
        answer = await client.post(f"/v1/workflows/{name}/jobs", json={"input": given}, headers=ann)
        assert answer.status_code == 202, answer.text
        jobs[name] = f"/v1/workflows/{name}/jobs/{answer.json()['job_id']}"

    async def ended() -> bool:
        states = [(await client.get(path, headers=ann)).json()["status"] for path in jobs.values()]
        return set(states) == {"SUCCEEDED"}

    async with working(db_url):
        await eventually_async(ended)
    results = {
        name: (await client.get(f"{path}/result", headers=ann)).json()["result"]
        for name, path in jobs.items()
    }
    assert results["text-keywords"]["language"] == "vi"
    assert results["text-keywords"]["keywords"][0]["phrase"] == "hàng đợi công việc"
    assert results["conversation-analysis"]["user_initiated_questions"] == 1
    assert results["conversation-analysis"]["friendship_score_change"] > 0
    assert results["usage-report"]["report"] == "full"
    assert results["usage-report"]["totals"]["jobs"] == 3
    ledger = read(db_url, "SELECT what, count(*) AS n FROM customer_usage GROUP BY what ORDER BY what")
    assert [tuple(row) for row in ledger] == [("job", 3), ("run_ms", 3)]


@pytest.mark.parametrize(
    ("workflow", "given", "where"),
    [
        ("text-keywords", {"text": ""}, "/input/text"),
        ("text-keywords", {"text": "a", "extra": 1}, "/input/extra"),
        ("usage-report", {"month": "2026-13"}, "/input/month"),
        ("conversation-analysis", {"conversation_log": []}, "/input/conversation_log"),
    ],
)
async def test_an_input_that_does_not_fit_is_pointed_at(
    client: httpx.AsyncClient, workflow: str, given: dict[str, Any], where: str
) -> None:
    path = f"/v1/workflows/{workflow}/jobs"
    answer = await client.post(path, json={"input": given}, headers=as_customer("ann"))
    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == [where]


async def test_an_unknown_workflow_and_a_bad_key_are_told(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/workflows/nothing/jobs", json={"input": {}}, headers=as_customer("ann"))
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:tandem:problem:unknown-workflow")
    answer = await post(client, as_customer("ann", **{"Idempotency-Key": "a b"}))
    assert answer.status_code == 422
    keyed = as_customer("ann", "pro", **{"Idempotency-Key": "k-1"})
    first, second = await post(client, keyed), await post(client, keyed)
    assert first.json()["job_id"] == second.json()["job_id"]
    other = await post(client, keyed, importance="urgent")
    assert other.json()["type"] == "urn:tandem:problem:idempotency-key-reused"


async def test_the_account_is_seen_and_changed(client: httpx.AsyncClient) -> None:
    ann = as_customer("ann", "premium")
    account = (await client.get("/v1/account", headers=ann)).json()
    assert (account["tier"], account["max_running"], account["daily_quota"]) == ("premium", 5, 1000)
    assert (account["when_full"], account["longest_wait_seconds"]) == ("wait", 1800)
    change = {"webhook_url": "https://hooks.example/tandem", "notify_by": "webhook", "language": "vi"}
    changed = (await client.patch("/v1/account", json=change, headers=ann)).json()
    assert changed["webhook_secret"].startswith("whsec_")
    again = (await client.patch("/v1/account", json={"name": "Ann"}, headers=ann)).json()
    assert (again["webhook_secret"], again["language"], again["name"]) == (None, "vi", "Ann")
    for bad in (
        {"webhook_url": "https://127.0.0.1/"},
        {"webhook_url": "http://hooks.example/"},
        {"notify_by": "mail"},
        {"tier": "vip"},
    ):
        assert (await client.patch("/v1/account", json=bad, headers=ann)).status_code == 422, bad


async def test_what_is_shown_of_usage_follows_the_tier(client: httpx.AsyncClient) -> None:
    shown = {"vip": "full", "premium": "monthly", "pro": "basic", "free": "limited"}
    parts = {
        "full": {"workflows", "days", "outcomes"},
        "monthly": {"workflows"},
        "basic": set(),
        "limited": set(),
    }
    for tier, tracking in shown.items():
        headers = as_customer(tier, tier)
        await post(client, headers)
        report = (await client.get("/v1/account/usage", headers=headers)).json()
        assert report["report"] == tracking
        assert report["today"]["accepted"] == 1
        assert {"workflows", "days", "outcomes"} & set(report) == parts[tracking]
        assert ("totals" in report) == (tracking != "limited")
    bad = await client.get("/v1/account/usage?month=2026-1", headers=as_customer("vip", "vip"))
    assert bad.status_code == 422


async def test_an_invoice_is_shown_as_json_and_as_a_page(client: httpx.AsyncClient) -> None:
    ann = as_customer("ann", "pro")
    await client.patch("/v1/account", json={"name": "<Ann & Co>", "language": "vi"}, headers=ann)
    await post(client, ann)
    month = (await client.get("/v1/account/usage", headers=ann)).json()["month"]
    invoice = (await client.get(f"/v1/account/invoices/{month}", headers=ann)).json()
    assert (invoice["number"], invoice["total"], invoice["currency"]) == (None, "29.00", "USD")
    assert [(line["what"], line["quantity"]) for line in invoice["lines"]] == [("fee", 1), ("job", 1)]
    page = await client.get(f"/v1/account/invoices/{month}/page", headers=ann)
    assert page.headers["content-type"].startswith("text/html")
    assert "&lt;Ann &amp; Co&gt;" in page.text
    assert "Hóa đơn" in page.text
    assert (await client.get("/v1/account/invoices/2026-1", headers=ann)).status_code == 422
