"""Consuming by programs of any language: claim deliveries under a lease, acknowledge, return, extend.

The queue's own claim, finish and retry do the work, so a message consumed here and one that a worker handles are one.
"""

import json
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

from app.domains.topics import repository
from app.domains.topics.errors import bad_receipt, group_unknown
from app.domains.topics.repository import Connection, Row
from app.queue.admission_store import AdmissionStore
from app.queue.job import PRIORITIES, ClaimedJob
from app.queue.kinds import Registry
from app.queue.retry import RetryPolicy
from app.queue.settle import FailedJob, settle
from app.queue.store import Failed, Finish, Lane

END: Final = 2**63 - 1
PROCESS: Final[UUID] = uuid4()
"""What leases taken by this process are signed with, as a worker signs its own."""


class Delivered(NamedTuple):
    """One message as a consumer gets it. `body` is JSON; None when retention has dropped a large one."""

    receipt: str
    job: ClaimedJob
    envelope: dict[str, Any]
    body: Any


async def find_group(connection: Connection, topic: str, group: str) -> Row:
    """The group's rules. Raises NotFound."""
    found = await repository.read_group(connection, topic, group)
    if found is None:
        raise group_unknown()
    return found


async def claim_messages(
    connection: Connection, group: Row, *, most: int, lease: timedelta, consumer: str
) -> list[Delivered]:
    """Claim up to `most` deliveries; call it inside a transaction.

    A message whose last consumer did not come back is delivered alone: if it kills this one too, that counts, and
    the third time makes it a dead letter, without the others of the batch.
    """
    await repository.pin_plans(connection)
    await repository.see_consumer(connection, group["id"], consumer)
    store = AdmissionStore(connection)
    jobs = await _claim(store, group, most=most, lease=lease)
    suspect = next((job for job in jobs if job.suspect), None)
    if suspect is not None:
        rest = [(job.id, job.token) for job in jobs if job is not suspect]
        await store.hand_back_jobs(rest, delay=timedelta(0))
        await store.mark_alone(suspect.id, suspect.token)
        jobs = [suspect]
    envelopes = [json.loads(job.raw_payload) for job in jobs]
    large = [one["position"] for one in envelopes if "payload" not in one]
    bodies = await repository.read_bodies(connection, group["topic"], large) if large else {}
    return [
        Delivered(make_receipt(job.id, job.token), job, one, _body(one, bodies))
        for job, one in zip(jobs, envelopes, strict=True)
    ]


async def _claim(store: AdmissionStore, group: Row, *, most: int, lease: timedelta) -> list[ClaimedJob]:
    queue, token = group["queue"], secrets.randbits(63)
    if group["managed"]:  # ordered, or under limits: admission is the claim
        admitted = await store.admit_jobs(
            queue, want=most, token=token, worker=PROCESS, lease=lease, thorough=True
        )
        return admitted.jobs
    floors = await store.read_floors([queue])
    lanes = [Lane(queue, band, floors.get((queue, band), 0), END) for band in reversed(PRIORITIES)]
    return await store.claim_jobs(lanes, want=most, token=token, worker=PROCESS, lease=lease)


def _body(envelope: dict[str, Any], bodies: dict[int, str]) -> Any:
    if "payload" in envelope:
        return envelope["payload"]
    text = bodies.get(envelope["position"])
    return None if text is None else json.loads(text)


async def acknowledge(
    connection: Connection, group: Row, receipts: Sequence[str]
) -> tuple[list[str], list[str], list[int]]:
    """Finish deliveries: (receipts acknowledged now or before, receipts that were lost, positions)."""
    pairs = [read_receipt(one, index) for index, one in enumerate(receipts)]
    leases = await repository.find_leases(connection, group["queue"], pairs)
    ends = [Finish(row["job_id"], row["token"], 0.0) for row in leases]
    done = await AdmissionStore(connection).finish_jobs(ends) if ends else set()
    if group["managed"] and done:
        await repository.wake_group(connection, group["queue"])  # the next of these keys may run anywhere
    missing = [pair for pair in pairs if pair[0] not in done]
    if missing:
        done |= await repository.find_acknowledged(connection, group["queue"], missing)
    good = [one for one, pair in zip(receipts, pairs, strict=True) if pair[0] in done]
    lost = [one for one, pair in zip(receipts, pairs, strict=True) if pair[0] not in done]
    return good, lost, [row["position"] for row in leases]


