"""`tandem keys`: a key is shown once, works, is listed without its secret, and ends when it is revoked."""

import asyncio
import json

import pytest

from tests.support.command_line import facts, run
from tests.support.identities import bearer, guarded


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, db_url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", db_url)


async def test_a_key_from_its_making_to_its_end(db_url: str) -> None:
    def commands() -> tuple[str, str]:
        made = facts(
            "keys", "create", "billing", "--role", "operator", "--scope", "jobs:read", "--claim", "tier=vip"
        )
        return made["key"], made["id"]

    key, key_id = await asyncio.to_thread(commands)
    async with guarded(db_url, key_cache_seconds=0.001) as client:
        assert (await client.get("/v1/jobs", headers=bearer(key))).status_code == 200
        assert (await client.get("/metrics", headers=bearer(key))).status_code == 403
        await asyncio.to_thread(facts, "keys", "revoke", key_id)
        assert (await client.get("/v1/jobs", headers=bearer(key))).status_code == 401
    [listed] = (await asyncio.to_thread(facts, "keys", "list"))["keys"]
    assert (listed["state"], listed["roles"], listed["claims"]) == ("revoked", ["operator"], {"tier": "vip"})
    assert listed["expires_at"] > listed["created_at"]
    assert listed["last_used_at"] is not None
    secret = key.rpartition(f"{key_id}_")[2]
    assert secret not in json.dumps(listed)


def test_tables_for_people_show_the_key_once() -> None:
    code, said = run("keys", "create", "ann@example", "--role", "user", "--expires", "never")
    assert code == 0
    key = said.split()[0]
    code, listed = run("keys", "list")
    assert (code, "ann@example" in listed, key in listed) == (0, True, False)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("a", "--role", "root"), "choose from admin"),
        (("a", "--role", "user", "--scope", "everything"), "like jobs:read"),
        (("a b", "--role", "user"), "1 to 64 letters"),
    ],
)
def test_odd_wishes_are_explained(arguments: tuple[str, ...], why: str) -> None:
    code, said = run("keys", "create", *arguments)
    assert code == 1
    assert why in said
    assert facts("keys", "list")["keys"] == []


@pytest.mark.parametrize(
    "arguments",
    [("a",), ("a", "--role", "user", "--claim", "x"), ("a", "--role", "user", "--expires", "soon")],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert run("keys", "create", *arguments)[0] == 2


def test_an_unknown_key_cannot_be_revoked() -> None:
    code, said = run("keys", "revoke", "nobodyskey12")
    assert (code, "tandem keys list" in said) == (1, True)
