"""The hash chain of the audit log: what is hashed, what is signed, how the end of a batch is written. Knows no SQL.

Each hash is SHA-256 over the one before it and the entry's canonical bytes; ends of batches are signed (Ed25519).
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FIELDS: Final = ("id", "at", "xid", "actor", "action", "topic", "group_name", "items", "detail")
START: Final = b""


def next_hash(before: bytes, seq: int, entry: Mapping[str, Any]) -> bytes:
    """The chain's hash at `seq`: canonical JSON, keys sorted, no spaces, UTF-8."""
    said = json.dumps(
        [seq, *(entry[name] for name in FIELDS)], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(before + said.encode()).digest()


@dataclass(frozen=True, slots=True)
class Head:
    """The signed end of a batch."""

    seq: int
    hash: bytes
    xid_end: str
    sealed_at: str
    key_id: str
    signature: bytes = b""

    def message(self) -> bytes:
        """What is signed."""
        parts = [self.seq, self.hash.hex(), self.xid_end, self.sealed_at, self.key_id]
        return b"tandem-audit-head\n" + json.dumps(parts, separators=(",", ":")).encode()

    def line(self) -> str:
        """As a line of the file outside the database."""
        return json.dumps(
            {
                "seq": self.seq,
                "hash": self.hash.hex(),
                "xid_end": self.xid_end,
                "sealed_at": self.sealed_at,
                "key_id": self.key_id,
                "signature": self.signature.hex(),
            }
        )

    @classmethod
    def read(cls, line: str) -> "Head":
        """Raises ValueError or KeyError for what is no head."""
        told = json.loads(line)
        return cls(
            int(told["seq"]),
            bytes.fromhex(told["hash"]),
            str(told["xid_end"]),
            str(told["sealed_at"]),
            str(told["key_id"]),
            bytes.fromhex(told["signature"]),
        )


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


class Heads:
    """The file of heads outside the database: appended, flushed, never rewritten."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "heads.jsonl"

    def read(self) -> Iterator[Head]:
        """All heads, in the order written. Raises ValueError or KeyError for a line that is none."""
        if self._file.exists():
            for line in self._file.read_text().splitlines():
                yield Head.read(line)

    def last_seq(self) -> int:
        """Where the file ends; 0 when it is empty."""
        return max((head.seq for head in self.read()), default=0)

    def append(self, heads: list[Head]) -> None:
        """Append and flush to the disk."""
        with self._file.open("a") as file:
            file.writelines(head.line() + "\n" for head in heads)
            file.flush()
            os.fsync(file.fileno())

    def is_signed(self, head: Head) -> bool:
        """Whether a key of this folder signed it."""
        place = self._folder / f"{head.key_id}.pub"
        if not head.key_id.isalnum() or not place.exists():
            return False
        key = serialization.load_pem_public_key(place.read_bytes())
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
