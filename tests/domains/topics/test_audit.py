"""The audit log: everything is written down, sealed into a chain, and whatever is done to it afterwards is found."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.domains.topics import audit, repository
from app.domains.topics.chain import Heads
from app.domains.topics.signing import Signer
from tests.support import topics
from tests.support.waiting import eventually_async


@pytest.fixture
async def connection(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A connection of the sweeper's kind."""
    async with await connect(db_url, name="test") as opened:
        yield opened


@pytest.fixture
async def sealed(connection: BoundedAsyncConnection, tmp_path: Path) -> Path:
    """Twelve entries, sealed in three batches; answers the folder of heads."""
    for batch in range(3):
        for number in range(4):
            await repository.write_audit(
                connection, actor="a", action="publish", topic="t", items=batch, detail={"n": number}
            )
        await seal(connection, tmp_path, 4)
    verdict = await audit.verify(connection, tmp_path)
    assert verdict.good and verdict.sealed == 12 and verdict.heads >= 3
    return tmp_path


async def seal(connection: BoundedAsyncConnection, folder: Path, count: int) -> None:
    """Seal until so many are: transactions of other databases of the server hold it up."""
    left = count

    async def done() -> bool:
        nonlocal left
        left -= await audit.seal(connection, folder)
        return left == 0

    await eventually_async(done)


async def tamper(connection: BoundedAsyncConnection, statement: str, *ids: int) -> None:
    """As somebody who owns the database would: past the triggers."""
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(statement.format(*ids).encode())


async def entry_at(connection: BoundedAsyncConnection, seq: int) -> int:
    cursor = await connection.execute("SELECT entry_id FROM tandem.audit_chain WHERE seq = %s", (seq,))
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("table", ["audit_entry", "audit_chain", "audit_head"])
@pytest.mark.parametrize("change", ["DELETE FROM tandem.{}", "TRUNCATE tandem.{}", "UPDATE tandem.{} SET {}"])
def test_nothing_is_changed_or_removed(
    tx: psycopg.Connection[tuple[object]], table: str, change: str
) -> None:
    column = "actor = 'x'" if table == "audit_entry" else "hash = 'x'"
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        tx.execute(change.format(table, column).encode())


async def test_an_edited_entry_is_named(connection: BoundedAsyncConnection, sealed: Path) -> None:
    entry = await entry_at(connection, 6)
    await tamper(connection, "UPDATE tandem.audit_entry SET actor = 'somebody else' WHERE id = {}", entry)
    verdict = await audit.verify(connection, sealed)
    assert (verdict.good, verdict.bad_seq, verdict.bad_entry) == (False, 6, entry)
    assert "changed" in verdict.reason


async def test_a_deleted_entry_is_named(connection: BoundedAsyncConnection, sealed: Path) -> None:
    entry = await entry_at(connection, 3)
    await tamper(connection, "DELETE FROM tandem.audit_entry WHERE id = {}", entry)
    verdict = await audit.verify(connection, sealed)
    assert (verdict.bad_seq, verdict.bad_entry) == (3, entry)
    await tamper(connection, "DELETE FROM tandem.audit_chain WHERE seq = 3")
    assert (await audit.verify(connection, sealed)).bad_seq == 3


async def test_two_entries_that_changed_places_are_found(
    connection: BoundedAsyncConnection, sealed: Path
) -> None:
    swap = (
        "UPDATE tandem.audit_entry AS e SET detail = o.detail, items = o.items FROM tandem.audit_entry AS o"
        " WHERE (e.id, o.id) IN (({0}, {1}), ({1}, {0}))"
    )
    pair = (await entry_at(connection, 5), await entry_at(connection, 7))
    await tamper(connection, swap, *pair)
    assert (await audit.verify(connection, sealed)).bad_seq == 5
    await tamper(connection, swap, *pair)
    assert (await audit.verify(connection, sealed)).good
    await tamper(
        connection,
        "UPDATE tandem.audit_chain SET entry_id = -entry_id WHERE seq IN (2, 3);"
        "UPDATE tandem.audit_chain AS c SET entry_id = -o.entry_id FROM tandem.audit_chain AS o"
        " WHERE (c.seq, o.seq) IN ((2, 3), (3, 2)) AND o.entry_id < 0",
    )
    assert (await audit.verify(connection, sealed)).bad_seq == 2


