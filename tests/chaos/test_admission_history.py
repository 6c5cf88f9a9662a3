"""The checker's own test for managed queues and redrive: what is right passes, each planted violation is found."""

from collections.abc import Callable

import pytest

from scripts.chaos_rig.admission import Limits, Tenure, check_key_order, check_tenures
from scripts.chaos_rig.history import Effect, Facts, Findings, JobFact, check
from scripts.chaos_rig.journal import Call

LIMITS = Limits(
    ordered=frozenset({"line"}), of_all=4, of_queue={"room": 3}, of_kind={"heavy": 1}, of_key={"room": 2}
)


def begin(
    job: int, key: str | None = "a", *, queue: str = "room", kind: str = "light", exempt: bool = False
) -> Tenure:
    """A lease begins; its token is the job's number."""
    return Tenure(True, job, job, queue, key, kind, exempt)


def end(begun: Tenure) -> Tenure:
    """The same lease ends."""
    return Tenure(False, begun.job_id, begun.token, begun.queue, begun.key, begun.kind, begun.exempt)


def line(job: int, key: str = "a") -> Tenure:
    """A lease in the ordered queue."""
    return begin(job, key, queue="line")


CLEAN = [
    begin(1), begin(2), begin(3, "b", kind="heavy"), line(4), end(line(4)), line(5), end(begin(1)), begin(6),
    end(begin(3, "b", kind="heavy")), begin(7, "b", kind="heavy"),
    begin(8, "c", queue="other", exempt=True),
]  # fmt: skip


def test_limits_that_are_full_and_never_passed_are_fine() -> None:
    seen = check_tenures(CLEAN, LIMITS)
    assert (seen.order, seen.limits) == ([], [])
    assert seen.reached > 5


TOO_MANY: dict[str, tuple[list[Tenure], str]] = {
    "a key's limit": ([begin(1), begin(2), begin(3)], "key room/a: 3 run at once, job 3 too many of 2"),
    "a queue's limit": (
        [begin(1, None), begin(2, None), begin(3, None), begin(4, None)],
        "queue room: 4 run at once, job 4 too many of 3",
    ),
    "a kind's limit": (
        [begin(1, "a", kind="heavy"), begin(2, "b", kind="heavy")],
        "kind heavy: 2 run at once, job 2 too many of 1",
    ),
    "the global limit": (
        [begin(number, None, queue="other") for number in range(1, 6)],
        "all managed queues: 5 run at once, job 5 too many of 4",
    ),
    "a slot given back twice": (
        [begin(1), end(begin(1)), end(begin(1)), begin(2), begin(3)],
        "job 1: a lease ended that never began, or ended twice",
    ),
    "a slot taken twice": ([begin(1), begin(1)], "job 1: one lease began twice"),
}


@pytest.mark.parametrize("what", TOO_MANY)
def test_every_limit_that_is_passed_is_found(what: str) -> None:
    tenures, expected = TOO_MANY[what]
    seen = check_tenures(tenures, LIMITS)
    assert (seen.limits, seen.order) == ([expected], [])


def test_a_job_that_comes_back_under_another_token_counts_anew() -> None:
    again = Tenure(True, 1, 99, "room", "a", "light")
    seen = check_tenures([begin(1), begin(2), end(begin(1)), again], LIMITS)
    assert seen.limits == []
    assert check_tenures([begin(1), begin(2), again], LIMITS).limits == [
        "key room/a: 3 run at once, job 1 too many of 2"
    ]


def test_two_jobs_of_an_ordered_key_at_once_are_found() -> None:
    seen = check_tenures([line(1), line(2, "b"), line(3)], LIMITS)
    assert (seen.limits, seen.order) == (
        [],
        ["ordered key line/a: 2 run at once, job 3 too many of 1"],
    )


