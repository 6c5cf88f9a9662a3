"""What docs/conversations.md and the alert rules say is tried: the calls, the SQL, the names, the thresholds."""

import json
import re
import shlex
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from app.config import CHECKOUT
from tests.support.conversations import END, event, make_settings, read, serving, working
from tests.support.waiting import eventually_async

PAGE = (CHECKOUT / "docs" / "conversations.md").read_text()
RULES = CHECKOUT / "deploy" / "prometheus" / "conversations.rules.yml"
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [one["text"] for one in FENCE.finditer(PAGE) if one["language"] == language]


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(RULES.read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


async def call(client: httpx.AsyncClient, command: str) -> httpx.Response:
    """Do what a curl command of the page says."""
    words = shlex.split(command)
    address = next(word for word in words if word.startswith("http://127.0.0.1:8080"))
    path = address.removeprefix("http://127.0.0.1:8080")
    if "-d" not in words:
        return await client.get(path)
    headers = dict([words[words.index("-H") + 1].split(": ", 1)])
    return await client.post(path, content=words[words.index("-d") + 1], headers=headers)


async def test_the_calls_and_the_sql_of_the_page_work(db_url: str) -> None:
    post, state, candidates = [text for text in blocks("sh") if text.startswith("curl")]
    async with serving(db_url) as client, working(db_url, sweep=True):
        accepted = await call(client, post)
        assert accepted.status_code == 202
        assert set(accepted.json()) == set(json.loads(blocks("")[1].splitlines()[-1]))
        await eventually_async(lambda: event(db_url, "conv_abc123xyz").status == "PROCESSED")
        assert (await call(client, state)).json()["status"] == "PROCESSED"
        assert (await call(client, candidates)).status_code == 200
        with psycopg.connect(db_url, autocommit=True) as connection:
            for text in blocks("sql"):
                connection.execute(text.encode())
        # The imported conversation has no job; the fallback gives it one.
        await eventually_async(lambda: event(db_url, "conv_old_1").status == "PROCESSED")
    assert read(db_url, "SELECT conversations FROM friendship_status")[0].conversations == 2


def test_the_alerts_are_the_product_pages() -> None:
    told = {rule["alert"]: rule["expr"] for rule in rules()}
    assert set(told) == {"PendingEventsHigh", "ReprocessedEventsHigh", "MissedEvents", "BackgroundJobFailure"}
    assert re.fullmatch(r"max\(conversation_events_pending\) > 100", told["PendingEventsHigh"])
    assert "[6h])) > 10" in told["ReprocessedEventsHigh"]
    assert re.fullmatch(r"max\(conversation_events_missed\) > 0", told["MissedEvents"])
    assert "> 0.05" in told["BackgroundJobFailure"]
    for rule in rules():
        assert set(rule) >= {"alert", "expr", "labels", "annotations"}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
async def test_an_alert_asks_for_metrics_that_exist_and_names_its_runbook(
    db_url: str, rule: dict[str, Any]
) -> None:
    async with serving(db_url, make_settings()) as client:
        scraped = (await client.get("/metrics")).text
    names = set(re.findall(r"conversation_\w+", rule["expr"]))
    assert names
    for name in names:
        assert re.search(rf"^{name}(\{{.*\}})? ", scraped, re.MULTILINE), name
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/conversations.md"
    assert f"### {rule['alert']}\n" in PAGE
    assert anchor == rule["alert"].lower()


def test_the_page_names_every_problem_and_metric() -> None:
    assert END in PAGE
    table = PAGE.partition("## Metrics")[2].partition("## Alerts")[0]
    for name in ("processed", "pending", "missed", "fallback_check", "reprocessed"):
        assert f"`conversation_events_{name}" in table
    for name in ("wake_to_start", "processing"):
        assert f"`conversation_event_{name}_seconds`" in table
