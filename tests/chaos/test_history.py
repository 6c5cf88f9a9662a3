"""The checker's own test: a clean history passes, and every planted fault is found under its name and no other."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from scripts.chaos_rig.history import Effect, Event, Facts, Findings, Friendship, JobFact, check
from scripts.chaos_rig.journal import Call, Journal, read_calls

Planted = Callable[[list[Call], Facts], None]


def clean() -> tuple[list[Call], Facts]:
    """Jobs 1 to 6 and conversation c1: acknowledged, unknown and done, unknown and not done, rolled back, repeated."""
    calls = [
        Call(1, "tx-1", "tx", outcome="ok", answer="1"),
        Call(2, "plain-2", "plain", outcome="ok", answer="2"),
        Call(3, "delayed-3", "delayed", due=100.0, outcome="ok", answer="3"),
        Call(4, "unique-4", "unique", outcome="unknown"),
        Call(5, "unique-4", "unique", outcome="ok", answer="4"),
        Call(6, "tx-5", "tx", outcome="unknown"),
        Call(7, "tx-6", "tx", outcome="unknown"),
        Call(8, "rollback-7", "rollback", outcome="fail"),
        Call(9, "c1", "conversation", outcome="unknown"),
        Call(10, "c1", "conversation", outcome="ok", answer="e1"),
    ]
    names = {1: "tx-1", 2: "plain-2", 3: "delayed-3", 4: "unique-4", 5: "tx-5"}
    facts = Facts(
        jobs=[JobFact(number, op, ("done",), "SUCCEEDED", 70 + number) for number, op in names.items()],
        effects=[Effect(op, number, 70 + number, 101.0) for number, op in names.items()],
        events=[Event("c1", "e1", "u1", "PROCESSED", 6, Decimal("1.5"))],
        friendships={"u1": Friendship(1, Decimal("1.5"))},
        retries={1: [1, 2]},
        seen_ended={1: 71},
    )
    facts.jobs.append(JobFact(6, "c1", ("done",), "SUCCEEDED", 76))
    facts.effects.append(Effect("plain-2", 2, 69, 101.0))  # at least once: allowed
    return calls, facts


def wrong(found: Findings) -> dict[str, int]:
    """How many findings of each kind."""
    return {name: len(lines) for name, lines in found.violations.items()}


def test_a_clean_history_passes() -> None:
    found = check(*clean())
    assert wrong(found) == {}
    assert (found.acked, found.unknown, found.failed) == (5, 4, 1)
    assert (found.recovered, found.duplicates) == (1, 1)


def drop_job(number: int) -> Planted:
    """Take the job away with all that belongs to it."""

    def plant(_: list[Call], facts: Facts) -> None:
        facts.jobs[:] = [job for job in facts.jobs if job.job_id != number]
        facts.effects[:] = [effect for effect in facts.effects if effect.job_id != number]
        facts.seen_ended.pop(number, None)

    return plant


def change_job(number: int, **changes: object) -> Planted:
    """Another end for one job."""

    def plant(_: list[Call], facts: Facts) -> None:
        facts.jobs[:] = [
            replace(job, **changes) if job.job_id == number else job  # type: ignore[arg-type]
            for job in facts.jobs
        ]

    return plant


def add_effect(op: str, number: int, token: int, at: float = 101.0) -> Planted:
    """One effect more."""
    return lambda _, facts: facts.effects.append(Effect(op, number, token, at))


def add_job(number: int, op: str) -> Planted:
    """One job more, with its effect."""

    def plant(_: list[Call], facts: Facts) -> None:
        facts.jobs.append(JobFact(number, op, ("done",), "SUCCEEDED", 70 + number))
        facts.effects.append(Effect(op, number, 70 + number, 101.0))

    return plant


def change_event(**changes: object) -> Planted:
    """Another end for the conversation; its friendship is as it was."""

    def plant(_: list[Call], facts: Facts) -> None:
        facts.events[0] = replace(facts.events[0], **changes)  # type: ignore[arg-type]

    return plant


def set_friendship(conversations: int, score: str) -> Planted:
    """Something else was added up."""

    def plant(_: list[Call], facts: Facts) -> None:
        facts.friendships["u1"] = Friendship(conversations, Decimal(score))

    return plant


def set_answer(number: int, answer: str) -> Planted:
    """A call was told another id."""

    def plant(calls: list[Call], _: Facts) -> None:
        calls[number - 1].answer = answer

    return plant


def lose_event(_: list[Call], facts: Facts) -> None:
    """Neither event nor job nor effect."""
    facts.events.clear()
    facts.friendships.clear()
    facts.jobs[:] = [job for job in facts.jobs if job.op != "c1"]


def drop_effects(op: str) -> Planted:
    """The job says success, the ledger says nothing."""

    def plant(_: list[Call], facts: Facts) -> None:
        facts.effects[:] = [effect for effect in facts.effects if effect.op != op]

    return plant


def both(*plants: Planted) -> Planted:
    """One after the other."""

    def plant(calls: list[Call], facts: Facts) -> None:
        for one in plants:
            one(calls, facts)

    return plant


PLANTED: dict[str, tuple[Planted, dict[str, int]]] = {
    "an acknowledged job is gone": (drop_job(1), {"lost": 1}),
    "an acknowledged job stands nowhere": (change_job(2, places=(), outcome=None), {"lost": 1}),
    "an acknowledged job ended dead": (change_job(2, outcome="DEAD"), {"lost": 1}),
    "a success without its effect": (drop_effects("tx-1"), {"lost": 1}),
    "an answer names another job": (set_answer(1, "99"), {"lost": 1}),
    "a repeated call was told another job": (set_answer(5, "99"), {"lost": 1}),
    "an acknowledged conversation is gone": (lose_event, {"lost": 1}),
    "a conversation failed": (change_event(status="FAILED"), {"lost": 1, "double_effects": 1}),
    "an event has no job": (drop_job(6), {"lost": 1}),
    "a friendship lacks a conversation": (set_friendship(0, "0"), {"lost": 1}),
    "a rolled back job is there": (add_job(7, "rollback-7"), {"ghosts": 1}),
    "a job that nobody asked for": (add_job(8, "tx-8"), {"ghosts": 1}),
    "a key has two jobs": (add_job(8, "unique-4"), {"ghosts": 1}),
    "a conversation has two jobs": (
        lambda _, facts: facts.jobs.append(JobFact(8, "c1", ("done",), "SUCCEEDED", 78)),
        {"ghosts": 1},
    ),
    "a job stands in two places": (change_job(2, places=("done", "ready")), {"ghosts": 1}),
    "a place without a job": (lambda _, facts: facts.orphans.append("lease 9"), {"ghosts": 1}),
    "an effect without a job": (add_effect("tx-9", 9, 1), {"ghosts": 1}),
    "an exactly-once job took effect twice": (add_effect("tx-1", 1, 71), {"double_effects": 1}),
    "a lost token took effect": (
        both(drop_effects("tx-5"), add_effect("tx-5", 5, 1)),
        {"double_effects": 1},
    ),
    "a conversation counted twice": (set_friendship(2, "3.0"), {"double_effects": 1}),
    "a score was added twice": (set_friendship(1, "3.0"), {"double_effects": 1}),
    "a job is still leased": (change_job(2, places=("lease",), outcome=None), {"stuck": 1}),
    "an event is still pending": (
        both(change_event(status="PENDING"), lambda _, facts: facts.friendships.clear()),
        {"stuck": 1},
    ),
    "a delayed job ran early": (add_effect("delayed-3", 3, 73, at=99.0), {"order_violations": 1}),
    "a failed try was written twice": (
        lambda _, facts: facts.retries.update({1: [1, 1, 2]}),
        {"order_violations": 1},
    ),
    "an end was taken back": (lambda _, facts: facts.seen_ended.update({1: 5}), {"unstable": 1}),
}


@pytest.mark.parametrize("name", PLANTED)
def test_every_planted_fault_is_found(name: str) -> None:
    plant, expected = PLANTED[name]
    calls, facts = clean()
    plant(calls, facts)
    assert wrong(check(calls, facts)) == expected


def test_a_journal_reads_back_and_a_torn_line_is_unknown(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    first = journal.invoke("a", "tx", due=1.5)
    second, third = journal.invoke("b", "plain"), journal.invoke("c", "plain")
    journal.ok(first, 7)
    journal.note("fault", name="reset")
    journal.fail(second, "refused")
    journal.close()
    with journal.path.open("a") as file:
        file.write(f'{{"at":1,"event":"ok","call":{third}')
    calls = read_calls(journal.path)
    assert [(call.op, call.kind, call.outcome, call.answer) for call in calls] == [
        ("a", "tx", "ok", "7"),
        ("b", "plain", "fail", None),
        ("c", "plain", "unknown", None),
    ]
    assert calls[0].due == 1.5


@pytest.mark.parametrize(
    ("answer", "outcome", "effect", "expected"),
    [
        ("CANCELLED", "CANCELLED", False, {}),
        ("REQUESTED", "CANCELLED", False, {}),
        ("REQUESTED", "SUCCEEDED", True, {}),
        ("TOO LATE", "SUCCEEDED", True, {}),
        (None, "CANCELLED", False, {}),
        ("CANCELLED", "SUCCEEDED", True, {"lost": 1}),
        ("CANCELLED", "CANCELLED", True, {"ghosts": 1}),
        ("nobody asked", "CANCELLED", False, {"lost": 1}),
    ],
)
def test_a_cancel_that_was_acknowledged_is_the_end(
    answer: str | None, outcome: str, effect: bool, expected: dict[str, int]
) -> None:
    calls, facts = clean()
    calls.append(Call(20, "cancel-9", "cancel", outcome="ok", answer="9"))
    if answer != "nobody asked":
        calls.append(
            Call(21, "cancel-9/asked", "asked", outcome="ok" if answer else "unknown", answer=answer)
        )
    facts.jobs.append(JobFact(9, "cancel-9", ("done",), outcome, 79))
    if effect:
        facts.effects.append(Effect("cancel-9", 9, 79, 101.0))
    assert wrong(check(calls, facts)) == expected
