"""The statements of this application, one function per file in sql/queries/topics. Decides nothing."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from app.client.encoding import encode_json
from app.domains.topics.chain import Head
from app.queue.store import statement

Connection = AsyncConnection[Any]
Row = dict[str, Any]
DETAIL_LIMIT = 256 * 1024
COUNT_LIMIT = 100_000_000
PINNED = (
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),"
    " set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"
)
"""A claim outside a worker plans as a worker's does: by the index of the lane, whatever the statistics say."""


async def rows(connection: Connection, name: str, params: Mapping[str, Any]) -> list[Row]:
    """All rows of one statement as dicts."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(statement("topics", name), params)
    return await cursor.fetchall()


async def pin_plans(connection: Connection) -> None:
    """For the rest of the transaction."""
    await connection.execute(PINNED)


async def read_group(connection: Connection, topic: str, group: str) -> Row | None:
    """One group with its rules."""
    found = await rows(connection, "read_group", {"topic": topic, "group": group})
    return found[0] if found else None


async def list_groups(
    connection: Connection, *, topic: str | None = None, group: str | None = None
) -> list[Row]:
    """Groups with their lag."""
    return await rows(connection, "list_groups", {"topic": topic, "group": group, "most": COUNT_LIMIT})


def measure_groups(connection: psycopg.Connection[Any], *, most: int) -> list[Row]:
    """The same for gauges: counting ends at `most`."""
    cursor = connection.cursor(row_factory=dict_row)
    params = {"topic": None, "group": None, "most": most}
    return cursor.execute(statement("topics", "list_groups"), params).fetchall()


async def list_topics(connection: Connection, *, topic: str | None = None) -> list[Row]:
    """Topics with their rules."""
    return await rows(connection, "list_topics", {"topic": topic})


async def create_topic(connection: Connection, params: Mapping[str, Any]) -> int:
    """Make a topic unless it is there."""
    return int((await rows(connection, "create_topic", params))[0]["id"])


async def create_group(connection: Connection, params: Mapping[str, Any]) -> int:
    """Make a group unless it is there."""
    return int((await rows(connection, "create_group", params))[0]["id"])


async def order_group(
    connection: Connection, topic: str, group: str, *, ordered: bool, dead_head: str
) -> None:
    """Give a group order per key, or take it away."""
    params = {"topic": topic, "group": group, "ordered": ordered, "dead_head": dead_head}
    await connection.execute(statement("topics", "order_group"), params)


async def wake_group(connection: Connection, queue: str) -> None:
    """Wake the workers of a group at the commit."""
    await connection.execute(statement("topics", "wake_group"), {"queue": queue})


async def find_leases(connection: Connection, queue: str, receipts: Sequence[tuple[int, int]]) -> list[Row]:
    """Those of the (job, token) pairs that are leases of this queue, locked."""
    return await rows(connection, "find_leases", _pairs(queue, receipts))


async def find_acknowledged(
    connection: Connection, queue: str, receipts: Sequence[tuple[int, int]]
) -> set[int]:
    """Those of the (job, token) pairs that were acknowledged before."""
    return {row["job_id"] for row in await rows(connection, "find_acknowledged", _pairs(queue, receipts))}


async def read_bodies(connection: Connection, topic: str, positions: Sequence[int]) -> dict[int, str]:
    """Bodies as JSON text by position; what retention dropped is absent."""
    found = await rows(connection, "read_bodies", {"topic": topic, "positions": list(positions)})
    return {row["position"]: row["payload"] for row in found}


async def find_position(connection: Connection, topic: str, at: datetime) -> int:
    """The first position published at or after a time."""
    return int((await rows(connection, "find_position", {"topic": topic, "at": at}))[0]["position"])


async def request_fill(
    connection: Connection, topic: str, group: str, *, reason: str, first: int, last: int | None, by: str
) -> Row | None:
    """Ask for a replay of [first, last]."""
    params = {"topic": topic, "group": group, "reason": reason, "first": first, "last": last, "by": by}
    found = await rows(connection, "request_fill", params)
    return found[0] if found else None


async def open_fills(connection: Connection) -> list[int]:
    """Fills that have work to do."""
    return [row["id"] for row in await rows(connection, "open_fills", {})]


async def fill_topic(connection: Connection, fill: int, *, most: int) -> int | None:
    """Deliver the next messages of a fill; None when there is nothing to do for us."""
    delivered: int | None = (await rows(connection, "fill_topic", {"fill": fill, "most": most}))[0][
        "delivered"
    ]
    return delivered


async def find_partitions(
    connection: Connection, *, every: timedelta
) -> tuple[int, bool, list[int], set[tuple[int, int]]]:
    """(the partition in which positions stand, whether it is older than `every`, topic ids, (topic, number) pairs)."""
    row = (await rows(connection, "find_partitions", {"every": every}))[0]
    numbers = {tuple(map(int, name.split("_"))) for name in row["partitions"]}
    return row["current"], row["old"], row["topics"], {(topic, number) for topic, number in numbers}


async def add_partition(connection: Connection, topic_id: int, number: int) -> int:
    """Make one partition of a topic's log; 0 when it was there."""
    return int(
        (await rows(connection, "add_partition", {"topic_id": topic_id, "number": number}))[0]["added"]
    )


async def start_partition(connection: Connection, number: int) -> bool:
    """Let positions go on in that partition; False when they are there already."""
    return bool(await rows(connection, "start_partition", {"number": number}))


async def drop_partition(connection: Connection, topic_id: int, number: int) -> str:
    """Drop one partition if its time has come: young, unread or dropped."""
    params = {"topic_id": topic_id, "number": number}
    return str((await rows(connection, "drop_partition", params))[0]["outcome"])


