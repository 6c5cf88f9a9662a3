"""Reading JSON that somebody else wrote: any SQL client may have stored a document that Python or JSON cannot carry.

PostgreSQL keeps numbers of 130,000 digits and thousands of levels; neither may break an answer or a worker.
"""

import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

DEEPEST = 100
MOST_DIGITS = 1_000
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")
_Unreadable = (ValueError, RecursionError)


def read_stored(raw: str | bytes | bytearray) -> Any:
    """The document, or its own JSON text where it nests deeper than 100 levels or holds a number out of range."""
    text = raw if isinstance(raw, str) else raw.decode()
    try:
        document = json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_float)
    except _Unreadable:
        return text
    return text if _too_deep(text) else document


def read_mapping(raw: str | None) -> Mapping[str, Any]:
    """The document if it is an object that can be read, else an empty one: what is no limit, limits nothing."""
    found = read_stored(raw) if raw else None
    return found if isinstance(found, dict) else {}


def _integer(text: str) -> int:
    # The length first: Python refuses to read, and to write, thousands of digits.
    if len(text) > MOST_DIGITS:
        raise ValueError("too many digits")
    return int(text)


def _float(text: str) -> float:
    if not isfinite(value := float(text)):
        raise ValueError("beyond a double")
    return value


def _too_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= DEEPEST:
        return False
    depth = 0
    for bracket in _BRACKETS.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > DEEPEST:
            return True
    return False
