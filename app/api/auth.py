"""Who may call what: every route declares a permission or that it is public, everything else is refused.

Credentials are checked in keys.py and tokens.py; what a role may do stands in principals.py.
"""

import hashlib
import ipaddress
import logging
import re
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from math import ceil
from time import monotonic
from typing import Annotated, Any, Final, Literal, cast

from fastapi import Depends, FastAPI
from fastapi.routing import iter_route_contexts
from starlette.requests import HTTPConnection

from app import events
from app.api import keys
from app.api.access import Access
from app.api.facts import Denied
from app.api.failures import Failures, Sparing
from app.api.principals import LOCAL, Principal
from app.api.tokens import MOST_BYTES, Refused, Tokens
from app.config import Settings
from app.errors import ConfigurationError, Forbidden, TooMany, Unauthenticated

PUBLIC: Final = "public"
MOST_CACHED: Final = 4096
_SCOPE: Final = "tandem.principal"
_CONVERTER: Final = re.compile(r":[a-z]+\}")
"""What a path says about a parameter beside its name; the OpenAPI document leaves it out."""
_log = logging.getLogger(__name__)

Mode = Literal["required", "off"]


class requires:  # noqa: N801 - read as a word: Depends(requires("jobs:read"))
    """A dependency that lets in who has the permission `area:verb`, and answers the Principal."""

    notes = False
    """Whether it writes down itself who lacked the permission."""

    def __init__(self, permission: str) -> None:
        area, _, verb = permission.partition(":")
        if not area or not verb or "*" in permission:
            raise ValueError(f"a permission is area:verb, not {permission!r}")
        self.permission = permission

    async def __call__(self, connection: HTTPConnection) -> Principal:
        """The caller. Raises Unauthenticated, Forbidden, TooMany; Unavailable when a key cannot be looked up."""
        guard = cast(Guard, connection.app.state.guard)
        return await guard.admit(connection, self.permission, noted=self.notes)


async def public() -> None:
    """A dependency that declares a route open to everybody."""


async def principal(connection: HTTPConnection) -> Principal:
    """The caller, for a route that declares its permission with `requires` and wants to know who it is."""
    return await cast(Guard, connection.app.state.guard).identify(connection)


PrincipalDep = Annotated[Principal, Depends(principal)]


def mode_of(settings: Settings) -> Mode:
    """Whether callers must identify themselves. Raises ConfigurationError for `off` where strangers could call.

    Unset, it is off only for the embedded development database behind a loopback address.
    """
    chosen, host = settings.api.auth, settings.api.host
    if chosen == "off" and not _is_loopback(host):
        raise ConfigurationError(
            "auth-off-in-public",
            f"TANDEM_API__AUTH=off is for development and needs a loopback address, not {host!r}:"
            " listen on 127.0.0.1, or leave authentication on (`tandem keys create` makes a key)",
        )
    if chosen is not None:
        return chosen
    return "off" if settings.database_url is None and _is_loopback(host) else "required"


