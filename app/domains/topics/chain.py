"""The hash chain of the audit log: what is hashed, what is signed, how the end of a batch is written. Knows no SQL.

Each hash is SHA-256 over the one before it and the entry's canonical bytes; ends of batches are signed (Ed25519).
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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
        # layout: late-import - signing brings `cryptography`, and only the leader of the sweep signs
        from app.domains.topics import signing  # noqa: PLC0415

        return signing.is_signed(head, place.read_bytes())
