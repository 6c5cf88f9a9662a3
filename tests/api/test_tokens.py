"""Tokens: every known way to forge or bend one is refused, each beside the good token that it was bent from."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pydantic import SecretStr, ValidationError

from app.api.tokens import Refused, Tokens
from app.config import JwtSettings
from app.errors import ConfigurationError
from tests.support.conversations import serving
from tests.support.identities import (
    AUDIENCE,
    ISSUER,
    SECRET,
    bearer,
    claims,
    guarded,
    guarded_settings,
    token,
)

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> bytes:
    """Its public half."""
    made: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return made


def settings(**changes: Any) -> JwtSettings:
    """Settings that take HS256 tokens under SECRET."""
    good = {"secret": SecretStr(SECRET), "algorithms": ("HS256",), "issuer": ISSUER, "audience": AUDIENCE}
    return JwtSettings(**(good | {"leeway_seconds": 5.0} | changes))


@pytest.fixture
def public_key(tmp_path: Path) -> Path:
    """The file that an issuer with the key RSA publishes."""
    file = tmp_path / "issuer.pem"
    file.write_bytes(pem(RSA))
    return file


def by_public_key(file: Path, **changes: Any) -> Tokens:
    """A verifier that trusts the key in a file."""
    return Tokens(settings(**({"secret": None, "key_file": file, "algorithms": ("RS256",)} | changes)))


def part(document: Any) -> str:
    """A segment of a token."""
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: Any, payload: Any, key: bytes = SECRET.encode()) -> str:
    """A token of any header and payload with a true HS256 signature."""
    body = f"{part(header)}.{part(payload)}"
    return f"{body}.{part(hmac.digest(key, body.encode(), hashlib.sha256))}"


HEADER = {"alg": "HS256", "typ": "JWT"}
NOW = int(time.time())


def header(**changes: Any) -> Callable[[], str]:
    return lambda: signed(HEADER | changes, claims())


def payload(**changes: Any) -> Callable[[], str]:
    return lambda: signed(HEADER, claims(**changes))


def raw(text: str) -> Callable[[], str]:
    """A payload of literal text, the good claims spliced in for @."""
    return lambda: signed(HEADER, text.replace("@", json.dumps(claims())[1:-1]).encode())


def tampered() -> str:
    head, _, signature = token().split(".")
    return f"{head}.{part(claims(roles=['admin']))}.{signature}"


ATTACKS: dict[str, Callable[[], str]] = {
    "alg none": lambda: f"{part(HEADER | {'alg': 'none'})}.{part(claims())}.",
    "alg none, signed": header(alg="none"),
    "alg None": header(alg="None"),
    "alg nOnE": header(alg="nOnE"),
    "alg of another strength": lambda: jwt.encode(claims(), SECRET, algorithm="HS512"),
    "alg missing": lambda: signed({"typ": "JWT"}, claims()),
    "alg a list": header(alg=["HS256"]),
    "alg in lower case": header(alg="hs256"),
    "other secret": lambda: jwt.encode(claims(), "x" * 40, algorithm="HS256"),
    "empty secret": lambda: signed(HEADER, claims(), b""),
    "payload exchanged": tampered,
    "signature cut off": lambda: token().rpartition(".")[0] + ".",
    "signature shortened": lambda: token()[:-4],
    "no dots": lambda: token().replace(".", ""),
    "four parts": lambda: token() + ".e30",
    "padding": lambda: token() + "=",
    "line end": lambda: token() + "\n",
    "kid a list": header(kid=["a"]),
    "kid a number": header(kid=1),
    "jku": header(jku="https://attacker.example/keys"),
    "x5u": header(x5u="https://attacker.example/cert"),
    "x5c": header(x5c=["MIIB"]),
    "jwk": header(jwk={"kty": "oct", "k": part(SECRET.encode())}),
    "crit unknown": header(crit=["x"], x=1),
    "crit b64": header(crit=["b64"], b64=False),
    "b64 without crit": header(b64=False),
    "typ of another kind": header(typ="logout+jwt"),
    "typ a list": header(typ=["JWT"]),
    "nested token": header(cty="JWT", typ="JWE"),
    "header not an object": lambda: signed(["HS256"], claims()),
    "header with alg twice": lambda: signed(b'{"alg":"none","alg":"HS256"}', claims()),
    "expired": payload(iat=NOW - 1000, exp=NOW - 600),
    "no exp": payload(exp=None),
    "exp a text": payload(exp=str(NOW + 600)),
    "exp true": payload(exp=True),
    "exp infinite": raw('{@, "exp": Infinity}'),
    "exp 1e400": raw('{@, "x": 1e400}'),
    "longer than tokens may live": payload(exp=NOW + 10 * 86400),
    "nbf in the future": payload(nbf=NOW + 100_000),
    "nbf a text": payload(nbf="soon"),
    "iat in the future": payload(iat=NOW + 50_000, exp=NOW + 60_000),
    "iat missing": payload(iat=None),
    "iat far in the past": payload(iat=0),
    "iat a text": payload(iat="now"),
    "aud wrong": payload(aud="other"),
    "aud missing": payload(aud=None),
    "aud empty": payload(aud=[]),
    "aud a list of others": payload(aud=["other", "tandem2"]),
    "aud part of ours": payload(aud="tand"),
    "aud a list in a list": payload(aud=[["tandem"]]),
    "iss wrong": payload(iss="https://attacker.example/"),
    "iss part of ours": payload(iss="https://issuer"),
    "iss ours and more": payload(iss=ISSUER + "evil"),
    "iss without its slash": payload(iss=ISSUER.rstrip("/")),
    "iss a list": payload(iss=[ISSUER]),
    "iss missing": payload(iss=None),
    "sub missing": payload(sub=None),
    "sub empty": payload(sub=""),
    "sub a number": payload(sub=7),
    "sub with a line end": payload(sub="ann\nadmin"),
    "sub of an API key": payload(sub="key:billing"),
    "sub without end": payload(sub="x" * 300),
    "a claim twice": raw('{@, "sub": "bob"}'),
    "payload a list": lambda: signed(HEADER, [claims()]),
    "payload not JSON": lambda: signed(HEADER, b"ann"),
    "payload not UTF-8": lambda: signed(HEADER, b"\xff\xfe"),
    "payload too deep": raw('{@, "x": ' + "[" * 100 + "]" * 100 + "}"),
    "too large": payload(x="x" * 9000),
}


def test_the_good_token_is_taken() -> None:
    caller = Tokens(settings()).verify(token(roles=["operator"]))
    assert (caller.subject, set(caller.roles), caller.customer) == ("ann", {"operator"}, None)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda name: name.replace(" ", "-"))
def test_no_attack_gets_through(attack: str) -> None:
    bent = ATTACKS[attack]()
    with pytest.raises(Refused):
        Tokens(settings()).verify(bent)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["other", AUDIENCE]},
        {"headers": {"typ": "at+jwt"}},
        {"headers": {"kid": "../../dev/null"}},  # a name without a meaning, where there is one key
        {"iat": -100, "exp": -30},  # within the leeway
        {"nbf": -10},
        {"nbf": 30},
    ],
)
def test_what_only_looks_odd_is_taken(changes: dict[str, Any]) -> None:
    now = int(time.time())
    good: dict[str, Any] = {
        name: now + value if isinstance(value, int) else value for name, value in changes.items()
    }
    assert Tokens(settings(leeway_seconds=60)).verify(token(**good)).subject == "ann"
    if "exp" in changes or changes.get("nbf") == 30:
        with pytest.raises(Refused):
            Tokens(settings(leeway_seconds=0)).verify(token(**good))


async def test_the_client_learns_the_same_of_every_attack(shared_db_url: str) -> None:
    answers = set()
    async with guarded(shared_db_url, failures_per_minute=1000) as client:
        assert (await client.get("/openapi.json", headers=bearer(token()))).status_code == 200
        for name, make in ATTACKS.items():
            if name != "line end":  # no client could send it
                answer = await client.get("/openapi.json", headers=bearer(make()))
                told = answer.json()
                del told["instance"]
                answers.add((answer.status_code, answer.headers["www-authenticate"], json.dumps(told)))
    [(status, challenge, _)] = answers
    assert (status, challenge) == (401, 'Bearer realm="tandem", error="invalid_token"')


# --- public keys ------------------------------------------------------------


def test_a_public_key_is_no_shared_secret(public_key: Path) -> None:
    good = jwt.encode(claims(), RSA, algorithm="RS256")
    assert by_public_key(public_key).verify(good).subject == "ann"
    for secret in (pem(RSA), pem(RSA).strip(), b""):
        with pytest.raises(Refused, match="algorithm"):
            by_public_key(public_key).verify(signed(HEADER, claims(), secret))
    with pytest.raises(Refused, match="signature"):
        by_public_key(public_key).verify(jwt.encode(claims(), OTHER, algorithm="RS256"))
    with pytest.raises(Refused, match="algorithm"):
        by_public_key(public_key).verify(jwt.encode(claims(), RSA, algorithm="RS512"))
    with pytest.raises(Refused, match="algorithm"):
        by_public_key(public_key).verify(jwt.encode(claims(), RSA, algorithm="PS256"))


@pytest.mark.parametrize(("key", "algorithm"), [(CURVE, "ES256"), (EDWARDS, "EdDSA"), (RSA, "PS256")])
def test_other_kinds_of_keys_work(tmp_path: Path, key: Any, algorithm: str) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(pem(key))
    verifier = by_public_key(file, algorithms=(algorithm,))
    assert verifier.verify(jwt.encode(claims(), key, algorithm=algorithm)).subject == "ann"
    with pytest.raises(Refused):
        verifier.verify(jwt.encode(claims(), OTHER, algorithm="RS256"))


def entry(key: Any, name: str, algorithm: str) -> dict[str, Any]:
    """A key of a JWK set."""
    made: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return made | {"kid": name, "alg": algorithm, "use": "sig"}


@pytest.fixture
def key_set(tmp_path: Path) -> Iterator[Tokens]:
    """A verifier for a set of two keys, and one that everybody knows."""
    shared = {"kty": "oct", "kid": "shared", "alg": "HS256", "k": part(SECRET.encode())}
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [entry(RSA, "new", "RS256"), entry(CURVE, "old", "ES256"), shared]}))
    yield by_public_key(file, algorithms=("RS256", "ES256"))


def test_each_key_of_a_set_takes_its_own_algorithm_alone(key_set: Tokens) -> None:
    def made(key: Any, algorithm: str, name: str | None) -> str:
        return jwt.encode(claims(), key, algorithm=algorithm, headers={"kid": name} if name else None)

    assert key_set.verify(made(RSA, "RS256", "new")).subject == "ann"
    assert key_set.verify(made(CURVE, "ES256", "old")).subject == "ann"
    for bent in [
        made(RSA, "RS256", "old"),
        made(CURVE, "ES256", "new"),
        made(RSA, "RS256", None),
        made(RSA, "RS256", "../new"),
        made(RSA, "RS256", "new' OR '1'='1"),
        made(OTHER, "RS256", "https://attacker.example/new"),
        made(OTHER, "RS256", "new"),
        made(SECRET, "HS256", "shared"),
        made(SECRET, "HS256", "new"),
    ]:
        with pytest.raises(Refused):
            key_set.verify(bent)


@pytest.mark.parametrize(
    "text", ["", "no key", "{}", '{"keys": []}', "{", '{"keys": [{"kty": "oct", "k": "YQ"}]}']
)
def test_a_file_without_a_fitting_key_is_told_at_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="neither a PEM public key nor a JWK set"):
        by_public_key(file)
    with pytest.raises(ConfigurationError, match="neither"):
        by_public_key(tmp_path / "nowhere")


# --- settings and claims ------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithms": ()},
        {"algorithms": ("none",)},
        {"algorithms": ("RS256",)},
        {"algorithms": ("HS256", "RS256")},
        {"secret": None, "key_file": "k.pem", "algorithms": ("RS256", "HS256")},
        {"key_file": "k.pem"},
        {"issuer": ""},
        {"audience": ""},
        {"secret": "short"},
        {"secret": "x" * 63, "algorithms": ("HS512",)},
    ],
)
def test_settings_that_would_open_a_door_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**changes)


def test_without_a_key_no_token_is_taken() -> None:
    assert not JwtSettings().enabled
    with pytest.raises(ConfigurationError):
        Tokens(JwtSettings())


def test_claims_have_the_names_that_the_settings_give_them() -> None:
    statements: dict[str, Any] = {"realm": {"roles": ["user", 7]}, "https://x.example/customer": "acme"}
    statements |= {"plan": "vip", "scope": "jobs:read a:*"}
    verifier = Tokens(
        settings(roles_claim="realm.roles", customer_claim="https://x.example/customer", tier_claim="plan",
                 scopes_claim="scope")
    )  # fmt: skip
    caller = verifier.verify(signed(HEADER, claims(**statements)))
    assert caller.roles == {"user"}
    assert (caller.customer, caller.tier, set(caller.scopes)) == ("acme", "vip", {"jobs:read", "a:*"})
    assert caller.claims["plan"] == "vip"


@pytest.mark.parametrize("odd", [7, True, ["a"], {"a": 1}, "", "a\nb", "x" * 300, None])
def test_odd_statements_count_as_none(odd: Any) -> None:
    caller = Tokens(settings()).verify(token(customer=odd, tier=odd))
    assert (caller.customer, caller.tier, set(caller.roles)) == (None, None, {"user"})


def test_a_token_without_scopes_may_nothing_where_scopes_are_asked_for() -> None:
    verifier = Tokens(settings(scopes_claim="scope"))
    assert not verifier.verify(token(roles=["admin"])).may("jobs:read")
    assert verifier.verify(token(roles=["admin"], scope="jobs:read")).may("jobs:read")


async def test_where_no_key_is_set_a_token_is_no_credential(shared_db_url: str) -> None:
    async with serving(shared_db_url, guarded_settings(jwt=JwtSettings())) as client:
        assert (await client.get("/openapi.json", headers=bearer(token()))).status_code == 401
