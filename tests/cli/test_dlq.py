"""`tandem dlq`: one, many, by filter, at a rate; a dry run changes nothing, and nothing happens without a yes."""

import datetime
from time import monotonic

import psycopg
import pytest
import typer

from app.cli.values import parse_age, parse_rate
from tests.support.command_line import facts, run
from tests.support.jobs import outcomes
from tests.support.membership import check_membership
from tests.support.states import States

CHANGING = ["redrive", "purge"]


def dead(states: States) -> list[int]:
    """The dead letters that are left, by id."""
    return sorted(row["job_id"] for row in facts("dlq", "list")["dead_letters"])


def test_dead_letters_are_listed_and_grouped(states: States) -> None:
    assert dead(states) == states.jobs["dead"]
    code, text = run("dlq", "list", "--fingerprint", "aaaa", "--limit", "1")
    assert code == 0
    assert len(text.splitlines()) == 2
    assert text.splitlines()[1].endswith("ValueError: number 2")
    groups = facts("dlq", "groups")["groups"]
    assert [(one["fingerprint"], one["jobs"], one["example"]) for one in groups] == [
        ("aaaa", 2, states.jobs["dead"][2]),
        ("bbbb", 1, states.jobs["dead"][0]),
    ]
    assert run("dlq", "groups", "--queue", "mail") == (0, "no dead letters\n")


def test_one_is_shown_with_its_traceback(states: States) -> None:
    code, text = run("dlq", "show", str(states.jobs["dead"][0]))
    assert code == 0
    assert text.endswith("Traceback ...\nValueError: number 0\n")
    code, text = run("dlq", "show", str(states.jobs["ready"][0]))
    assert code == 1
    assert "is PENDING, not a dead letter" in text


@pytest.mark.parametrize("command", CHANGING)
def test_a_dry_run_counts_and_a_no_changes_nothing(states: States, command: str) -> None:
    assert facts("dlq", command, "--fingerprint", "aaaa", "--dry-run") == {"count": 2}
    assert facts("dlq", command, "--all", "--limit", "1", "--dry-run") == {"count": 1}
    assert facts("dlq", command, "--older-than", "1h", "--dry-run") == {"count": 0}
    assert facts("dlq", command, "--queue", "mail", "--yes") == {"count": 0}, "nothing to ask about"
    for said in ("n\n", "\n", ""):
        assert run("dlq", command, "--all", say=said)[0] == 1
    assert dead(states) == states.jobs["dead"]


@pytest.mark.parametrize("command", CHANGING)
def test_nothing_narrowed_down_is_not_everything(states: States, command: str) -> None:
    one = str(states.jobs["dead"][0])
    for wrong in (
        (),
        ("--limit", "5"),
        (one, "--all"),
        (one, "--queue", "default"),
        (one, "--limit", "1"),
        ("--all", "--rate", "0/s"),
        ("--all", "--rate", "fast"),
        ("--older-than", "7 days"),
        ("--all", "--limit", "0"),
    ):
        assert run("dlq", command, *wrong, "--yes")[0] == 2, wrong
    assert dead(states) == states.jobs["dead"]


def test_many_are_redriven_by_filter(states: States) -> None:
    first, *alike = states.jobs["dead"]
    code, text = run("dlq", "redrive", "--fingerprint", "aaaa", say="y\n")
    assert code == 0
    assert text.endswith("2 dead letters redriven\n")
    assert outcomes(states.url, [first, *alike]) == ["DEAD", "PENDING", "PENDING"]
    assert facts("dlq", "redrive", "--all", "--yes") == {"redriven": [first], "failed": {}, "left": 0}
    check_membership(states.url)


def test_single_ones_are_redriven_and_the_others_named(states: States) -> None:
    first, second, third = states.jobs["dead"]
    waiting = states.jobs["ready"][0]
    answer = facts("dlq", "redrive", str(first), str(waiting), str(first), str(third), "-y", code=1)
    assert (answer["redriven"], list(answer["failed"])) == ([first, third], [str(waiting)])
    assert "is PENDING" in answer["failed"][str(waiting)]
    assert outcomes(states.url, [first, second, third]) == ["PENDING", "DEAD", "PENDING"]


def test_those_whose_hook_is_not_known_are_left(states: States) -> None:
    with psycopg.connect(states.url) as connection:
        connection.execute("UPDATE tandem.kind SET hooked = true WHERE name = 'plain'")
    assert facts("dlq", "redrive", "--all", "--yes") == {"redriven": [], "failed": {}, "left": 3}
    assert dead(states) == states.jobs["dead"]
    assert facts("dlq", "purge", "--all", "--yes")["purged"] == 3, "a purge calls no hook"


def test_they_are_redriven_and_purged_at_a_rate(states: States) -> None:
    first, second, third = map(str, states.jobs["dead"])
    started = monotonic()
    assert facts("dlq", "redrive", first, second, "--rate", "10/s", "-y")["redriven"] == [
        int(first),
        int(second),
    ]
    assert facts("dlq", "purge", "--all", "--rate", "600/m", "-y")["purged"] == 1
    assert monotonic() - started > 0.9 * 0.3
    assert outcomes(states.url, [int(first)]) == ["PENDING"]
    assert run("jobs", "show", third)[0] == 1


def test_they_are_purged_by_filter_and_one_by_one(states: States) -> None:
    first, second, third = states.jobs["dead"]
    waiting = states.jobs["ready"][0]
    code, text = run("dlq", "purge", str(second), str(waiting), "-y")
    assert (code, text) == (1, "1 dead letter purged; 1 of the ids are none\n")
    assert outcomes(states.url, [waiting]) == ["PENDING"]
    assert dead(states) == [first, third]
    code, text = run("dlq", "purge", "--kind", "plain", say="y\n")
    assert code == 0
    assert text.endswith("2 dead letters purged\n")
    assert dead(states) == []
    check_membership(states.url)


def test_what_people_write_for_spans_and_rates() -> None:
    assert [parse_age(text).total_seconds() for text in ("90s", "15m", "12h", "7d")] == [
        90,
        900,
        43200,
        604800,
    ]
    assert [parse_rate(text) for text in ("10/s", "300/m", "0.5", "7200/h")] == [10, 5, 0.5, 2]
    for wrong in ("7", "7w", "-1d", "1.5h", "", "٣d"):
        with pytest.raises(typer.BadParameter):
            parse_age(wrong)
    for wrong in ("0", "-1/s", "ten", "10/d", "", "1e3", "1/"):
        with pytest.raises(typer.BadParameter):
            parse_rate(wrong)
    assert parse_age("0s") == datetime.timedelta()


@pytest.mark.parametrize("command", ["list", "groups", "show", *CHANGING])
def test_every_command_shows_an_example(command: str) -> None:
    code, text = run("dlq", command, "--help")
    assert code == 0
    assert f"Example: tandem dlq {command}" in text
    assert "--json" in text