def call(op: str, sent: int, told: int, outcome: str = "ok", key: str | None = "a") -> Call:
    """A call, and the journal's lines when it was sent and answered."""
    return Call(sent, op, "ordered", None, outcome, "1", "", key, sent, told)  # type: ignore[arg-type]


CALLS = [
    call("first", 1, 2), call("second", 3, 4), call("lost", 5, 6, "unknown"),
    call("third", 7, 9), call("beside", 8, 10),
    call("other", 11, 12, key="b"),
]  # fmt: skip


@pytest.mark.parametrize(
    "effects",
    [
        ["first", "second", "lost", "third", "beside", "other"],
        ["other", "first", "second", "beside", "third", "lost"],
    ],
)
def test_keys_in_order_pass_and_nothing_is_said_of_what_overlapped_or_was_not_acknowledged(
    effects: list[str],
) -> None:
    assert check_key_order(CALLS, effects) == []


@pytest.mark.parametrize(
    ("effects", "late"),
    [
        (["second", "first"], "first"),
        (["first", "third", "second"], "second"),
        (["first", "lost", "second"], "second"),
    ],
)
def test_a_job_that_overtakes_another_of_its_key_is_found(effects: list[str], late: str) -> None:
    [found] = check_key_order(CALLS, effects)
    assert f"acted before {late}, " in found


def history() -> tuple[list[Call], Facts]:
    """Job 1 ran in its key's order, died once, was redriven by one of two, and succeeded."""
    calls = [
        call("o", 1, 2),
        Call(3, "o/redriven", "redriven", outcome="ok", answer="1"),
        Call(4, "o/redriven", "redriven", outcome="fail"),
    ]
    facts = Facts(
        jobs=[JobFact(1, "o", ("done",), "SUCCEEDED", 71)],
        effects=[Effect("o", 1, 71, 101.0)],
        deaths={1: 1},
        tenures=[line(1), end(line(1))],
        limits=LIMITS,
    )
    return calls, facts


def wrong(found: Findings) -> dict[str, int]:
    """How many findings of each kind."""
    return {name: len(lines) for name, lines in found.violations.items()}


def test_a_redriven_job_passes() -> None:
    found = check(*history())
    assert wrong(found) == {}
    assert (found.redriven, found.acked, found.limits_reached) == (1, 1, 1)


def dead(_: list[Call], facts: Facts) -> None:
    """The redrive was acknowledged, and the job is dead still."""
    facts.jobs = [JobFact(1, "o", ("done",), "DEAD", 71)]
    facts.effects = []


def died_again(_: list[Call], facts: Facts) -> None:
    facts.deaths[1] = 2


def redriven_twice(calls: list[Call], _: Facts) -> None:
    calls[2].outcome = "ok"


def redriven_by_nobody(calls: list[Call], _: Facts) -> None:
    calls[1].outcome = "fail"


def two_at_once(_: list[Call], facts: Facts) -> None:
    facts.tenures += [line(8), line(9)]


def too_many(_: list[Call], facts: Facts) -> None:
    facts.tenures += [begin(8), begin(9), begin(10)]


def out_of_order(calls: list[Call], facts: Facts) -> None:
    calls.append(call("p", 5, 6))
    calls[-1].answer = "2"
    facts.jobs.append(JobFact(2, "p", ("done",), "SUCCEEDED", 72))
    facts.effects.insert(0, Effect("p", 2, 72, 100.0))


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (dead, {"lost": 1}),
        (died_again, {"double_effects": 1}),
        (redriven_twice, {"double_effects": 1}),
        (redriven_by_nobody, {"ghosts": 1}),
        (two_at_once, {"order_violations": 1}),
        (too_many, {"limit_violations": 1}),
        (out_of_order, {"order_violations": 1}),
    ],
)
def test_every_planted_violation_is_found(
    plant: Callable[[list[Call], Facts], None], expected: dict[str, int]
) -> None:
    calls, facts = history()
    plant(calls, facts)
    assert wrong(check(calls, facts)) == expected
