"""Hooks of schemathesis: what a schema cannot say of a body that shall be accepted. Loaded by schemathesis.toml."""

from calendar import monthrange
from typing import Any

import schemathesis

PLACES = ("start_time", "end_time")


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Times that exist, the earlier one first: only such a conversation may be refused for nothing else."""
    if isinstance(body, dict):
        # JSON Schema calls 2.0 an integer; we do not, and tests of ours say so.
        body = {name: _whole(value) for name, value in body.items()}
    if not isinstance(body, dict) or not all(isinstance(body.get(name), str) for name in PLACES):
        return body
    times = [_existing(body[name]) for name in PLACES]
    if any(time is None for time in times):
        return body
    return body | dict(zip(PLACES, sorted(str(time) for time in times), strict=True))


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _existing(text: str) -> str | None:
    """The text as a time in UTC that every calendar has; None for what is no such text at all."""
    try:
        year, month, day = (int(part) for part in text[:10].split("-"))
        hour, minute, second = (int(part) for part in text[11:19].split(":"))
        day = min(max(day, 1), monthrange(year, min(max(month, 1), 12))[1])
    except (ValueError, IndexError):
        return None
    month, hour = min(max(month, 1), 12), min(hour, 23)
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{min(minute, 59):02}:{min(second, 59):02}Z"
