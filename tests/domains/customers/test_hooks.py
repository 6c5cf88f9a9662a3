"""Secrets of webhooks at rest: sealed with a key, plain without one, rotated, and of no use in another's row."""

import asyncio
import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.config import TopicSettings
from app.database.connect import connect
from app.domains.customers import administration, hooks
from app.errors import ConfigurationError
from app.observability.doctor import secrets as secrets_check
from app.queue.retry import HandlerError
from app.queue.sealing import Keyring, load_keyring
from tests.domains.customers.test_notifications import receiving
from tests.observability.test_doctor import found
from tests.support.command_line import facts
from tests.support.conversations import read, write
from tests.support.customers import make_settings, submit, working
from tests.support.waiting import eventually_async

STORED = "SELECT customer_id, webhook_secret FROM customers WHERE webhook_secret IS NOT NULL ORDER BY 1"


def keys(current: str, *names: str) -> str:
    """A key file."""
    made = {name: base64.b64encode(name.encode().ljust(32, b"k")).decode() for name in names}
    return json.dumps({hooks.KEYS: {"current": current, "keys": made}})


def ring(current: str, *names: str) -> Keyring:
    """Its keyring."""
    return load_keyring(None, SecretStr(keys(current, *names)))


async def hook(url: str, customer: str, keyring: Keyring) -> str:
    """Give a customer a webhook; answers its secret."""
    changes = {"tier": "pro", "notify_by": "webhook", "webhook_url": f"https://example.org/{customer}"}
    async with await connect(url, name="test") as connection:
        _, secret = await administration.set_customer(
            connection, customer, changes, actor="test", ring=keyring
        )
    assert secret is not None
    return secret


def stored(url: str) -> dict[str, str]:
    """What the database holds."""
    return dict(read(url, STORED))


async def test_a_secret_is_sealed_with_a_key_and_plain_without_one(db_url: str) -> None:
    assert (await found(secrets_check.check_secrets, db_url)).verdict == "ok"
    sealed, plain = await hook(db_url, "ann", ring("a", "a")), await hook(db_url, "ben", hooks.PLAIN)
    held = stored(db_url)
    assert held["ben"] == plain
    assert sealed not in held["ann"]
    assert hooks.unseal(ring("b", "a", "b"), "ann", held["ann"]) == sealed
    told = await found(secrets_check.check_secrets, db_url)
    assert (told.verdict, told.facts) == ("warn", {"secrets": 2, "plain": 1})
    assert "tandem customers seal-secrets" in told.remedy


async def test_in_anothers_row_or_without_its_key_it_opens_nothing(db_url: str) -> None:
    await hook(db_url, "ann", ring("a", "a"))
    held = stored(db_url)["ann"]
    for keyring, customer, code in (
        (ring("a", "a"), "ben", "webhook-secret-forged"),
        (ring("b", "b"), "ann", "webhook-secret-sealed"),
        (hooks.PLAIN, "ann", "webhook-secret-sealed"),
    ):
        with pytest.raises(HandlerError) as refused:
            hooks.unseal(keyring, customer, held)
        assert (refused.value.code, refused.value.error_class) == (code, "permanent")


async def test_rotation_seals_the_plain_and_the_old_and_names_the_lost(
    db_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = await hook(db_url, "ann", ring("a", "a"))
    plain = await hook(db_url, "ben", hooks.PLAIN)
    await hook(db_url, "cam", ring("gone", "gone"))
    monkeypatch.setenv("DATABASE_URL", db_url)
    file = tmp_path / "keys.json"
    file.write_text(keys("b", "a", "b"))
    monkeypatch.setenv("TANDEM_TOPICS__KEY_FILE", str(file))
    done = await asyncio.to_thread(facts, "customers", "seal-secrets")
    assert done == {"sealed": 2, "lost": ["cam"]}
    held, new = stored(db_url), ring("b", "b")
    assert (hooks.unseal(new, "ann", held["ann"]), hooks.unseal(new, "ben", held["ben"])) == (old, plain)
    again: dict[str, Any] = await asyncio.to_thread(facts, "customers", "seal-secrets")
    assert again == {"sealed": 0, "lost": ["cam"]}
    audit = read(db_url, "SELECT after FROM customer_audit WHERE action = 'customer.seal-secrets'")
    assert [after["customers"] for (after,) in audit] == [["ann", "ben"]]
    with pytest.raises(ConfigurationError, match="@webhooks"):
        hooks.check_key(hooks.PLAIN)


async def test_a_sealed_secret_signs_what_is_sent(db_url: str) -> None:
    keyring = ring("a", "a")
    secret = await hook(db_url, "ann", keyring)
    await submit(db_url, "ann", "pro")
    async with receiving() as receiver:
        write(db_url, "UPDATE customers SET webhook_url = %s", receiver.url)
        settings = make_settings(notifications={"webhook_private_addresses": True})
        sealing = TopicSettings(keys=SecretStr(keys("a", "a")))
        settings = settings.model_copy(update={"topics": sealing})
        async with working(db_url, settings, sweep=True):
            await eventually_async(lambda: len(receiver.calls) > 0, timeout=30)
    headers, body = receiver.calls[0]
    said = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.digest(key, said, "sha256")).decode()
