"""The model holds, and each planted bug breaks it: a model that cannot fail says nothing about the one that passes."""

import pytest

from tests.model.lease_model import Bug, State, search

ONE_LOSS = State(losses=1)
"""One lost answer less: enough for bugs that need none, and a fraction of the states."""

BUGS: dict[Bug, set[str]] = {
    "no_fence": {"EffectAtMostOnce", "OnlyCurrentTokenFinishes"},
    "sweep_by_id": {"TerminalIsStable"},
    "claim_no_recheck": {"OneClaimPerReadyRound"},
    "effect_outside_tx": {"OnlyDoneHasEffect"},
    "no_idempotency": {"OneJobPerKey"},
    "retry_forgets_cancel": {"CancelIsNotForgotten"},
    "rescue_forgets_cancel": {"CancelIsNotForgotten"},
    "start_forgets_cancel": {"CancelIsNotForgotten"},
    "cancel_by_id": {"TerminalIsStable"},
    "hand_back_by_id": {"TerminalIsStable"},
    "fail_by_id": {"TerminalIsStable"},
    "found_by_id": {"CallerTruth"},
}


def test_without_a_bug_every_invariant_holds_and_every_job_can_end() -> None:
    result = search()
    assert result.broken == {}
    assert result.states > 50_000


@pytest.mark.parametrize("bug", BUGS)
def test_every_planted_bug_keeps_failing(bug: Bug) -> None:
    result = search(bug, start=ONE_LOSS, until=BUGS[bug])
    assert BUGS[bug] <= result.broken.keys(), result.broken


def test_an_effect_outside_the_transaction_happens_twice() -> None:
    assert (
        "EffectAtMostOnce"
        in search("effect_outside_tx", without="OnlyDoneHasEffect", until=["EffectAtMostOnce"]).broken
    )


def test_only_one_claim_per_round_shows_a_double_claim() -> None:
    """The fence hides it from every other invariant: this one must not be dropped as redundant."""
    start = State(losses=0)
    assert set(search("claim_no_recheck", start=start).broken) == {"OneClaimPerReadyRound"}
    assert search("claim_no_recheck", without="OneClaimPerReadyRound", start=start).broken == {}


def test_a_way_tells_what_happened() -> None:
    way = search("sweep_by_id", until=["TerminalIsStable"]).broken["TerminalIsStable"]
    assert way[0].startswith("enqueue")
    assert way[-1] == "sweeper rescues"