class Guard:
    """Knows the callers of one API process. Good keys are remembered for `key_cache_seconds`."""

    def __init__(self, settings: Settings) -> None:
        self.mode = mode_of(settings)
        self._settings = settings.api
        self._tokens = Tokens(settings.api.jwt) if settings.api.jwt.enabled else None
        self._failures = Failures(settings.api.failures_per_minute)
        self._known: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self._denials = Sparing(_log)

    def announce(self) -> None:
        """Say in the log how callers are known."""
        if self.mode == "off":
            _log.warning("authentication is off: everybody who reaches this address may do everything")
        else:
            ways = "API keys and JWT" if self._tokens is not None else "API keys; no JWT key is set"
            _log.info("authentication is required: %s", ways)

    async def admit(self, connection: HTTPConnection, permission: str, *, noted: bool = False) -> Principal:
        """The caller if it has the permission. Raises Unauthenticated, Forbidden, TooMany.

        `noted`: who asks puts a refusal into the audit log itself.
        """
        found = await self.identify(connection)
        if not found.may(permission):
            self._deny(connection, "forbidden", permission, found.subject, noted=noted)
            raise Forbidden(
                "forbidden",
                f"this needs the permission {permission}, which the caller does not have",
                detail={"headers": {"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope"'}},
            )
        return found

    async def identify(self, connection: HTTPConnection) -> Principal:
        """The caller, known once per request. Raises Unauthenticated, TooMany."""
        if self.mode == "off":
            self._check_address(connection)
            return LOCAL
        known = connection.scope.get(_SCOPE)
        if known is None:
            known = connection.scope[_SCOPE] = await self._examine(connection)
        return cast(Principal, known)

    async def _examine(self, connection: HTTPConnection) -> Principal:
        given = connection.headers.getlist("authorization")
        if not given:
            self._deny(connection, "missing")
            raise _unauthenticated(_CHALLENGE)
        scheme, _, credential = given[0].partition(" ")
        credential = credential.strip(" ")
        if len(given) > 1 or scheme.lower() != "bearer" or len(credential) > MOST_BYTES:
            return self._refuse(connection, "malformed")
        presented = keys.split(credential)
        if presented is not None:
            return await self._by_key(connection, credential, *presented)
        if self._tokens is None or credential.startswith(keys.PREFIX):
            return self._refuse(connection, "malformed")
        try:
            return self._tokens.verify(credential)
        except Refused as refused:
            return self._refuse(connection, refused.reason)

    async def _by_key(
        self, connection: HTTPConnection, credential: str, key_id: str, hashed: bytes
    ) -> Principal:
        place, now = hashlib.sha256(credential.encode()).digest(), monotonic()
        remembered = self._known.get(place)
        if remembered is not None and now < remembered[1]:
            return remembered[0]
        # Guesses must not cost look-ups without end.
        self._check_failures(connection)
        access = cast(Access, connection.app.state.access)
        async with access.write_at_once() as database:
            found = await keys.find_key(database, key_id, hashed)
        if found.principal is None:
            return self._refuse(connection, found.reason)
        self._known[place] = (found.principal, now + min(found.seconds, self._settings.key_cache_seconds))
        self._known.move_to_end(place)
        while len(self._known) > MOST_CACHED:
            self._known.popitem(last=False)
        return found.principal

    def _refuse(self, connection: HTTPConnection, reason: str) -> Principal:
        """Count and log the reason; the client learns only that its credential is no good."""
        self._check_failures(connection)
        self._failures.add(_address(connection))
        self._deny(connection, reason)
        raise _unauthenticated(f'{_CHALLENGE}, error="invalid_token"')

    def _check_failures(self, connection: HTTPConnection) -> None:
        wait = self._failures.wait(_address(connection))
        if wait > 0:
            self._deny(connection, "too-many")
            raise TooMany(
                "too-many-failures",
                "too many calls with wrong credentials came from this address: wait, then try with a good one",
                detail={"headers": {"Retry-After": str(ceil(wait))}},
            )

    def _check_address(self, connection: HTTPConnection) -> None:
        """Whatever server runs us and wherever it listens: with authentication off only loopback is served."""
        server = connection.scope.get("server")
        if server is not None and _is_public(str(server[0])):
            self._deny(connection, "public-address")
            raise Forbidden(
                "auth-off-in-public",
                "authentication is off here, so that only this machine's own addresses are served",
            )

    def _deny(
        self,
        connection: HTTPConnection,
        reason: str,
        permission: str = "",
        subject: str = "",
        *,
        noted: bool = False,
    ) -> None:
        route, address = str(getattr(connection.scope.get("route"), "path", "")), _address(connection)
        events.publish(Denied(reason, route, permission, subject, address, noted))
        said = f"{subject} lacks {permission}" if permission else reason
        self._denials.warning("refused a call of %s from %s: %s", route, address, said)


_CHALLENGE: Final = 'Bearer realm="tandem"'


def _unauthenticated(challenge: str) -> Unauthenticated:
    return Unauthenticated(
        "unauthenticated",
        "this needs a valid credential: Authorization: Bearer, with an API key or a token",
        detail={"headers": {"WWW-Authenticate": challenge}},
    )


def check_routes(app: FastAPI) -> dict[str, str]:
    """The permission of every route, by "METHOD path". Raises ConfigurationError that names routes without one."""
    found: dict[str, str] = {}
    without: list[str] = []
    for route in iter_route_contexts(app.routes):
        path = _CONVERTER.sub("}", str(getattr(route, "path", None) or type(route).__name__))
        permission = _declared(route)
        methods = sorted(getattr(route, "methods", None) or {"ANY"})
        if permission is None:
            without.append(path)
        found |= {f"{method} {path}": permission or "" for method in methods}
    if without:
        raise ConfigurationError(
            "route-without-permission",
            f"routes without a declared permission: {', '.join(sorted(set(without)))};"
            ' add dependencies=[Depends(requires("area:verb"))], or Depends(public) for everybody',
        )
    return found


def _declared(route: Any) -> str | None:
    dependant = getattr(route, "dependant", None)
    if dependant is None:  # mounted applications say it themselves
        said = getattr(getattr(route, "app", None), "permission", None)
        return said if said == PUBLIC else None
    calls = list(_calls(dependant))
    needed = sorted({one.permission for one in calls if isinstance(one, requires)})
    if needed:
        return " ".join(needed)
    return PUBLIC if public in calls else None


def _calls(dependant: Any) -> Iterator[Any]:
    for below in dependant.dependencies:
        yield below.call
        yield from _calls(below)


def _address(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client is not None else "a local socket"


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@lru_cache(
    maxsize=64
)  # a server has few addresses, and parsing one costs more than all else of a call without keys
def _is_public(host: str) -> bool:
    """Whether it is an IP address, and not a loopback one; names and socket paths are no addresses."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


__all__ = [
    "PUBLIC",
    "Guard",
    "Principal",
    "PrincipalDep",
    "check_routes",
    "mode_of",
    "principal",
    "public",
    "requires",
]
