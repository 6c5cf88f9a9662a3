"""The ids that a message carries from its publish to its effect: W3C traceparent, correlation id, request id.

A publisher without a trace begins one; a consumer that publishes goes on with the one that it was called with.
"""

import re
import secrets
from collections.abc import Mapping
from typing import Any, Final

from app.context import present

TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")
"""https://www.w3.org/TR/trace-context/, version 00."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}\Z")


def message_headers(given: Mapping[str, str]) -> dict[str, Any]:
    """Headers of a message published now; `given` are the caller's own `traceparent` and `correlation_id`."""
    bound = present()
    request = str(bound.get("request_id", ""))
    trace = given.get("traceparent", "") or str(bound.get("traceparent", ""))
    correlation = given.get("correlation_id", "") or str(bound.get("correlation_id", "")) or request
    headers = {
        "traceparent": trace if TRACEPARENT.match(trace) else new_traceparent(),
        "correlation_id": correlation if _TOKEN.match(correlation) else request,
        "request_id": request,
    }
    return {name: value for name, value in headers.items() if value}


def new_traceparent() -> str:
    """A trace of its own, sampled."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
