"""Rate and quota as HTTP fields: RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10), Retry-After.

Formats only; knows no request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from app.domains.customers.models import Language

MINUTE: Final = 60
DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of one policy: `limit` per `window` seconds, of which `remaining`, until it resets in seconds."""

    policy: str
    limit: int
    window: int
    remaining: int
    resets_in: int


def minute_left(limit: int, remaining: int, resets_in: float) -> Left:
    """The rate per minute."""
    return Left("minute", limit, MINUTE, max(0, remaining), seconds_up(resets_in))


def day_left(quota: int | None, accepted: int, resets_in: float) -> Left | None:
    """The daily quota; None when it is unlimited."""
    if quota is None:
        return None
    return Left("day", quota, DAY, max(0, quota - accepted), seconds_up(resets_in))


def rate_headers(policies: Sequence[Left | None]) -> dict[str, str]:
    """The two fields, structured lists (RFC 9651) of the policies that there are."""
    told = [one for one in policies if one is not None]
    if not told:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{one.policy}";q={one.limit};w={one.window}' for one in told),
        "RateLimit": ", ".join(f'"{one.policy}";r={one.remaining};t={one.resets_in}' for one in told),
    }


def refused_headers(language: Language, seconds: int, *policies: Left | None) -> dict[str, str]:
    """What a refusal carries."""
    return {"Retry-After": str(seconds), "Content-Language": language, **rate_headers(policies)}


def seconds_up(seconds: float) -> int:
    """Whole seconds, never too few: who comes back then is not refused again."""
    return max(1, ceil(seconds))
