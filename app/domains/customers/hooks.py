"""Secrets of customers' webhooks at rest: sealed under keys of the key file, plain where it names none for them.

A sealed secret belongs to its customer: in another's row it opens nothing.
"""

import json
from typing import Any, Final, NamedTuple

from psycopg import AsyncConnection

from app.config import Settings
from app.domains.customers import repository
from app.errors import ConfigurationError
from app.outbound.webhook import make_secret
from app.queue.retry import HandlerError
from app.queue.sealing import SEALED, Keyring, load_keyring

KEYS: Final = "@webhooks"
"""Their entry in the key file (docs/topics.md): no topic has such a name."""
PLAIN: Final = Keyring()
"""No keys: secrets are stored as they are."""
AT_ONCE: Final = 500


def keyring(settings: Settings) -> Keyring:
    """The keys of this process. Raises ConfigurationError."""
    return load_keyring(settings.topics.key_file, settings.topics.keys)


def check_key(ring: Keyring) -> None:
    """Raise ConfigurationError unless there is a key that seals."""
    if KEYS not in ring.current:
        raise ConfigurationError("no-key", f"the key file names no keys for {KEYS!r}: see docs/customers.md")


def new_secret(ring: Keyring, customer_id: str) -> tuple[str, str]:
    """A fresh secret: as it is told once, and as it is stored."""
    secret = make_secret()
    return secret, seal(ring, customer_id, secret)


def seal(ring: Keyring, customer_id: str, secret: str) -> str:
    """The secret as it is stored: sealed, or plain without keys."""
    if KEYS not in ring.current:
        return secret
    return json.dumps(ring.seal(KEYS, {"customer": customer_id, "secret": secret}))


def unseal(ring: Keyring, customer_id: str, stored: str) -> str:
    """The secret that signs. Raises HandlerError (permanent) without its key, or when it is another customer's."""
    if not stored.startswith("{"):
        return stored
    try:
        body = ring.unseal(KEYS, json.loads(stored))
    except HandlerError as error:
        raise HandlerError(
            "the webhook's secret cannot be opened: its key is gone, or it was changed; "
            "set the address again for a new one",
            error_class="permanent",
            code="webhook-secret-sealed",
        ) from error
    if body["customer"] != customer_id:
        raise HandlerError(
            "the webhook's secret is another customer's",
            error_class="permanent",
            code="webhook-secret-forged",
        )
    return str(body["secret"])


def is_current(ring: Keyring, stored: str) -> bool:
    """Whether it is sealed under the key that seals now."""
    if not stored.startswith("{"):
        return False
    return bool(json.loads(stored)[SEALED]["key"] == ring.current.get(KEYS))


class Resealed(NamedTuple):
    """How many secrets were sealed anew, and whose could not be opened."""

    sealed: int
    lost: list[str]


async def seal_all(connection: AsyncConnection[Any], ring: Keyring, *, actor: str) -> Resealed:
    """Seal what is plain or under an old key with the current one, in batches. Safe to repeat."""
    after, sealed = "", 0
    lost = list[str]()
    while True:
        async with connection.transaction():
            rows = await repository.lock_webhook_secrets(connection, after=after, most=AT_ONCE)
            done = list[str]()
            for customer, stored in rows:
                if is_current(ring, stored):
                    continue
                try:
                    fresh = seal(ring, customer, unseal(ring, customer, stored))
                except HandlerError:
                    lost.append(customer)
                    continue
                await repository.write_webhook_secret(connection, customer, fresh)
                done.append(customer)
            if done:
                await repository.audit_change(
                    connection,
                    actor=actor,
                    action="customer.seal-secrets",
                    target="*",
                    before={},
                    after={"customers": done, "key": ring.current[KEYS]},
                )
        sealed += len(done)
        if len(rows) < AT_ONCE:
            return Resealed(sealed, lost)
        after = rows[-1][0]
