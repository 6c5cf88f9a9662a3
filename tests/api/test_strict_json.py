"""The strict reader of JSON: what it refuses, what it keeps, and that no input makes it slow."""

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.strict_json import DEEPEST, LARGEST_INTEGER, canonical, parse
from app.errors import InvalidInput


def code_of(raw: bytes) -> str:
    with pytest.raises(InvalidInput) as refused:
        parse(raw)
    return refused.value.code


@pytest.mark.parametrize(
    "text",
    [
        "0", "-1.5e-300", str(LARGEST_INTEGER), str(-LARGEST_INTEGER), '""', "[]", "{}", "null", "true",
        '"\\\\u0000"', '"\\ud83d\\ude00"', '"\\u00e9 \\" \\\\ \\n"', '{"a": {"a": [1, {"a": 2}]}}',
    ],
)  # fmt: skip
def test_good_json_is_read_as_python_reads_it(text: str) -> None:
    assert parse(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'"\\u0000"', "nul-character"),
        (b'{"\\u0000": 1}', "nul-character"),
        (b'"\\\\\\u0000"', "nul-character"),
        (b'"\\udfff"', "invalid-unicode"),
        (b'["\\ud83d", "\\ude00"]', "invalid-unicode"),
        (b"9007199254740992", "number-out-of-range"),
        (b"-9007199254740992", "number-out-of-range"),
        (b"1e400", "number-out-of-range"),
        (b"-1e400", "number-out-of-range"),
        (b"NaN", "malformed-json"),
        (b"nul", "malformed-json"),
        (b"\xff", "malformed-json"),
        (b"\xef\xbb\xbf1", "malformed-json"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "duplicate-key"),
        (b'{"a": 1, "\\u0061": 2}', "duplicate-key"),
    ],
)
def test_what_could_be_read_two_ways_or_not_stored_is_refused(raw: bytes, code: str) -> None:
    assert code_of(raw) == code


def test_the_depth_is_counted_outside_texts_only() -> None:
    assert parse(b"[" * DEEPEST + b"]" * DEEPEST)
    assert code_of(b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1)) == "too-deep"
    assert code_of(b'{"a":' * (DEEPEST + 1)) == "too-deep"
    text = "[" * 500 + '\\"' + "{" * 500
    assert parse(json.dumps([text, "\\", text]).encode()) == [text, "\\", text]


HOSTILE: dict[str, bytes] = {
    "open text with escaped quotes": b'"' + b'\\"' * 300_000,
    "quotes alone": b'"' * 600_000,
    "backslashes": b'"' + b"\\" * 600_001,
    "open brackets": b"[" * 600_000,
    "one key many times": b"{" + b'"a":1,' * 100_000 + b'"a":1}',
    "many keys and one twice": (json.dumps({str(n): 1 for n in range(60_000)})[:-1] + ', "7": 1}').encode(),
    "digits": b"1" * 600_000,
    "digits behind a point": b"0." + b"1" * 600_000,
    "high surrogates": b'"' + b"\\ud800" * 100_000 + b'"',
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_no_input_takes_more_than_linear_time(name: str) -> None:
    """Eight times the input may take about eight times the work: quadratic work would take sixty-four times."""

    def work(raw: bytes) -> float:
        least = float("inf")
        for _ in range(4):
            before = time.thread_time()  # of this thread alone: others on the machine do not count
            with contextlib.suppress(InvalidInput):
                parse(raw)
            least = min(least, time.thread_time() - before)
        return least

    raw = HOSTILE[name]
    whole, part = work(raw), work(raw[: len(raw) // 8])
    assert whole < 30 * max(part, 0.001)


def test_the_canonical_text_does_not_depend_on_order_or_spaces() -> None:
    one, other = (
        parse(b'{"b": [1, {"d": 1, "c": 2}], "a": "\\u00e9"}'),
        parse('{"a":"é","b":[1,{"c":2,"d":1}]}'.encode()),
    )
    assert canonical(one) == canonical(other) == '{"a":"é","b":[1,{"c":2,"d":1}]}'


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-LARGEST_INTEGER, LARGEST_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), inner)
    ),
    max_leaves=10,
)


@given(JSON, st.booleans())
def test_all_good_documents_survive(document: Any, escaped: bool) -> None:
    raw = json.dumps(document, ensure_ascii=escaped).encode()
    assert parse(raw) == document
    assert parse(canonical(document).encode()) == document


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        parse(raw)
    except InvalidInput as refused:
        assert refused.code in {
            "malformed-json",
            "duplicate-key",
            "number-out-of-range",
            "invalid-unicode",
            "nul-character",
        }
