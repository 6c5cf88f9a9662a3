"""Values as strict JSON text: what PostgreSQL would refuse, or silently change, is refused here with a reason.

The only encoder of payloads, results and contexts. Needs no pydantic, but asks a pydantic object for its own form.
"""

import json
import re
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from .errors import InvalidInput

_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_UNPAIRED_SURROGATE = re.compile("[\ud800-\udfff]")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def encode_json(value: Any, *, limit: int, what: str) -> str:
    """Encode as strict JSON within `limit` bytes; `what` names the value in messages and codes.

    The limit counts the text as PostgreSQL writes it: with a space after each comma and colon.
    Takes what JSON has, and: pydantic models, dataclasses, mappings, sets, dates, times, UUIDs, decimals, enums,
    paths, each as pydantic writes it. Raises InvalidInput (NaN, NUL, unpaired surrogates, size, type, depth).
    """
    try:
        text = _encode(value)
    except InvalidInput:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"invalid-{what}", f"the {what} is not JSON: {error}") from None
    if "\\u0000" in text and _ESCAPED_NUL.search(text):
        raise InvalidInput(
            "nul-character", f"the {what} holds a NUL character, which PostgreSQL cannot store"
        )
    # Plain text of one byte per character is the common case, and it needs no further look.
    size = len(text) if text.isascii() else _size(text, what)
    if size <= limit < size * 1.5:  # the spaces add half at most
        size += _spaces(text)
    if size > limit:
        raise InvalidInput(
            f"{what}-too-large",
            f"the {what} has {size} bytes, the limit is {limit}: store the data in a table and pass its key",
        )
    return text


def _size(text: str, what: str) -> int:
    if _UNPAIRED_SURROGATE.search(text):
        raise InvalidInput("invalid-unicode", f"the {what} holds an unpaired surrogate")
    return len(text.encode())


def _spaces(text: str) -> int:
    outside = _STRING.sub("", text)
    return outside.count(",") + outside.count(":")


def _plain(value: Any) -> Any:
    """What JSON does not know, one level down; the encoder asks again for what is inside."""
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return dump(mode="json")
    if (serializer := getattr(type(value), "__pydantic_serializer__", None)) is not None:
        return serializer.to_python(value, mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in fields(value)}
    if isinstance(value, datetime | date | time):
        text = value.isoformat()
        return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text
    if isinstance(value, UUID | Decimal | PurePath):
        return str(value)
    if isinstance(value, timedelta):
        return f"{'-' if value < timedelta(0) else ''}PT{abs(value) / timedelta(seconds=1):f}S"
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Set):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not a JSON type")


_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain).encode
