"""Hooks of schemathesis: what a schema cannot say of a body that shall be accepted. Loaded by schemathesis.toml."""

from calendar import monthrange
from typing import Any

import schemathesis

PLACES = ("start_time", "end_time")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Change the body that is about to be sent, in every phase: map_body would not see those of the coverage phase."""
    body = case.body
    if not isinstance(body, dict):
        return
    # JSON Schema calls 2.0 an integer; we do not, and tests of ours say so.
    body = {name: _whole(value) for name, value in body.items()}
    if isinstance(waits := body.get("wait_seconds"), int | float) and 1 < waits <= 60:
        body["wait_seconds"] = 1  # a consumer may wait for a minute; the fuzzer has better things to do
    case.body = body | _in_order(body)


def _in_order(body: dict[str, Any]) -> dict[str, str]:
    """Times that exist, the earlier one first: only such a conversation may be refused for nothing else."""
    if not all(isinstance(body.get(name), str) for name in PLACES):
        return {}
    times = [_existing(body[name]) for name in PLACES]
    if any(time is None for time in times):
        return {}
    return dict(zip(PLACES, sorted(str(time) for time in times), strict=True))


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
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
