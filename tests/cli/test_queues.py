"""`tandem queues`: what is in them, pausing and resuming."""

import pytest

from tests.support.command_line import facts, run
from tests.support.states import States


def test_queues_are_listed_with_what_is_in_them(states: States) -> None:
    found = {row["queue"]: row for row in facts("queues", "list")["queues"]}
    assert (found["default"]["ready"], found["default"]["running"], found["default"]["dead_24h"]) == (3, 3, 3)
    code, text = run("queues", "list")
    head, default, mail, reports = text.splitlines()
    assert code == 0
    assert head.split()[:2] == ["queue", "ready"]
    assert default.split()[:2] == ["default", "3"]
    assert default.split()[2] == "5m"
    assert mail.endswith("by ann")
    assert reports.startswith("reports")


def test_a_queue_is_paused_and_resumed(states: States) -> None:
    code, text = run("queues", "pause", "default", "--by", "bob")
    assert code == 0
    assert text.startswith("default is paused since ")
    assert text.endswith("by bob\n")
    assert facts("queues", "pause", "default", "--by", "carl")["paused_by"] == "bob", "the first one counts"
    [first, *_] = facts("jobs", "explain", str(states.jobs["ready"][0]))["reasons"]
    assert first["code"] == "queue-paused"
    assert run("queues", "resume", "default") == (0, "default is not paused\n")
    assert facts("queues", "resume", "mail")["paused_at"] is None
    assert facts("queues", "pause", "mail")["paused_by"], "whoever runs the command"


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_queue_that_nobody_knows_is_an_error(states: States, command: str) -> None:
    code, text = run("queues", command, "defualt")
    assert code == 1
    assert "'defualt'" in text


@pytest.mark.parametrize("command", ["list", "pause", "resume"])
def test_every_command_shows_an_example(command: str) -> None:
    code, text = run("queues", command, "--help")
    assert code == 0
    assert f"Example: tandem queues {command}" in text
    assert "--json" in text
