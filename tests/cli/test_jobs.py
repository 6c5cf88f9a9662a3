"""`tandem jobs`: what is shown to people and to programs, and what it does to jobs."""

import json
import os
import signal
import subprocess
import sys

import psycopg
import pytest

from app.cli.output import show
from app.config import CHECKOUT
from tests.support.command_line import facts, run
from tests.support.jobs import outcome, status
from tests.support.membership import check_membership
from tests.support.states import States


def test_jobs_are_listed_page_by_page(states: States) -> None:
    everything = [row["job_id"] for row in facts("jobs", "list")["jobs"]]
    assert everything == sorted((job for jobs in states.jobs.values() for job in jobs), reverse=True)
    page = facts("jobs", "list", "--limit", "5")
    assert (page["before"], len(page["jobs"])) == (page["jobs"][-1]["job_id"], 5)
    rest = facts("jobs", "list", "--before", str(page["before"]))
    assert [row["job_id"] for row in page["jobs"] + rest["jobs"]] == everything
    assert rest["before"] is None
    _, text = run("jobs", "list", "--limit", "5")
    assert text.splitlines()[-1] == f"more: --before {page['before']}"


def test_jobs_are_listed_by_status_kind_and_queue(states: States) -> None:
    code, text = run("jobs", "list", "--status", "dead", "--kind", "plain", "--queue", "default")
    head, *lines = text.splitlines()
    assert code == 0
    assert head.split() == [
        "job",
        "status",
        "waits",
        "for",
        "kind",
        "queue",
        "try",
        "since",
        "/",
        "until",
        "why",
    ]
    assert [line.split()[:2] for line in lines] == [[str(job), "DEAD"] for job in states.jobs["dead"][::-1]]
    assert lines[0].endswith("temporary: ValueError: number 2")
    assert run("jobs", "list", "--queue", "nowhere") == (0, "no such jobs\n")
    for wrong in (("--status", "LOST"), ("--limit", "0"), ("--limit", "1001")):
        assert run("jobs", "list", *wrong)[0] == 2


def test_a_job_is_shown_with_tries_and_tracebacks(states: States) -> None:
    job = states.jobs["dead"][0]
    code, text = run("jobs", "show", str(job))
    assert code == 0
    assert "status       DEAD\n" in text
    assert 'payload      {"n": 1}\n' in text
    assert "try 1: DEAD, temporary, " in text
    assert text.endswith("Traceback ...\nValueError: number 0\n")
    found = facts("jobs", "show", str(job))
    assert (found["job_id"], found["attempts"][0]["traceback"]) == (
        job,
        "Traceback ...\nValueError: number 0",
    )
    assert run("jobs", "show", "4711") == (1, "there is no job 4711")


def test_what_a_terminal_would_obey_is_shown_instead(states: States) -> None:
    job = states.jobs["dead"][0]
    with psycopg.connect(states.url) as connection:
        nasty = "\x1b[2J\x1b]0;title\x07 [red]x[/red] \u202eabc\r\n"
        connection.execute("UPDATE tandem.done SET reason = %s WHERE job_id = %s", (nasty, job))
        connection.execute("UPDATE tandem.attempt SET traceback = %s WHERE job_id = %s", (nasty, job))
    for command in (("jobs", "list"), ("jobs", "show", str(job)), ("dlq", "list"), ("dlq", "groups")):
        code, text = run(*command)
        assert code == 0
        assert not {"\x1b", "\x07", "\r", "\u202e"} & set(text), command
    assert "\\x1b[2J" in run("jobs", "show", str(job))[1]
    assert "[red]x[/red]" in run("dlq", "list")[1]
    assert facts("jobs", "show", str(job))["reason"] == nasty, "programs get it as it is"


def test_it_says_why_a_job_does_not_run(states: States) -> None:
    code, text = run("jobs", "explain", str(states.one("paused")))
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == [
        "reason",
        "queue-paused",
        "no-worker",
        "waiting",
    ]
    assert "queue mail is paused by ann" in text
    found = facts("jobs", "explain", str(states.one("blocked")))
    assert [one["code"] for one in found["reasons"]] == ["blocked-key"]
    code, text = run("jobs", "explain", "4711")
    assert code == 1
    assert text.startswith("job 4711: there is no such job")


