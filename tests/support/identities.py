"""Callers for tests: API keys in the database, tokens under a key of the tests' own, an API that asks for them."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
from pydantic import SecretStr

from app.api.keys import create_key
from app.config import ApiSettings, JwtSettings, Settings
from app.database.connect import connect
from tests.support.conversations import serving

SECRET = "a-secret-of-the-tests-" * 3
ISSUER = "https://issuer.example/"
AUDIENCE = "tandem"
NO_CLAIMS: Mapping[str, Any] = {}


def guarded_settings(**api: Any) -> Settings:
    """Settings under which every caller must identify itself, by a key or by a token under SECRET."""
    own = JwtSettings(
        secret=SecretStr(SECRET), algorithms=("HS256",), issuer=ISSUER, audience=AUDIENCE, leeway_seconds=5
    )
    return Settings(api=ApiSettings(**{"auth": "required", "jwt": own, **api}))


@asynccontextmanager
async def guarded(url: str, **api: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API that asks for credentials."""
    async with serving(url, guarded_settings(**api)) as client:
        yield client


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims; keywords replace them, None leaves one out."""
    now = int(time.time())
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 600} | changes
    return {name: value for name, value in made.items() if value is not None}


def token(*, headers: Mapping[str, Any] = NO_CLAIMS, **changes: Any) -> str:
    """A good token but for what the keywords change."""
    return jwt.encode(claims(**changes), SECRET, algorithm="HS256", headers=dict(headers))


def bearer(credential: str) -> dict[str, str]:
    """The header that presents it."""
    return {"Authorization": f"Bearer {credential}"}


async def make_key(
    url: str, *roles: str, name: str = "caller", scopes: Sequence[str] = (), **more: Any
) -> Any:
    """A key with its id and its clear text."""
    async with await connect(url, name="test") as connection:
        return await create_key(
            connection, name, roles=roles, scopes=scopes, **{"lifetime": None, "by": "test", **more}
        )