async def expire_dedup(connection: Connection, *, most: int) -> int:
    """Forget message ids whose window is over; answers how many."""
    return len(await rows(connection, "expire_dedup", {"most": most}))


async def skip_waiting(connection: Connection, queue: str, *, most: int, reason: str) -> int:
    """End waiting deliveries as CANCELLED; answers how many."""
    return len(await rows(connection, "skip_waiting", {"queue": queue, "most": most, "reason": reason}))


async def see_consumer(connection: Connection, group_id: int, name: str) -> None:
    """Note that a program consumes."""
    await connection.execute(statement("topics", "see_consumer"), {"group_id": group_id, "name": name})


async def list_dead(
    connection: Connection,
    *,
    topic: str | None,
    group: str | None,
    before: tuple[datetime, int],
    most: int,
) -> list[Row]:
    """Dead letters as messages, the latest first."""
    params = {"topic": topic, "group": group, "most": most}
    return await rows(connection, "list_dead", params | {"died_before": before[0], "job_before": before[1]})


async def verify_group(connection: Connection, topic: str, group: str) -> Row:
    """The reconciliation of one group."""
    return (await rows(connection, "verify_group", {"topic": topic, "group": group}))[0]


async def write_audit(
    connection: Connection,
    *,
    actor: str,
    action: str,
    topic: str | None,
    group: str | None = None,
    items: int = 1,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Note what somebody did, in the transaction that does it."""
    text = encode_json(dict(detail or {}), limit=DETAIL_LIMIT, what="detail")
    params = {
        "actor": actor,
        "action": action,
        "topic": topic,
        "group": group,
        "items": items,
        "detail": text,
    }
    await connection.execute(statement("topics", "write_audit"), params)


async def lock_chain(connection: Connection) -> bool:
    """Be the one sealer until the transaction ends; False when another is."""
    return bool((await rows(connection, "lock_chain", {}))[0]["locked"])


async def tell_ends(connection: Connection, *, most: int) -> tuple[str, bool]:
    """Note how workers' tries of deliveries ended: (the xid where the batch ends, whether there is more)."""
    row = (await rows(connection, "tell_ends", {"most": most}))[0]
    return str(row["xid_end"]), bool(row["more"])


async def tell_publishes(connection: Connection, xid_end: str, *, actor: str) -> None:
    """Note publishes up to the batch's end that no entry tells of."""
    await connection.execute(statement("topics", "tell_publishes"), {"xid_end": xid_end, "actor": actor})


async def read_unsealed(connection: Connection, xid_end: str) -> list[Row]:
    """Entries to be chained now, in their order."""
    return await rows(connection, "read_unsealed", {"xid_end": xid_end})


async def write_chain(connection: Connection, links: Sequence[tuple[int, int, bytes]]) -> None:
    """Append (seq, entry id, hash) to the chain."""
    seqs, entries, hashes = ([link[n] for link in links] for n in range(3))
    params = {"seqs": seqs, "entry_ids": entries, "hashes": hashes}
    await connection.execute(statement("topics", "write_chain"), params)


async def write_head(connection: Connection, head: Head) -> None:
    """Write the signed end of a batch."""
    params = {name: getattr(head, name) for name in ("seq", "hash", "xid_end", "key_id", "signature")}
    sealed_at = datetime.fromisoformat(head.sealed_at)
    await connection.execute(statement("topics", "write_head"), {**params, "sealed_at": sealed_at})


async def read_heads(connection: Connection, *, after: int, most: int) -> list[Head]:
    """Signed ends of batches behind a place in the chain."""
    found = await rows(connection, "read_heads", {"after": after, "most": most})
    return [
        Head(
            row["seq"],
            bytes(row["hash"]),
            row["xid_end"],
            row["sealed_at"].astimezone(UTC).isoformat(),
            row["key_id"],
            bytes(row["signature"]),
        )
        for row in found
    ]


async def read_chain(connection: Connection, *, after: int, most: int) -> list[Row]:
    """A stretch of the chain with its entries."""
    return await rows(connection, "read_chain", {"after": after, "most": most})


async def find_unchained(connection: Connection) -> int | None:
    """An entry that was slipped in after its batch was sealed."""
    found = await rows(connection, "find_unchained", {})
    return found[0]["id"] if found else None


async def count_audit(connection: Connection, *, since: datetime, until: datetime) -> list[Row]:
    """What was done by whom to which topic."""
    return await rows(connection, "count_audit", {"since": since, "until": until})


async def write_grant(connection: Connection, principal: str, operation: str, topic: str, *, by: str) -> None:
    """Grant an operation on a topic."""
    params = {"principal": principal, "operation": operation, "topic": topic, "by": by}
    await connection.execute(statement("topics", "write_grant"), params)


async def delete_grant(connection: Connection, principal: str, operation: str, topic: str) -> None:
    """Take a grant back."""
    params = {"principal": principal, "operation": operation, "topic": topic}
    await connection.execute(statement("topics", "delete_grant"), params)


async def read_grants(connection: Connection, principal: str) -> set[tuple[str, str]]:
    """(operation, topic) pairs."""
    found = await rows(connection, "read_grants", {"principal": principal})
    return {(row["operation"], row["topic"]) for row in found}


def _pairs(queue: str, receipts: Sequence[tuple[int, int]]) -> dict[str, Any]:
    return {
        "queue": queue,
        "job_ids": [job for job, _ in receipts],
        "tokens": [token for _, token in receipts],
    }
