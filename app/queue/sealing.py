"""Optional encryption of payloads: AES-256-GCM under keys of a topic, from a file; each message names its key.

Rotation is a new current key; what an old one sealed stays readable until that key is deleted (crypto-shredding).
"""

import base64
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pydantic import SecretStr

from app.client.encoding import encode_json
from app.client.job import PAYLOAD_LIMIT_BYTES
from app.errors import ConfigurationError
from app.queue.retry import HandlerError

SEALED: Final = "tandem_sealed"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12


@dataclass(frozen=True)
class Keyring:
    """Keys by topic and id, and the id that seals now. Empty: nothing is encrypted."""

    keys: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    current: Mapping[str, str] = field(default_factory=dict)

    def seal(self, topic: str, body: Any, identity: str | None = None) -> Any:
        """The body as it is stored. With `identity` (a message id or dedup key) a repeat gives the same bytes.

        The nonce is then derived from key, identity and body (as in RFC 8452): it repeats for the same message only.
        """
        if topic not in self.current:
            return body
        key_id = self.current[topic]
        key = self.keys[topic][key_id]
        plain = encode_json(body, limit=PAYLOAD_LIMIT_BYTES, what="message").encode()
        nonce = secrets.token_bytes(NONCE_BYTES)
        if identity is not None:
            nonce = hmac.digest(key, b"nonce\0" + identity.encode() + b"\0" + plain, "sha256")[:NONCE_BYTES]
        data = _cipher().encrypt(key, nonce, plain, _bound(topic, key_id))
        return {SEALED: {"v": 1, "key": key_id, "data": base64.b64encode(nonce + data).decode()}}

    def unseal(self, topic: str, body: Any) -> Any:
        """The body as it was published; what is not sealed passes. Raises HandlerError (permanent) without its key."""
        if not (isinstance(body, dict) and set(body) == {SEALED} and isinstance(body[SEALED], dict)):
            return body
        key_id = str(body[SEALED].get("key"))
        key = self.keys.get(topic, {}).get(key_id)
        if key is None:
            message = f"the key {key_id!r} of topic {topic} is gone: the message cannot be read any more"
            raise HandlerError(message, error_class="permanent", code="message-shredded")
        try:
            raw = base64.b64decode(str(body[SEALED].get("data")), validate=True)
            plain = _cipher().decrypt(key, raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound(topic, key_id))
        except ValueError:
            message = f"a message of topic {topic} does not fit its key: it was changed"
            raise HandlerError(message, error_class="permanent", code="message-forged") from None
        return json.loads(plain)


@lru_cache(maxsize=4)
def load_keyring(file: Path | None, text: SecretStr | None = None) -> Keyring:
    """The keys of JSON in a file or as text: {topic: {"current": id, "keys": {id: base64 of 32 bytes}}}.

    Raises ConfigurationError for what does not fit, and for both at once.
    """
    if file is None and text is None:
        return Keyring()
    if file is not None and text is not None:
        raise ConfigurationError("invalid-keys", "set either TANDEM_TOPICS__KEY_FILE or TANDEM_TOPICS__KEYS")
    try:
        told = json.loads(text.get_secret_value() if text else file.read_text() if file else "{}")
        keys = {
            topic: {name: base64.b64decode(text, validate=True) for name, text in one["keys"].items()}
            for topic, one in told.items()
        }
        current = {topic: str(one["current"]) for topic, one in told.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            "invalid-keys", f"the keys of topics do not fit: {type(error).__name__}"
        ) from None
    for topic, name in current.items():
        if name not in keys[topic] or any(len(key) != KEY_BYTES for key in keys[topic].values()):
            raise ConfigurationError(
                "invalid-keys", f"topic {topic}: `current` names a key, and keys have 32 bytes"
            )
    return Keyring(keys, current)


def _bound(topic: str, key_id: str) -> bytes:
    """What a ciphertext belongs to: moved to another topic it is worth nothing."""
    return f"tandem topic {topic} key {key_id}".encode()


def _cipher() -> ModuleType:
    # layout: late-import - most processes never see a sealed payload
    from app.queue import cipher  # noqa: PLC0415

    return cipher
