"""Sealing and verifying the audit log: entries are appended unchained, and chained in batches by the sweeper.

What workers did with deliveries, and publishes through a program's own connection, get their entries here.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import errors

from app.domains.topics import repository
from app.domains.topics.chain import START, Head, Heads, next_hash
from app.domains.topics.repository import Connection

if TYPE_CHECKING:
    from app.domains.topics.signing import Signer

PAGE = 1_000
ENDS_AT_ONCE = 2_000
"""Batches of ended deliveries that one batch of the chain tells of: a sweeper that was away catches up in steps."""
OWN_CONNECTION = "database"
"""The actor of publishes that programs made through their own connections: told by the log of messages."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found: how many entries are sealed, and the first thing that is wrong, if any."""

    sealed: int
    heads: int
    bad_seq: int | None = None
    bad_entry: int | None = None
    reason: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.reason


async def seal(connection: Connection, folder: Path) -> int:
    """Chain what has been settled since the last batch, sign its end, and export it; answers how many entries."""
    heads = Heads(folder)
    sealed, more = 0, True
    while more:
        count, more = await _seal_batch(connection, folder)
        sealed += count
    # After the commit, and all that the file lacks: a crash in between loses nothing.
    await _export(connection, heads)
    return sealed


async def _seal_batch(connection: Connection, folder: Path) -> tuple[int, bool]:
    """(entries sealed, whether more can be sealed behind them)."""
    try:
        async with connection.transaction():
            # One at a time: what is told lies before this batch's end, and must not fall behind another's.
            if not await repository.lock_chain(connection):
                return 0, False
            xid_end, more = await repository.tell_ends(connection, most=ENDS_AT_ONCE)
            await repository.tell_publishes(connection, xid_end, actor=OWN_CONNECTION)
            entries = await repository.read_unsealed(connection, xid_end)
            if entries:
                seq, hashed = entries[0]["last_seq"], bytes(entries[0]["last_hash"])
                rows = []
                for entry in entries:
                    seq, hashed = seq + 1, next_hash(hashed, seq + 1, entry)
                    rows.append((seq, entry["id"], hashed))
                await repository.write_chain(connection, rows)
                head = (await asyncio.to_thread(_signer, folder)).sign(seq, hashed, entries[0]["xid_end"])
                await repository.write_head(connection, head)
    except errors.UniqueViolation:
        return 0, False  # another sealer was faster
    return len(entries), more


def _signer(folder: Path) -> "Signer":
    # layout: late-import - it brings `cryptography`, and only the leader of the sweep signs, if there is anything
    from app.domains.topics.signing import Signer  # noqa: PLC0415

    return Signer(folder)


async def _export(connection: Connection, heads: Heads) -> None:
    after = await asyncio.to_thread(heads.last_seq)
    while found := await repository.read_heads(connection, after=after, most=PAGE):
        await asyncio.to_thread(heads.append, found)
        after = found[-1].seq


async def verify(connection: Connection, folder: Path) -> Verdict:
    """Walk the whole chain and compare it with the signed heads, in the database and outside."""
    heads = Heads(folder)
    expected: dict[int, bytes] = {}
    for head in await _all_heads(connection, heads):
        if not heads.is_signed(head):
            return Verdict(0, len(expected), head.seq, None, "a head's signature is not good")
        if expected.setdefault(head.seq, head.hash) != head.hash:
            return Verdict(0, len(expected), head.seq, None, "two heads name different hashes for one place")
    seq, hashed = 0, START
    while rows := await repository.read_chain(connection, after=seq, most=PAGE):
        for row in rows:
            seq += 1
            if row["seq"] != seq:
                return Verdict(seq - 1, len(expected), seq, None, "a link of the chain is missing")
            if row["id"] is None:
                return Verdict(seq - 1, len(expected), seq, row["entry_id"], "the entry was deleted")
            hashed = next_hash(hashed, seq, row)
            if hashed != bytes(row["hash"]):
                return Verdict(seq - 1, len(expected), seq, row["entry_id"], "the entry was changed or moved")
            if expected.get(seq, hashed) != hashed:
                reason = "the chain was written anew: its hash is not the one that was signed"
                return Verdict(seq - 1, len(expected), seq, row["entry_id"], reason)
    if expected and max(expected) > seq:
        reason = f"the tail is cut: a signed head says that the log went on to {max(expected)}"
        return Verdict(seq, len(expected), seq + 1, None, reason)
    slipped = await repository.find_unchained(connection)
    if slipped is not None:
        return Verdict(
            seq, len(expected), None, slipped, "the entry was slipped in after its batch was sealed"
        )
    return Verdict(seq, len(expected))


async def _all_heads(connection: Connection, heads: Heads) -> list[Head]:
    found, after = [], 0
    while page := await repository.read_heads(connection, after=after, most=PAGE):
        found += page
        after = page[-1].seq
    return sorted([*found, *await asyncio.to_thread(lambda: list(heads.read()))], key=lambda head: head.seq)
