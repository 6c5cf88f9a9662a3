"""API keys: `tandem_<id>_<secret>`, of which the database keeps the id and the SHA-256 of 256 random bits.

A slow hash would add nothing: there is no dictionary of 256-bit secrets. The prefix lets scanners find leaked keys.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from app.api.principals import GRANTS, Principal
from app.errors import InvalidInput, NotFound
from app.queue.store import statement

PREFIX: Final = "tandem_"
ID_LENGTH: Final = 12
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_FORM: Final = re.compile(r"tandem_([a-z0-9]{12})_([A-Za-z0-9_-]{43})\Z")
_SCOPE: Final = re.compile(r"(\*|[a-z][a-z0-9-]{0,31}:(\*|[a-z][a-z0-9-]{0,31}))\Z")
_NO_HASH: Final = bytes(32)

Row = dict[str, Any]


class NewKey(NamedTuple):
    """A key as it is shown, once."""

    id: str
    clear: str


class Found(NamedTuple):
    """What a presented key is: whose, and for how many seconds; or why it is refused."""

    principal: Principal | None
    seconds: float
    reason: str


def split(credential: str) -> tuple[str, bytes] | None:
    """The id and the secret's hash of something that has the form of a key."""
    match = _FORM.match(credential)
    return (match[1], digest(match[2])) if match else None


def digest(secret: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


async def find_key(connection: AsyncConnection[Any], key_id: str, secret_hash: bytes) -> Found:
    """The key of this id if the hash fits and it still holds; notes its use, at most once a minute."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(statement("auth", "find_key"), {"id": key_id, "hash": secret_hash})
    row = await cursor.fetchone()
    fits = hmac.compare_digest(row["secret_hash"] if row else _NO_HASH, secret_hash)
    if row is None or not fits:
        return Found(None, 0.0, "invalid")
    if row["state"] != "good":
        return Found(None, 0.0, row["state"])
    principal = Principal(
        subject=f"key:{row['name']}",
        roles=frozenset(row["roles"]),
        scopes=frozenset(row["scopes"]),
        claims=row["claims"],
        customer=row["claims"].get("customer"),
        tier=row["claims"].get("tier"),
    )
    return Found(principal, row["seconds_left"], "")


async def create_key(
    connection: AsyncConnection[Any],
    name: str,
    *,
    roles: Sequence[str],
    scopes: Sequence[str] = (),
    claims: Mapping[str, str] | None = None,
    lifetime: timedelta | None,
    by: str,
) -> NewKey:
    """Make a key and store its hash; without `lifetime` it never ends. Raises InvalidInput for an unknown role."""
    _check(name, roles, scopes)
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(ID_LENGTH))
    secret = secrets.token_urlsafe(32)
    values = {
        "id": key_id,
        "hash": digest(secret),
        "name": name,
        "roles": sorted(set(roles)),
        "scopes": sorted(set(scopes)),
        "claims": Jsonb(dict(claims or {})),
        "lifetime": lifetime,
        "by": by,
    }
    await connection.execute(statement("auth", "create_key"), values)
    return NewKey(key_id, f"{PREFIX}{key_id}_{secret}")


async def list_keys(connection: AsyncConnection[Any]) -> list[Row]:
    """Every key, newest first, without its hash."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(statement("auth", "list_keys"))
    return await cursor.fetchall()


async def revoke_key(connection: AsyncConnection[Any], key_id: str, *, by: str) -> None:
    """End a key; processes forget it within their cache's seconds. Safe to repeat. Raises NotFound."""
    cursor = await connection.execute(statement("auth", "revoke_key"), {"id": key_id, "by": by})
    if not cursor.rowcount:
        raise NotFound("unknown-key", f"there is no API key {key_id!r}: `tandem keys list` shows them")


def _check(name: str, roles: Sequence[str], scopes: Sequence[str]) -> None:
    if not re.match(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z", name):
        raise InvalidInput(
            "invalid-key-name", "a key's name is 1 to 64 letters, digits, '.', '_', '@' or '-'"
        )
    unknown = sorted(set(roles) - set(GRANTS))
    if unknown or not roles:
        raise InvalidInput(
            "unknown-role", f"roles {unknown or 'are missing'}: choose from {', '.join(sorted(GRANTS))}"
        )
    odd = [scope for scope in scopes if not _SCOPE.match(scope)]
    if odd:
        raise InvalidInput("invalid-scope", f"scopes {odd}: write them like jobs:read or jobs:*")
