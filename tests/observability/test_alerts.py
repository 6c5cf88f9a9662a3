"""The alerts of deploy/prometheus: rules that promtool accepts and tests, metrics that exist, a runbook for each."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from app.config import CHECKOUT

PLACE = CHECKOUT / "deploy" / "prometheus"
RULES = sorted(PLACE.glob("*.rules.yml"))
TESTS = sorted(PLACE.glob("*[._]test.yml"))
PROMTOOL = shutil.which("promtool")
SOURCES = "\n".join(path.read_text() for path in (CHECKOUT / "app" / "observability").glob("*.py"))
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="no promtool (Debian: apt-get install prometheus)"
)


@needs_promtool
def test_the_rules_are_valid() -> None:
    assert PROMTOOL is not None
    result = subprocess.run([PROMTOOL, "check", "rules", *RULES], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.name)
def test_each_alert_fires_when_it_should(file: Path) -> None:
    assert PROMTOOL is not None
    result = subprocess.run([PROMTOOL, "test", "rules", file], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.name)
def test_every_alert_is_tried(rules: Path) -> None:
    alerts = re.findall(r"alert: (\w+)", rules.read_text())
    (tried,) = [file.read_text() for file in TESTS if f"rule_files: [{rules.name}]" in file.read_text()]
    assert alerts
    assert [alert for alert in alerts if f"alertname: {alert}" not in tried] == []


@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.name)
def test_every_alert_has_a_runbook_and_metrics_that_exist(rules: Path) -> None:
    text = rules.read_text()
    alerts = re.findall(r"alert: (\w+)", text)
    books = re.findall(r"runbook: (\S+)#(\S+)", text)
    assert [anchor for _, anchor in books] == [alert.lower() for alert in alerts]
    for page, anchor in books:
        heads = re.findall(r"^#+ (\w+)$", (CHECKOUT / page).read_text(), re.MULTILINE)
        assert anchor in [head.lower() for head in heads], anchor
    for metric in set(re.findall(r"\b(?:tandem|conversation)_[a-z_]+", text)):
        if metric != "conversation_events":
            assert metric.removesuffix("_total") in SOURCES, metric