async def test_a_cut_tail_is_found_by_the_heads_outside(
    connection: BoundedAsyncConnection, sealed: Path
) -> None:
    await tamper(
        connection,
        "DELETE FROM tandem.audit_entry WHERE id IN (SELECT entry_id FROM tandem.audit_chain WHERE seq > 8);"
        "DELETE FROM tandem.audit_chain WHERE seq > 8; DELETE FROM tandem.audit_head WHERE seq > 8",
    )
    verdict = await audit.verify(connection, sealed)
    assert (verdict.good, verdict.sealed, verdict.bad_seq) == (False, 8, 9)
    assert "tail" in verdict.reason


async def test_a_chain_that_was_written_anew_is_found(
    connection: BoundedAsyncConnection, sealed: Path, tmp_path: Path
) -> None:
    entry = await entry_at(connection, 4)
    await tamper(connection, "UPDATE tandem.audit_entry SET items = 99 WHERE id = {}", entry)
    await tamper(connection, "TRUNCATE tandem.audit_chain, tandem.audit_head")
    other = tmp_path / "forger"
    await seal(connection, other, 12)
    assert (await audit.verify(connection, other)).good  # a forger's own heads prove nothing
    assert not (await audit.verify(connection, sealed)).good


async def test_a_forged_head_and_an_entry_slipped_in_are_found(
    connection: BoundedAsyncConnection, sealed: Path
) -> None:
    await tamper(
        connection,
        "INSERT INTO tandem.audit_entry (at, xid, actor, action) VALUES (now(), '3'::xid8, 'x', 'publish')",
    )
    assert "slipped" in (await audit.verify(connection, sealed)).reason
    await tamper(connection, "UPDATE tandem.audit_head SET hash = 'forged' WHERE seq = 8")
    assert "signature" in (await audit.verify(connection, sealed)).reason


async def test_late_commits_are_sealed_and_heads_that_were_not_exported_follow(
    connection: BoundedAsyncConnection, db_url: str, tmp_path: Path
) -> None:
    async with await connect(db_url, name="late", autocommit=False) as late:
        await repository.write_audit(late, actor="late", action="publish", topic="t")
        await repository.write_audit(connection, actor="early", action="publish", topic="t")
        assert await audit.seal(connection, tmp_path) == 0  # behind a transaction that runs
        await late.commit()
    await seal(connection, tmp_path, 2)
    (tmp_path / "heads.jsonl").unlink()
    assert await audit.seal(connection, tmp_path) == 0
    assert Heads(tmp_path).last_seq() == 2
    assert (await audit.verify(connection, tmp_path)).good


async def test_two_sealers_never_fork_the_chain(
    connection: BoundedAsyncConnection, db_url: str, tmp_path: Path
) -> None:
    for number in range(20):
        await repository.write_audit(connection, actor="a", action="publish", topic="t", items=number)
    sealed = 0

    async def both() -> bool:
        nonlocal sealed
        sealed += sum(await asyncio.gather(audit.seal(connection, tmp_path), audit.seal(other, tmp_path)))
        return sealed >= 20

    async with await connect(db_url, name="other") as other:
        await eventually_async(both)
    assert sealed == 20
    assert (await audit.verify(connection, tmp_path)).good


def test_the_signing_key_is_nobody_elses(db_url: str, tmp_path: Path) -> None:
    Signer(tmp_path)
    assert (tmp_path / "signing_key.pem").stat().st_mode & 0o077 == 0
    assert topics.rows(db_url, "SELECT count(*) AS n FROM tandem.audit_entry")[0].n == 0
