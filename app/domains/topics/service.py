"""What callers can do with topics: publish, ask how they stand, retry dead letters, make them, pause, replay.

Knows no HTTP. `connection` commits each statement by itself unless a function opens a transaction.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final

import psycopg

from app import events
from app.client.aio import publish_many
from app.client.message import Message, Published
from app.domains.topics import consuming, repository
from app.domains.topics.errors import group_unknown, message_conflict, not_encrypted, topic_unknown
from app.domains.topics.facts import TopicConsumed, TopicPublished
from app.domains.topics.repository import Connection, Row
from app.domains.topics.schemas import Where
from app.errors import InvalidInput
from app.queue import admin
from app.queue.admission_store import AdmissionStore
from app.queue.kinds import Registry
from app.queue.limit_store import DeadHead

DEAD: Final = "dlq"
"""The name under which the dead letters of every topic can be read and retried."""
REDRIVE_AT_ONCE: Final = 1_000
REDRIVE_RATE: Final = 500.0
"""Dead letters per second: a replay of thousands must not become the next outage."""
SKIP_BATCH: Final = 5_000
FILL_BATCH: Final = 1_000
FILL_SECONDS: Final = 4.0
_BEGINNING: Final = 0
_END: Final = datetime(9999, 12, 31, tzinfo=UTC)


async def publish(
    connection: Connection, topic: str, messages: Sequence[Message], *, actor: str
) -> list[Published]:
    """Publish in one transaction with its audit entry. Raises NotFound, Conflict (then nothing is published)."""
    async with connection.transaction():
        try:
            made = await publish_many(connection, topic, messages, on_conflict="report")
        except psycopg.errors.UndefinedObject:
            raise topic_unknown() from None
        except psycopg.errors.InvalidParameterValue:
            raise not_encrypted() from None
        for one, message in zip(made, messages, strict=True):
            if one.conflict:
                raise message_conflict(message.dedup_key or str(message.message_id))
        fresh = [one for one in made if one.created]
        await repository.write_audit(
            connection,
            actor=actor,
            action="publish",
            topic=topic,
            items=len(fresh),
            detail={"positions": ranges([one.position for one in fresh]), "repeated": len(made) - len(fresh)},
        )
    events.publish(TopicPublished(topic, len(fresh)))
    return made


async def status(connection: Connection, topic: str | None) -> list[dict[str, Any]]:
    """Lag of the slowest group, consumers and dead letters per topic. Raises NotFound."""
    topics = await repository.list_topics(connection, topic=topic)
    if topic is not None and not topics:
        raise topic_unknown()
    groups = await repository.list_groups(connection, topic=topic)
    return [
        {
            "topic": one["topic"],
            "lag": max((g["lag"] for g in groups if g["topic"] == one["topic"]), default=0),
            "consumerCount": sum(g["consumers"] for g in groups if g["topic"] == one["topic"]),
            "dlqSize": sum(g["dead"] for g in groups if g["topic"] == one["topic"]),
        }
        for one in topics
    ]


async def retry_dead(
    connection: Connection,
    registry: Registry,
    topic: str,
    *,
    group: str | None,
    most: int | None,
    actor: str,
    rate: float | None = REDRIVE_RATE,
) -> tuple[int, int]:
    """Redrive dead letters, the oldest of each group first: (retried, errors). Raises NotFound.

    At most `most` (1,000 unless told otherwise), `rate` per second. Safe to repeat: what is redriven is no dead
    letter any more. The queue notes each transaction of it for the audit log.
    """
    wanted = None if topic == DEAD else topic
    groups = await repository.list_groups(connection, topic=wanted, group=group)
    if wanted is not None and not await repository.list_topics(connection, topic=wanted):
        raise topic_unknown()
    if group is not None and not groups:
        raise group_unknown()
    left = REDRIVE_AT_ONCE if most is None else most
    retried = errors = 0
    for one in groups:
        if left <= 0 or not one["dead"]:
            continue
        report = await admin.redrive_jobs(
            connection, registry, queue=one["queue"], limit=left, rate=rate, by=actor
        )
        retried, errors = retried + len(report.jobs), errors + len(report.failed)
        left -= len(report.jobs) + len(report.failed)
    return retried, errors


# --- consume -------------------------------------------------------------------------------------------------


async def consume(
    connection: Connection, group: Row, *, most: int, lease: timedelta, consumer: str, actor: str
) -> list[consuming.Delivered]:
    """Claim messages in one transaction with the audit entry."""
    async with connection.transaction():
        found = await consuming.claim_messages(connection, group, most=most, lease=lease, consumer=consumer)
        if found:
            positions = [one.envelope["position"] for one in found]
            await _note(connection, group, actor, "consume", positions, consumer=consumer)
    _count(group, "consumed", len(found))
    return found


async def acknowledge(
    connection: Connection, group: Row, receipts: Sequence[str], *, actor: str
) -> tuple[list[str], list[str]]:
    """(acknowledged, lost), in one transaction with the audit entry."""
    async with connection.transaction():
        good, lost, positions = await consuming.acknowledge(connection, group, receipts)
        await _note(connection, group, actor, "ack", positions, lost=len(lost))
    _count(group, "success", len(positions))
    return good, lost


async def give_back(
    connection: Connection,
    registry: Registry,
    group: Row,
    receipts: Sequence[str],
    *,
    delay: float | None,
    reason: str,
    actor: str,
) -> tuple[list[str], list[str], list[str]]:
    """(returned, dead, lost), in one transaction with the audit entry."""
    async with connection.transaction():
        again, dead, lost = await consuming.give_back(
            connection, registry, group, receipts, delay=delay, reason=reason
        )
        jobs = [consuming.read_receipt(one, 0)[0] for one in again + dead]
        await repository.write_audit(
            connection,
            actor=actor,
            action="nack",
            topic=group["topic"],
            group=group["group_name"],
            items=len(jobs),
            detail={"jobs": ranges(jobs), "dead": len(dead), "lost": len(lost), "reason": reason},
        )
    _count(group, "retry", len(again))
    _count(group, "dead", len(dead))
    return again, dead, lost


async def extend(
    connection: Connection, group: Row, receipts: Sequence[str], *, lease: timedelta
) -> tuple[list[str], list[str]]:
    """(extended, lost)."""
    async with connection.transaction():
        return await consuming.extend(connection, group, receipts, lease=lease)


# --- manage --------------------------------------------------------------------------------------------------


async def create_topic(connection: Connection, name: str, *, actor: str, **rules: Any) -> None:
    """Make a topic unless it is there. Raises InvalidInput for the reserved name."""
    if name == DEAD:
        raise InvalidInput("reserved-topic", f"{DEAD!r} is where the dead letters of every topic are read")
    params = {
        "name": name,
        "retention": rules.get("retention", 604_800.0),
        "dedup_window": rules.get("dedup_window", 86_400.0),
        "drop_unread": rules.get("drop_unread", False),
        "encrypted": rules.get("encrypted", False),
        "by": actor,
    }
    async with connection.transaction():
        await repository.create_topic(connection, params)
        await repository.write_audit(connection, actor=actor, action="create-topic", topic=name)


async def create_group(
    connection: Connection, topic: str, group: str, start: Where, *, actor: str, **rules: Any
) -> None:
    """Make a group unless it is there; its history is filled in by the sweeper. Raises NotFound."""
    async with connection.transaction():
        first = None if start.at == "now" else await position_of(connection, topic, start)
        params = {
            "topic": topic,
            "group": group,
            "first": first,
            "max_attempts": rules.get("max_attempts", 5),
            "retry_delay_ms": rules.get("retry_delay_ms", 2000),
            "backoff": rules.get("backoff", "exponential"),
            "ordered": rules.get("ordered", False),
            "dead_head": rules.get("dead_head", "skip"),
            "by": actor,
        }
        try:
            await repository.create_group(connection, params)
        except psycopg.errors.UndefinedObject:
            raise topic_unknown() from None
        await repository.write_audit(
            connection, actor=actor, action="create-group", topic=topic, group=group, detail={"first": first}
        )


async def position_of(connection: Connection, topic: str, where: Where) -> int:
    """The position that a place names: the beginning is 0, now is behind everything published."""
    if where.position is not None:
        return where.position
    if where.at == "beginning":
        return _BEGINNING
    at = _END if where.time is None else where.time
    return await repository.find_position(connection, topic, at)


async def replay(
    connection: Connection, group: Row, start: Where, *, last: int | None, keep_waiting: bool, actor: str
) -> dict[str, Any]:
    """Deliver again from a place on, to this group alone; the sweeper carries it out, in batches.

    With `keep_waiting` false (a seek) what waits is dropped in the transaction that asks for the replay: all of it or
    nothing, so a call that breaks off is simply repeated. What runs goes on.
    """
    skipped = 0
    first = await position_of(connection, group["topic"], start)
    reason = "replay" if keep_waiting else "seek"
    async with connection.transaction():
        while not keep_waiting:
            gone = await repository.skip_waiting(
                connection, group["queue"], most=SKIP_BATCH, reason=f"seek to {first} by {actor}"
            )
            skipped += gone
            if gone < SKIP_BATCH:
                break
        # Asked for last: its snapshot sees every message whose delivery was dropped.
        fill = await repository.request_fill(
            connection, group["topic"], group["group_name"], reason=reason, first=first, last=last, by=actor
        )
        if fill is None:
            raise group_unknown()
        detail = {"from": fill["from_position"], "to": fill["to_position"], "skipped": skipped}
        await repository.write_audit(
            connection,
            actor=actor,
            action=reason,
            topic=group["topic"],
            group=group["group_name"],
            detail=detail,
        )
    return {
        "fill": fill["id"],
        **{f"{end}_position": detail[end] for end in ("from", "to")},
        "skipped": skipped,
    }


async def pause(connection: Connection, group: Row, *, actor: str, paused: bool) -> None:
    """Stop or go on delivering to a group."""
    async with connection.transaction():
        if paused:
            await admin.pause_queue(connection, group["queue"], by=actor)
        else:
            await admin.resume_queue(connection, group["queue"])
        await repository.write_audit(
            connection,
            actor=actor,
            action="pause" if paused else "resume",
            topic=group["topic"],
            group=group["group_name"],
        )


async def order(
    connection: Connection, group: Row, *, actor: str, ordered: bool, dead_head: DeadHead = "skip"
) -> None:
    """Give a group order per key, or take it away; what waits moves over before this returns.

    Strict order begins once that is done and what ran before has ended. `dead_head`: a dead letter is passed over
    (skip) or stops its key until it is retried or purged (block).
    """
    async with connection.transaction():
        await repository.order_group(
            connection, group["topic"], group["group_name"], ordered=ordered, dead_head=dead_head
        )
        await repository.write_audit(
            connection,
            actor=actor,
            action="order",
            topic=group["topic"],
            group=group["group_name"],
            detail={"ordered": ordered, "dead_head": dead_head},
        )
    while await AdmissionStore(connection).move_waiting(group["queue"], most=SKIP_BATCH):
        pass


async def grant(
    connection: Connection, principal: str, operation: str, topic: str, *, actor: str, revoke: bool = False
) -> None:
    """Give a grant, or take it back, with the audit entry."""
    async with connection.transaction():
        if revoke:
            await repository.delete_grant(connection, principal, operation, topic)
        else:
            await repository.write_grant(connection, principal, operation, topic, by=actor)
        await repository.write_audit(
            connection,
            actor=actor,
            action="revoke" if revoke else "grant",
            topic=topic,
            detail={"principal": principal, "operation": operation},
        )


async def run_fills(connection: Connection, *, seconds: float = FILL_SECONDS, most: int = FILL_BATCH) -> int:
    """Carry on with every open fill in turn, in transactions of `most` messages, for about `seconds`."""
    end, total = monotonic() + seconds, 0
    opened = await repository.open_fills(connection)
    while opened and monotonic() < end:
        progress = {fill: await repository.fill_topic(connection, fill, most=most) for fill in opened}
        total += sum(made or 0 for made in progress.values())
        # A gap without news waits for somebody's commit: the next turn of the sweeper looks again.
        opened = [fill for fill, made in progress.items() if made]
        await asyncio.sleep(0)
    return total


def ranges(numbers: Sequence[int]) -> list[list[int]]:
    """Numbers as runs [first, last], so that an audit entry of a batch stays small."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return runs


def _count(group: Row, outcome: str, messages: int) -> None:
    if messages:
        events.publish(TopicConsumed(group["topic"], group["group_name"], outcome, messages))


async def _note(
    connection: Connection, group: Row, actor: str, action: str, positions: Sequence[int], **detail: Any
) -> None:
    await repository.write_audit(
        connection,
        actor=actor,
        action=action,
        topic=group["topic"],
        group=group["group_name"],
        items=len(positions),
        detail={"positions": ranges(positions), **detail},
    )
