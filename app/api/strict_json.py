"""Strict JSON: what PostgreSQL could not store, or two readers could read differently, is refused with a clear code.

Works on bytes and knows no HTTP. Python's own parser would let NaN, duplicate keys and lone surrogates through.
"""

import json
import re
from math import isfinite
from typing import Any, Final

from app.errors import InvalidInput

DEEPEST = 64
LARGEST_INTEGER = 2**53 - 1
# Possessive, and the end is optional: an unterminated string must not be looked through again from each quote in it.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def parse(raw: bytes) -> Any:
    """The document. Raises InvalidInput with a code that names what is wrong; time is linear in the size."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("malformed-json", f"the body is not UTF-8 (byte {error.start})") from None
    check_depth(raw)
    escaped = b"\\u" in raw  # which few bodies hold, so that the searches below are seldom needed
    if escaped and _ESCAPED_NUL.search(raw):
        raise InvalidInput("nul-character", "a text holds the character U+0000, which cannot be stored")
    document = _load(text)
    if escaped and _ESCAPED_SURROGATE.search(raw) and _LONE_SURROGATE.search(canonical(document)):
        raise InvalidInput("invalid-unicode", "a text holds half of a surrogate pair")
    return document


def canonical(document: Any) -> str:
    """One text for one document: sorted keys, no spaces, characters as themselves."""
    return _ENCODER.encode(document)


def check_depth(raw: bytes) -> None:
    """Raise InvalidInput when brackets nest deeper than DEEPEST; before parsing, which would recurse."""
    if raw.count(b"[") + raw.count(b"{") <= DEEPEST:
        return  # most bodies have not that many brackets, wherever they stand
    depth = 0
    for bracket in _STRING.sub(b"", raw).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEEPEST:
            raise InvalidInput("too-deep", f"the body nests deeper than {DEEPEST} levels")


def _load(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidInput("malformed-json", f"the body is not JSON: {error.msg} ({where})") from None
    except RecursionError:
        raise InvalidInput("too-deep", f"the body nests deeper than {DEEPEST} levels") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidInput("duplicate-key", f"an object has the key {twice[:64]!r} more than once")
    return made


def _float(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise _out_of_range(text)
    return value


def _integer(text: str) -> int:
    # The length first: turning thousands of digits into a number is slow, and Python refuses it.
    if len(text) > 17 or abs(value := int(text)) > LARGEST_INTEGER:
        raise _out_of_range(text)
    return value


def _constant(text: str) -> Any:
    raise InvalidInput("malformed-json", f"the body is not JSON: {text} is not a JSON number")


def _out_of_range(text: str) -> InvalidInput:
    return InvalidInput(
        "number-out-of-range",
        f"the number {text[:20]} is out of range: integers up to 2^53-1 and finite doubles",
    )


# Made once: json.loads and json.dumps would make one of each for every call.
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_float, parse_int=_integer, parse_constant=_constant
)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