def test_dead_letters_are_retried_one_by_one(states: States) -> None:
    first, second, _ = states.jobs["dead"]
    done = states.jobs["succeeded"][0]
    found = facts("jobs", "retry", str(first), str(done), "4711", str(second), code=1)
    assert [(one["job_id"], one["ok"]) for one in found["jobs"]] == [
        (first, True),
        (done, False),
        (4711, False),
        (second, True),
    ]
    assert [outcome(states.url, job) for job in (first, second, done)] == ["PENDING", "PENDING", "SUCCEEDED"]
    assert run("jobs", "retry", str(states.jobs["dead"][2])) == (
        0,
        f"{states.jobs['dead'][2]}: ready again\n",
    )


def test_jobs_are_cancelled_where_they_stand(states: States) -> None:
    waiting, running, ended = (states.jobs[name][0] for name in ("ready", "running", "succeeded"))
    code, text = run("jobs", "cancel", str(waiting), str(running), "--reason", "a duplicate")
    assert (code, text) == (
        0,
        f"{waiting}: cancelled\n{running}: runs; its worker was asked to end it\n",
    )
    assert (status(states.url, waiting).status, status(states.url, waiting).reason) == (
        "CANCELLED",
        "a duplicate",
    )
    shown = facts("jobs", "show", str(running))
    assert shown["cancel_reason"] == "a duplicate"
    assert shown["cancel_requested_by"]
    code, text = run("jobs", "cancel", str(ended))
    assert (code, text) == (1, f"{ended}: job {ended} has ended already: it is SUCCEEDED\n")
    check_membership(states.url)


def test_a_tail_of_jobs_ends_with_them(states: States) -> None:
    good = [str(job) for job in states.jobs["succeeded"]]
    code, text = run("jobs", "tail", *good)
    assert code == 0
    assert [line.split()[2:4] for line in text.splitlines()] == [[job, "SUCCEEDED"] for job in good]
    dead = str(states.jobs["dead"][0])
    code, text = run("jobs", "tail", good[0], dead, "--json")
    assert code == 1
    assert [json.loads(line)["status"] for line in text.splitlines()] == ["SUCCEEDED", "DEAD"]
    assert run("jobs", "tail", "4711") == (1, "there is no job 4711")
    assert run("jobs", "tail", dead, "--queue", "mail")[0] == 2


def test_a_tail_prints_each_change_until_it_is_stopped(states: States) -> None:
    job = states.jobs["forgotten"][0]
    with subprocess.Popen(
        [sys.executable, "-m", "app.cli", "jobs", "tail", "--json", "--every", "0.1"],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as tail:
        assert tail.stdout is not None
        assert tail.stderr is not None
        first = [json.loads(tail.stdout.readline())["job_id"] for _ in range(10)]
        assert first == sorted(one for jobs in states.jobs.values() for one in jobs)[-10:]
        assert run("jobs", "cancel", str(job))[0] == 0
        changed = json.loads(tail.stdout.readline())
        assert (changed["job_id"], changed["status"], changed["reason"]) == (
            job,
            "CANCELLED",
            "cancelled before it started",
        )
        tail.send_signal(signal.SIGINT)
        assert tail.wait(timeout=30) == 0
        assert tail.stderr.read() == ""


@pytest.mark.parametrize("command", ["list", "show", "explain", "retry", "cancel", "tail"])
def test_every_command_shows_an_example(command: str) -> None:
    code, text = run("jobs", command, "--help")
    assert code == 0
    assert f"Example: tandem jobs {command}" in text
    assert "--json" in text


def test_values_are_shown_short_and_plain() -> None:
    assert show(None) == ""
    assert show("a" * 10, most=5) == "aaaa…"
    assert show({"a": "ü\n"}) == '{"a": "ü\\n"}'
    assert show("a\tb\x00") == "a\\tb\\x00"
