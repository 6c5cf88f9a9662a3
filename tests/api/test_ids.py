"""UUIDv7: version, variant, order by time."""

import time
from uuid import RFC_4122

from app.api.ids import uuid7


def test_ids_are_version_7_and_carry_the_time() -> None:
    before = time.time_ns() // 1_000_000
    made = [uuid7() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert {(one.version, one.variant) for one in made} == {(7, RFC_4122)}
    assert len(set(made)) == 1000
    moments = [one.int >> 80 for one in made]
    assert moments == sorted(moments)
    assert before <= moments[0] <= moments[-1] <= after
