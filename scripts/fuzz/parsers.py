"""scripts/fuzz_parsers: every parser under a coverage-guided fuzzer (atheris), each in a process of its own.

Exit code 0: nothing found; 1: an input that breaks a parser is kept; 2: a fuzzer could not run.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import time
from typing import Any

from app.config import CHECKOUT
from scripts.fuzz.targets import TARGETS

PLACE = CHECKOUT / ".tandem" / "fuzz"
RUNS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
FOUND, FAILED = 1, 2
SLOWEST_SECONDS, MOST_MB, LONGEST = 10, 2048, 8192


def main(arguments: list[str] | None = None) -> int:
    """Fuzz the chosen targets one after the other; answers the exit code."""
    options = _options(arguments)
    reports = {name: fuzz(name, options.seconds, options.seed, options.runs) for name in options.targets}
    broken = [name for name, report in reports.items() if report["inputs"]]
    failed = [name for name, report in reports.items() if not report["inputs"] and report["code"]]
    code = FOUND if broken else FAILED if failed else 0
    facts = {"targets": reports, "broken": broken, "failed": failed, "seed": options.seed, "exit_code": code}
    print(json.dumps(facts) if options.json else _for_people(reports))
    return code


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz_parsers", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default all: {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--runs", type=int, default=-1, help="most inputs of each target; default: no limit")
    parser.add_argument("--seed", type=int, default=None, help="draws the inputs; default: a new one")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"unknown targets: {', '.join(sorted(unknown))}")
    options.targets = options.targets or list(TARGETS)
    if options.seed is None:
        options.seed = time.time_ns() % 1_000_000
    return options


def fuzz(name: str, seconds: int, seed: int, runs: int = -1) -> dict[str, Any]:
    """Run one target; answers how many inputs it tried, and the files of those that broke it."""
    corpus = PLACE / "corpus" / name
    broken = PLACE / "found" / name
    for place in (corpus, broken):
        place.mkdir(parents=True, exist_ok=True)
    for one in TARGETS[name].seeds:
        (corpus / hashlib.sha256(one).hexdigest()[:16]).write_bytes(one)
    before = set(broken.iterdir())
    command = [
        sys.executable, "-m", "scripts.fuzz.one", name, str(corpus), f"-max_total_time={seconds}",
        f"-seed={seed}", f"-runs={runs}", f"-timeout={SLOWEST_SECONDS}", f"-rss_limit_mb={MOST_MB}",
        f"-max_len={LONGEST}", f"-artifact_prefix={broken}/", "-print_final_stats=1",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    inputs = sorted(str(path.relative_to(CHECKOUT)) for path in set(broken.iterdir()) - before)
    found = RUNS.search(said)
    report: dict[str, Any] = {
        "runs": int(found[1]) if found else 0,
        "inputs": inputs,
        "code": done.returncode,
    }
    return report | ({"said": said[-2000:]} if done.returncode else {})


def _for_people(reports: dict[str, dict[str, Any]]) -> str:
    lines: list[str] = []
    for name, report in reports.items():
        lines.append(f"{name:14} {report['runs']:>10} inputs  {'BROKEN' if report['inputs'] else 'ok'}")
        lines += [f"    {path}" for path in report["inputs"]]
        if report["code"]:
            lines.append(report["said"])
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
