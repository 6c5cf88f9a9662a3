"""Cursors: what we made comes back, anything else is refused, whatever it is."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.cursor import Cursors
from app.errors import InvalidInput

KEY = "a key of sixteen or more"
PLACES = st.integers(min_value=0, max_value=2**63 - 1)


@given(PLACES, st.text(max_size=50))
def test_a_cursor_comes_back(place: int, scope: str) -> None:
    made = Cursors(KEY).make(place, scope)
    assert Cursors(KEY).read(made, scope) == place, "another process with the same key reads it"


@given(PLACES, st.integers(min_value=0, max_value=191))
def test_no_bit_of_it_can_be_changed(place: int, bit: int) -> None:
    cursors = Cursors(KEY)
    raw = int.from_bytes(base64.urlsafe_b64decode(cursors.make(place, "s"))) ^ 1 << bit
    with pytest.raises(InvalidInput, match="not one of this list"):
        cursors.read(base64.urlsafe_b64encode(raw.to_bytes(24)).decode(), "s")


@given(st.text())
def test_nothing_else_is_a_cursor(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Cursors(KEY).read(text, "s")
    assert caught.value.code == "bad-cursor"


def test_a_cursor_is_good_for_its_own_list_and_key_only() -> None:
    cursors = Cursors()
    made = cursors.make(17, "dead")
    assert cursors.read(made, "dead") == 17
    for other, scope in ((cursors, "ready"), (Cursors(), "dead"), (Cursors(KEY), "dead")):
        with pytest.raises(InvalidInput):
            other.read(made, scope)
