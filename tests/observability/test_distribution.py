"""The cheap histogram: every value lands in the bucket that Prometheus means, and sums are kept."""

from hypothesis import given
from hypothesis import strategies as st

from app.observability.distribution import Distribution


def test_bounds_are_inclusive_and_buckets_add_up() -> None:
    distribution = Distribution((0.1, 1, 5))
    for value in (0.0, 0.1, 0.100001, 1, 4, 5, 6):
        distribution.add(value)
    assert distribution.buckets() == [("0.1", 2), ("1.0", 4), ("5.0", 6), ("+Inf", 7)]
    assert distribution.total == 16.200001


@given(st.lists(st.floats(0, 100)))
def test_each_bucket_holds_what_is_not_above_its_bound(values: list[float]) -> None:
    distribution = Distribution((0.5, 2, 50))
    for value in values:
        distribution.add(value)
    assert distribution.buckets() == [
        (name, sum(value <= float(name) for value in values)) for name in ("0.5", "2.0", "50.0")
    ] + [("+Inf", len(values))]
