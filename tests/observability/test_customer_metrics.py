"""The customers' metrics and alerts: facts become numbers, rules ask for metrics that exist and name what to do."""

import asyncio
import re
from typing import Any

import yaml

from app import events
from app.config import CHECKOUT, Settings
from app.domains.customers.facts import Refused, TryEnded, WorkflowStarted
from app.observability.metrics import open_metrics
from tests.support.conversations import write
from tests.support.customers import submit

RULES = CHECKOUT / "deploy" / "prometheus" / "customers.rules.yml"
NAME = re.compile(r"\b(?:customer|tandem)_[a-z_]+")


def rules() -> list[dict[str, Any]]:
    """The alerts."""
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_facts_and_rows_become_metrics_and_every_rule_asks_for_one(db_url: str) -> None:
    asyncio.run(submit(db_url, "ann", "pro"))
    asyncio.run(submit(db_url, "vera", "vip"))
    write(
        db_url,
        "INSERT INTO workflow_health VALUES ('text-keywords', clock_timestamp(), 1, clock_timestamp())",
    )
    with open_metrics(Settings(), db_url) as registry:
        events.publish(WorkflowStarted("premium", "text-keywords", 301.0))
        events.publish(TryEnded("text-keywords", "failure", final=False))
        events.publish(TryEnded("text-keywords", "success", final=True))
        events.publish(Refused("free", "system-busy"))
        found = {
            (one.name, tuple(sorted(one.labels.items()))): one.value
            for metric in registry.collect()
            for one in metric.samples
        }
    names = {name for name, _ in found}
    for rule in rules():
        assert set(NAME.findall(rule["expr"])) <= names, rule["alert"]
    assert found["customer_queue_jobs", ()] == 1, "VIP is not counted"
    assert found["customer_queue_capacity", ()] == 1000
    assert found["customer_workflow_healthy", (("workflow", "text-keywords"),)] == 1
    assert found["customer_job_wait_seconds_bucket", (("le", "300.0"), ("tier", "premium"))] == 0
    assert found["customer_job_wait_seconds_bucket", (("le", "900.0"), ("tier", "premium"))] == 1
    labels = (("result", "failure"), ("workflow", "text-keywords"))
    assert found["customer_job_tries_total", labels] == 1
    assert ("customer_jobs_ended_total", labels) not in found
    assert found["customer_requests_refused_total", (("code", "system-busy"), ("tier", "free"))] == 1
    assert 0 <= found["tandem_host_memory_ratio", ()] <= 1


def test_every_alert_names_its_action_and_its_runbook() -> None:
    page = (CHECKOUT / "docs" / "customers.md").read_text()
    heads = {
        re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-")
        for head in re.findall(r"^#+ (.+)$", page, re.M)
    }
    for rule in rules():
        assert rule["labels"]["action"] in ("scale-out", "redistribute", "page", "investigate")
        file, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (file, anchor in heads) == ("docs/customers.md", True), rule["alert"]
        assert "for" in rule or "increase(" in rule["expr"], "a window"