async def give_back(
    connection: Connection,
    registry: Registry,
    group: Row,
    receipts: Sequence[str],
    *,
    delay: float | None,
    reason: str,
) -> tuple[list[str], list[str], list[str]]:
    """End tries as failed: receipts that come again, receipts that are dead letters now, receipts that were lost.

    Without `delay` (seconds) the group's own backoff decides; the last try allowed ends as a dead letter.
    """
    pairs = [read_receipt(one, index) for index, one in enumerate(receipts)]
    leases = await repository.find_leases(connection, group["queue"], pairs)
    policy = retry_policy(group["max_attempts"], group["retry_delay_ms"], group["backoff"])
    failed = []
    for row in leases:
        again = row["attempt"] < policy.max_attempts
        wait = policy.delay(row["attempt"]) if delay is None else delay
        one = Failed(row["job_id"], row["token"], 0.0, "temporary", reason, delay=wait, outcome="DEAD")
        failed.append(FailedJob(row["kind"], row["event_id"], one, again=again, code="nack"))
    became = await settle(connection, registry, failed, note=False) if failed else {}
    if group["managed"] and became:
        await repository.wake_group(connection, group["queue"])
    by_outcome: dict[str, list[str]] = {"RETRY": [], "DEAD": [], "LOST": []}
    for receipt, (job, _) in zip(receipts, pairs, strict=True):
        outcome = became.get(job, "LOST")
        by_outcome["DEAD" if outcome == "CANCELLED" else outcome].append(receipt)
    return by_outcome["RETRY"], by_outcome["DEAD"], by_outcome["LOST"]


async def extend(
    connection: Connection, group: Row, receipts: Sequence[str], *, lease: timedelta
) -> tuple[list[str], list[str]]:
    """Extend leases from now: receipts extended, receipts lost."""
    pairs = [read_receipt(one, index) for index, one in enumerate(receipts)]
    leases = await repository.find_leases(connection, group["queue"], pairs)
    held = await AdmissionStore(connection).extend_leases(
        [(row["job_id"], row["token"]) for row in leases], lease=lease
    )
    good = [one for one, pair in zip(receipts, pairs, strict=True) if pair in held]
    return good, [one for one in receipts if one not in good]


def retry_policy(max_attempts: int, delay_ms: int, backoff: str) -> RetryPolicy:
    """The group's rules as the queue's: 2000 ms exponential is 2, 4, 8, 16 s, linear 2, 4, 6, 8 s (at most an hour)."""
    first = delay_ms / 1000
    grown = [first * (2**n if backoff == "exponential" else n + 1) for n in range(max(1, max_attempts - 1))]
    return RetryPolicy(max_attempts, delays=tuple(min(one, 3600.0) for one in grown), longest=3600.0)


def make_receipt(job_id: int, token: int) -> str:
    """What a consumer shows for its lease: opaque to it."""
    return f"{job_id:x}-{token & (2**64 - 1):x}"


def read_receipt(receipt: str, index: int) -> tuple[int, int]:
    """(job, token). Raises InvalidInput for what cannot be a receipt."""
    job, _, token = receipt.partition("-")
    try:
        pair = (int(job, 16), int(token, 16))
    except ValueError:
        raise bad_receipt(index) from None
    if not (0 < pair[0] <= END and 0 <= pair[1] <= END and receipt == make_receipt(*pair)):
        raise bad_receipt(index)
    return pair
