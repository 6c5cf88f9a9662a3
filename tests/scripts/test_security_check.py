"""scripts/security: what passes, what fails, and that a check which did not happen is never called a pass."""

import json
from typing import Any

import pytest

from scripts import security_check
from scripts.security_check import (
    ACCEPTED,
    RUNTIME,
    bandit,
    judge_audit,
    judge_bandit,
    judge_sbom,
    pins,
    sbom,
)

PINNED = {"alpha", "beta"}


def report(*results: dict[str, Any], errors: Any = ()) -> dict[str, Any]:
    """What bandit says."""
    accepted = [finding(*place) for place in ACCEPTED]
    return {"results": [*accepted, *results], "errors": list(errors), "metrics": {"_totals": {"loc": 7}}}


def finding(file: str, test: str, severity: str = "MEDIUM") -> dict[str, Any]:
    return {
        "filename": file,
        "test_id": test,
        "line_number": 3,
        "issue_text": "bad",
        "issue_severity": severity,
    }


def test_our_own_code_has_no_finding() -> None:
    assert bandit().verdict == "ok", bandit().text


def test_findings_and_unread_files_fail_and_so_do_reasons_without_a_finding() -> None:
    assert judge_bandit(report()).verdict == "ok"
    assert judge_bandit(report(finding("app/x.py", "B101", "LOW"))).verdict == "ok"
    assert "app/x.py:3: B602" in judge_bandit(report(finding("app/x.py", "B602", "HIGH"))).text
    assert judge_bandit(report(finding("app/x.py", "B301"))).verdict == "failed"
    assert judge_bandit(report(errors=[{"filename": "a.py", "reason": "syntax"}])).verdict == "failed"
    stale = report()
    stale["results"] = stale["results"][1:]
    assert "not found any more" in judge_bandit(stale).text


def entry(name: str, *weak: str, skip: str | None = None) -> dict[str, Any]:
    if skip is not None:
        return {"name": name, "skip_reason": skip}
    return {"name": name, "version": "1", "vulns": [{"id": one} for one in weak]}


@pytest.mark.parametrize(
    ("entries", "verdict", "said"),
    [
        ([entry("alpha"), entry("Beta")], "ok", "2 packages"),
        ([entry("alpha", "CVE-1"), entry("beta")], "failed", "alpha: CVE-1"),
        (
            [entry("alpha"), entry("beta", skip="not found")],
            "failed",
            "not looked up, so not known to be safe: beta",
        ),
        ([entry("alpha")], "failed", "beta"),
        ([entry("alpha", skip="not found"), entry("beta", skip="not found")], "skipped", "not found"),
        ([], "skipped", "nothing was listed"),
    ],
)
def test_only_a_package_that_was_looked_up_is_safe(entries: list[Any], verdict: str, said: str) -> None:
    result = judge_audit(0, json.dumps({"dependencies": entries}), "", pinned=PINNED)
    assert result.verdict == verdict
    assert said in result.text


def test_an_advisory_service_that_is_away_is_told_as_such() -> None:
    result = judge_audit(1, "", "Traceback ...\nConnectionError: no route", pinned=PINNED)
    assert result == ("skipped", "no advisory service could be asked: ConnectionError: no route")


def test_what_is_skipped_fails_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    legs = {"one": lambda: security_check.Result("skipped", "no network")}
    monkeypatch.setattr(security_check, "LEGS", legs)
    for arguments, code in ((["x"], 0), (["x", "--require-audit"], 1)):
        monkeypatch.setattr("sys.argv", arguments)
        assert security_check.main() == code
        assert capsys.readouterr().out == "one: skipped: no network\n"


def test_the_bill_of_materials_lists_what_is_locked() -> None:
    assert sbom().verdict == "ok", sbom().text
    pinned = pins(RUNTIME.read_text())
    assert {"fastapi", "psycopg", "pyjwt"} <= set(pinned)
    good = {"bomFormat": "CycloneDX", "components": [{"name": "a", "version": "1", "hashes": ["x"]}]}
    assert judge_sbom(good, pinned={"a": "1"}).verdict == "ok"
    assert judge_sbom(good, pinned={"a": "2"}).verdict == "failed"
    assert judge_sbom(good, pinned={"a": "1", "b": "1"}).verdict == "failed"
    assert judge_sbom({"components": good["components"]}, pinned={"a": "1"}).verdict == "failed"
