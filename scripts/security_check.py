"""What scripts/security runs: bandit, pip-audit, a bill of materials; each is ok, failed, or skipped with the reason.

A package that nobody looked at is not a pass.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from app.config import CHECKOUT

RUNTIME = CHECKOUT / "requirements" / "runtime.txt"
SBOM = CHECKOUT / ".tandem" / "sbom.cdx.json"
ANALYSED = ("app", "workers", "migrations", "scripts")
SECONDS = 300
ACCEPTED: Mapping[tuple[str, str], str] = {
    ("app/cli/completion.py", "B604"): "`shell` is the name of a shell for typer; no process is started",
    (
        "app/database/cluster.py",
        "B108",
    ): "owner, mode and links of the directory are checked before it is used",
    ("scripts/bench/http_workload.py", "B310"): "the benchmark asks its own loopback address",
}
"""Findings of bandit that are none, by file and test, each with its reason."""

Verdict = Literal["ok", "failed", "skipped"]


class Result(NamedTuple):
    """How a leg went, and why."""

    verdict: Verdict
    text: str


def judge_bandit(report: Mapping[str, Any]) -> Result:
    """No finding of medium or high severity without a reason in ACCEPTED, nothing that could not be read."""
    found = [
        (one["filename"].removeprefix("./"), one["test_id"], one["line_number"], one["issue_text"])
        for one in report["results"]
        if one["issue_severity"] in ("MEDIUM", "HIGH")
    ]
    left = [one for one in found if one[:2] not in ACCEPTED]
    stale = set(ACCEPTED) - {one[:2] for one in found}
    said = [f"{file}:{line}: {test} {text}" for file, test, line, text in left]
    said += [f"{file}: {test} is accepted but not found any more" for file, test in sorted(stale)]
    said += [f"{one['filename']}: {one['reason']}" for one in report["errors"]]
    if said:
        return Result("failed", "\n".join(said))
    return Result(
        "ok", f"{report['metrics']['_totals']['loc']} lines, {len(found)} findings accepted with reasons"
    )


def judge_audit(code: int, output: str, errors: str, *, pinned: set[str]) -> Result:
    """Every pinned package looked up, and none vulnerable. Skipped only where nothing at all could be looked up."""
    try:
        entries = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = errors.strip().splitlines() or [f"pip-audit ended with {code}"]
        return Result("skipped", f"no advisory service could be asked: {lines[-1][:200]}")
    looked_at = {one["name"].lower(): one for one in entries if "skip_reason" not in one}
    bad = [f"{name}: {weak['id']}" for name, one in looked_at.items() for weak in one["vulns"]]
    missed = sorted(pinned - set(looked_at))
    if bad:
        return Result("failed", "known vulnerabilities: " + ", ".join(bad))
    if not looked_at:
        reason = next((one["skip_reason"] for one in entries if "skip_reason" in one), "nothing was listed")
        return Result("skipped", f"none of {len(pinned)} packages could be looked up: {reason}")
    if missed:
        return Result("failed", f"not looked up, so not known to be safe: {', '.join(missed)}")
    return Result("ok", f"{len(looked_at)} packages without known vulnerabilities")


def judge_sbom(document: Mapping[str, Any], *, pinned: Mapping[str, str]) -> Result:
    """Every pinned package stands in the bill of materials with its version and a hash."""
    listed = {one["name"].lower().replace("_", "-"): one for one in document.get("components", [])}
    missing = [
        name
        for name, version in pinned.items()
        if listed.get(name, {}).get("version") != version or "hashes" not in json.dumps(listed.get(name))
    ]
    if document.get("bomFormat") != "CycloneDX" or missing:
        return Result("failed", f"missing in the bill of materials: {', '.join(missing) or 'everything'}")
    return Result("ok", f"{len(listed)} components in {SBOM.relative_to(CHECKOUT)}")


def pins(text: str) -> dict[str, str]:
    """Package to version in a locked requirements file."""
    return {
        name.lower().replace("_", "-"): version
        for name, version in re.findall(r"(?m)^([\w.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", text)
    }


def bandit() -> Result:
    """Static analysis of our own code."""
    done = _run("bandit", "-q", "-r", *ANALYSED, "-f", "json")
    return judge_bandit(json.loads(done.stdout))


def audit() -> Result:
    """Known vulnerabilities of what a service installs."""
    options = ("--disable-pip", "--require-hashes", "-r", str(RUNTIME), "-f", "json", "--timeout", "10")
    done = _run("pip-audit", *options)
    return judge_audit(done.returncode, done.stdout, done.stderr, pinned=set(pins(RUNTIME.read_text())))


def sbom() -> Result:
    """The bill of materials, written below .tandem/."""
    SBOM.parent.mkdir(exist_ok=True)
    done = _run(
        "cyclonedx-py", "requirements", str(RUNTIME), "--pyproject", str(CHECKOUT / "pyproject.toml"),
        "--output-reproducible", "--of", "JSON", "-o", str(SBOM),
    )  # fmt: skip
    if done.returncode:
        return Result("failed", done.stderr.strip()[-500:])
    return judge_sbom(json.loads(SBOM.read_text()), pinned=pins(RUNTIME.read_text()))


LEGS: Mapping[str, Callable[[], Result]] = {"bandit": bandit, "pip-audit": audit, "sbom": sbom}


def main() -> int:
    """Run every leg; 0 when none failed, and none was skipped that must not be."""
    parser = argparse.ArgumentParser(prog="scripts/security", description=__doc__)
    parser.add_argument("--require-audit", action="store_true", help="a leg that is skipped counts as failed")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args()
    results = {name: leg() for name, leg in LEGS.items()}
    if options.json:
        print(json.dumps({name: result._asdict() for name, result in results.items()}))
    else:
        for name, result in results.items():
            print(f"{name}: {result.verdict}: {result.text}")
    bad = {"failed", "skipped"} if options.require_audit else {"failed"}
    return 1 if any(result.verdict in bad for result in results.values()) else 0


def _run(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A program of our environment, in the checkout."""
    path = Path(sys.executable).parent / program
    return subprocess.run(
        [str(path), *arguments], cwd=CHECKOUT, capture_output=True, text=True, timeout=SECONDS, check=False
    )


if __name__ == "__main__":
    sys.exit(main())
