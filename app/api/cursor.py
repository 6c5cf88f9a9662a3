"""Signed cursors: where the next page of a list begins, in a form that only we can make. Knows nothing of jobs."""

import base64
import binascii
import hmac
import re
import secrets
from hashlib import sha256

from app.errors import InvalidInput

_FORM = re.compile(r"[A-Za-z0-9_-]{32}\Z")
_PLACE_BYTES = 8
_MAC_BYTES = 16


class Cursors:
    """Makes and reads cursors under one key. Without a key it takes a random one, which no other process knows."""

    def __init__(self, key: str | None = None) -> None:
        self._key = sha256(key.encode()).digest() if key is not None else secrets.token_bytes(32)

    def make(self, place: int, scope: str) -> str:
        """A cursor for `place`, good only for the list that `scope` describes (its name and filters)."""
        raw = place.to_bytes(_PLACE_BYTES)
        return base64.urlsafe_b64encode(raw + self._sign(raw, scope)).decode()

    def read(self, cursor: str, scope: str) -> int:
        """The place. Raises InvalidInput (bad-cursor) for one that we did not make, or made for another list."""
        try:
            raw = base64.urlsafe_b64decode(cursor) if _FORM.match(cursor) else b""
        except binascii.Error:
            raw = b""
        place, mac = raw[:_PLACE_BYTES], raw[_PLACE_BYTES:]
        if not hmac.compare_digest(mac, self._sign(place, scope)):
            raise InvalidInput(
                "bad-cursor", "the cursor is not one of this list: begin again without, with the same filters"
            )
        return int.from_bytes(place)

    def _sign(self, place: bytes, scope: str) -> bytes:
        return hmac.digest(self._key, place + scope.encode(), "sha256")[:_MAC_BYTES]
