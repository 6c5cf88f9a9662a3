"""Who calls: a subject, its roles, and what its credential was narrowed to. Knows no HTTP and checks no credential."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

GRANTS: Final[Mapping[str, frozenset[str]]] = {
    "admin": frozenset({"*"}),
    "operator": frozenset(
        {
            "conversations:read",
            "customers:read",
            "docs:read",
            "jobs:*",
            "limits:*",
            "metrics:read",
            "queues:*",
            "schedules:*",
            "topics:manage",
            "topics:read",
            "topics:read-dead",
            "topics:replay",
            "topics:retry-dead",
        }
    ),
    "auditor": frozenset(
        {
            "audit:*",
            "conversations:read",
            "customers:read",
            "docs:read",
            "jobs:read",
            "limits:read",
            "metrics:read",
            "queues:read",
            "schedules:read",
            "topics:read",
            "topics:read-dead",
        }
    ),
    "system": frozenset(
        {
            "conversations:*",
            "docs:read",
            "jobs:read",
            "topics:consume",
            "topics:publish",
            "topics:read",
        }
    ),
    "producer": frozenset(
        {
            "conversations:write",
            "docs:read",
            "topics:publish",
        }
    ),
    "user": frozenset(
        {
            "account:*",
            "docs:read",
            "workflows:*",
        }
    ),
    "monitor": frozenset({"metrics:read"}),
}
"""What each role may do; `area:*` stands for all of an area, `*` for everything. The rest is for admin alone."""


@dataclass(frozen=True, slots=True)
class Principal:
    """One caller. `scopes`, when not empty, narrow what its roles allow; `claims` are its verified statements."""

    subject: str
    roles: frozenset[str]
    scopes: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    customer: str | None = None
    tier: str | None = None

    def may(self, permission: str) -> bool:
        """Whether one of its roles grants `permission` (`area:verb`) and its scopes do not take that away."""
        return _allow(self.roles, self.scopes, permission)


@lru_cache(maxsize=1024)  # asked at each call; there are few sets of roles, and both sets are frozen
def _allow(roles: frozenset[str], scopes: frozenset[str], permission: str) -> bool:
    granted = any(covers(GRANTS.get(role, frozenset()), permission) for role in roles)
    return granted and (not scopes or covers(scopes, permission))


def covers(patterns: Iterable[str], permission: str) -> bool:
    """Whether one of the patterns is the permission, its area with `:*`, or `*`."""
    area = permission.partition(":")[0] + ":*"
    return any(pattern in ("*", area, permission) for pattern in patterns)


LOCAL: Final = Principal(subject="api", roles=frozenset({"admin"}))
"""Everybody, where authentication is off."""
