"""JSON Web Tokens checked as RFC 8725 asks: algorithms and keys are pinned by the settings, never by the token.

Says which reason refused a token; callers count it and tell the client nothing of it.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from time import time
from types import MappingProxyType
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from app.api.principals import Principal
from app.api.strict_json import parse
from app.config import JwtSettings
from app.errors import AppError, ConfigurationError

MOST_BYTES: Final = 8 * 1024
LONGEST_NAME: Final = 255
TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
# Headers by which a token would bring its own key, or demand what we do not do.
_FOREIGN: Final = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"})
_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
_PLAIN: Final = re.compile(r"[^\x00-\x1f\x7f]{1,255}\Z")
_REQUIRED: Final = ["exp", "iat", "iss", "aud", "sub"]
_DEFAULT_KEY: Final = ""


class Refused(Exception):
    """The token is not to be trusted; `reason` is one of few words, for a metric."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Tokens:
    """Verifies tokens under the settings' keys. Raises ConfigurationError when the key file holds no fitting key."""

    def __init__(self, settings: JwtSettings) -> None:
        self._settings = settings
        self._keys = _keys(settings)

    def verify(self, token: str) -> Principal:
        """Who the token names. Raises Refused."""
        if len(token) > MOST_BYTES or not _FORM.match(token):
            raise Refused("malformed")
        header, payload, _ = token.split(".")
        key, algorithms = self._key(_document(header))
        _document(payload)  # a claim that stands there twice is read differently by others
        settings = self._settings
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=algorithms,
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=settings.leeway_seconds,
                options={"require": _REQUIRED},
            )
        except jwt.ExpiredSignatureError:
            raise Refused("expired") from None
        except jwt.InvalidSignatureError:
            raise Refused("signature") from None
        except jwt.PyJWTError:
            raise Refused("claims") from None
        self._check(claims)
        return self._principal(claims)

    def _key(self, header: Mapping[str, Any]) -> tuple[Any, list[str]]:
        """Our own key for this header, with the algorithms that are pinned to it."""
        if _FOREIGN & header.keys() or str(header.get("typ", "")).lower() not in TYPES:
            raise Refused("header")
        name = header.get("kid", _DEFAULT_KEY)
        if not isinstance(name, str):
            raise Refused("header")
        single = next(iter(self._keys.values())) if len(self._keys) == 1 else None
        found = self._keys.get(name) or (
            single if name == _DEFAULT_KEY or _DEFAULT_KEY in self._keys else None
        )
        if found is None:
            raise Refused("unknown-key")
        if header.get("alg") not in found[1]:
            raise Refused("algorithm")
        return found

    def _check(self, claims: Mapping[str, Any]) -> None:
        times = [claims[name] for name in ("exp", "iat", "nbf") if name in claims]
        if any(isinstance(one, bool) or not isinstance(one, int | float) for one in times):
            raise Refused("claims")
        if claims["exp"] - claims["iat"] > self._settings.most_lifetime_seconds:
            raise Refused("lifetime")
        if claims["iat"] > time() + self._settings.leeway_seconds:
            raise Refused("claims")
        subject = claims["sub"]
        # The names of API keys must not be had by a token.
        if not isinstance(subject, str) or not _PLAIN.match(subject) or subject.startswith("key:"):
            raise Refused("claims")

    def _principal(self, claims: dict[str, Any]) -> Principal:
        settings = self._settings
        roles = _names(_at(claims, settings.roles_claim))
        return Principal(
            subject=claims["sub"],
            roles=roles or frozenset(settings.default_roles),
            scopes=_narrowed(claims, settings.scopes_claim),
            claims=MappingProxyType(claims),
            customer=_text(_at(claims, settings.customer_claim)),
            tier=_text(_at(claims, settings.tier_claim)),
        )


def _keys(settings: JwtSettings) -> dict[str, tuple[Any, list[str]]]:
    """Key id to key and algorithms; the id is "" for a key without one."""
    allowed: list[str] = list(settings.algorithms)
    if settings.secret is not None:
        return {_DEFAULT_KEY: (settings.secret.get_secret_value().encode(), allowed)}
    if settings.key_file is None:
        raise ConfigurationError("no-token-key", "no JWT key is set")
    try:
        text = settings.key_file.read_bytes()
        if text.lstrip().startswith(b"{"):
            return _key_set(text, allowed)
        return {_DEFAULT_KEY: (load_pem_public_key(text), allowed)}
    except (OSError, ValueError, UnsupportedAlgorithm, jwt.PyJWTError) as error:
        raise ConfigurationError(
            "token-key-unreadable",
            f"TANDEM_API__JWT__KEY_FILE: {settings.key_file} holds neither a PEM public key nor a JWK set"
            f" ({type(error).__name__})",
        ) from None


def _key_set(text: bytes, allowed: list[str]) -> dict[str, tuple[Any, list[str]]]:
    keys: dict[str, tuple[Any, list[str]]] = {}
    for one in jwt.PyJWKSet.from_dict(json.loads(text)).keys:
        if one.key_type == "oct" or one.algorithm_name not in allowed:
            continue  # a symmetric key in a public file is known to everybody
        keys[one.key_id or _DEFAULT_KEY] = (one.key, [one.algorithm_name])
    if not keys:
        raise ValueError("no key of the allowed algorithms")
    return keys


def _document(segment: str) -> Mapping[str, Any]:
    try:
        found = parse(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except (AppError, binascii.Error, ValueError):
        raise Refused("malformed") from None
    if not isinstance(found, dict):
        raise Refused("malformed")
    return found


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or by a path of names like realm_access.roles."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _names(value: Any) -> frozenset[str]:
    """A list of names, or names divided by spaces."""
    parts = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    return frozenset(part for part in parts if isinstance(part, str))


def _narrowed(claims: Mapping[str, Any], path: str | None) -> frozenset[str]:
    """The scopes; a token without any, where they are asked for, may do nothing."""
    if path is None:
        return frozenset()
    return _names(_at(claims, path)) or frozenset({"none:none"})


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and _PLAIN.match(value) else None
