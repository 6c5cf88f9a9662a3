"""Backoff: bounds, growth, jitter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.database.backoff import Backoff


@given(first=st.floats(0.001, 10), factor=st.floats(1, 1000), steps=st.integers(1, 40))
def test_waits_stay_below_a_ceiling_that_doubles_up_to_the_most(
    first: float, factor: float, steps: int
) -> None:
    most = first * factor
    backoff = Backoff(first, most)
    for step in range(steps):
        assert 0 <= backoff.next() <= min(most, first * 2**step)


def test_the_ceiling_is_used_and_a_success_starts_over() -> None:
    backoff = Backoff(1.0, 64.0)
    late = [[backoff.next() for _ in range(10)][-1] for _ in range(50)]
    assert max(late) > 32
    assert len(set(late)) > 40  # jitter: a fleet does not come back in step
    backoff.reset()
    assert backoff.next() <= 1.0


@pytest.mark.parametrize(("first", "most"), [(0, 1), (-1, 1), (2, 1)])
def test_senseless_bounds_are_refused(first: float, most: float) -> None:
    with pytest.raises(ValueError, match="0 < first <= most"):
        Backoff(first, most)
