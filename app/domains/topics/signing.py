"""Signs the heads of the audit log's chain (Ed25519), and checks signatures. chain.py knows what a head is."""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from app.domains.topics.chain import Head


class Signer:
    """Signs heads with the key in a file, which is made (mode 0600) when it is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / "signing_key.pem"
        if not place.exists():
            _write_key(place)
        loaded = serialization.load_pem_private_key(place.read_bytes(), password=None)
        if not isinstance(loaded, Ed25519PrivateKey):
            raise ValueError(f"{place} is no Ed25519 key")
        self._key = loaded
        self.key_id = key_id(loaded.public_key())
        public = folder / f"{self.key_id}.pub"
        if not public.exists():
            public.write_bytes(_public_bytes(loaded.public_key()))

    def sign(self, seq: int, hashed: bytes, xid_end: str) -> Head:
        """The head of a batch that ends now."""
        plain = Head(seq, hashed, xid_end, datetime.now(UTC).isoformat(), self.key_id)
        return Head(seq, hashed, xid_end, plain.sealed_at, self.key_id, self._key.sign(plain.message()))


def is_signed(head: Head, public: bytes) -> bool:
    """Whether this is the key that the head names, and its signature."""
    key = serialization.load_pem_public_key(public)
    if not isinstance(key, Ed25519PublicKey) or key_id(key) != head.key_id:
        return False
    try:
        key.verify(head.signature, head.message())
    except InvalidSignature:
        return False
    return True


def key_id(key: Ed25519PublicKey) -> str:
    """16 hex digits that name a key."""
    return hashlib.sha256(_public_bytes(key)).hexdigest()[:16]


def _public_bytes(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _write_key(place: Path) -> None:
    key = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key)
