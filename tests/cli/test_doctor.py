"""`tandem doctor` and `tandem completion`: what people and programs read, and the exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import CHECKOUT
from tests.support.command_line import facts, run
from tests.support.states import States


def test_findings_are_told_with_the_way_out(states: States) -> None:
    code, text = run("doctor")
    lines = text.splitlines()
    assert code == 1
    assert [line for line in lines if line.startswith("ok    membership")]
    [at] = [number for number, line in enumerate(lines) if line.startswith("warn  queues")]
    assert lines[at + 1].strip() == "way out: tandem worker --queues reports"
    assert [line for line in lines if line.split()[:3] == ["fail", "sweeper", "nobody"]]
    assert lines[-1].endswith(" fail")


def test_programs_get_every_finding(states: States) -> None:
    told = facts("doctor", "--quick", code=1)
    assert (told["ok"], told["verdict"]) == (False, "fail")
    by_name = {one["name"]: one for one in told["findings"]}
    assert "membership" not in by_name
    assert by_name["queues"]["facts"]["unserved"] == ["reports"]
    assert set(by_name["horizon"]) == {"name", "verdict", "text", "remedy", "facts"}


def test_no_database_is_a_finding_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:1/nowhere?connect_timeout=2")
    told = facts("doctor", code=1)
    assert [one["name"] for one in told["findings"]] == ["connection"]
    assert "secret" not in str(told)


@pytest.mark.parametrize("command", ["doctor", "completion"])
def test_every_command_shows_an_example(command: str) -> None:
    code, text = run(command, "--help")
    assert code == 0
    assert "Example:" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(shell: str) -> None:
    code, text = run("completion", shell)
    assert code == 0
    assert "_TANDEM_COMPLETE" in text
    assert run("completion", "tcsh")[0] == 2


@pytest.mark.parametrize(
    ("words", "expected"), [("tandem dlq re", "redrive"), ("tandem jobs list --sta", "--status")]
)
def test_bash_completes_commands_and_options(words: str, expected: str, tmp_path: Path) -> None:
    _, script = run("completion", "bash")
    program = tmp_path / "tandem"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m app.cli "$@"\n')
    program.chmod(0o755)
    ask = f"COMP_WORDS=({words}); COMP_CWORD={len(words.split()) - 1}; _tandem_completion tandem"
    told = subprocess.run(
        ["bash", "-c", f'{script}\n{ask}; printf "%s\\n" "${{COMPREPLY[@]}}"'],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert told.stdout.split() == [expected], told.stderr
