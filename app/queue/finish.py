"""Ending jobs in batches: what is ours, what was fenced off, and what to do with one bad row among good ones.

Runs in autocommit: each call is one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg

from app.queue.store import Finish, Store

REFUSED = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded, UnicodeError)
"""What one row can cause, whatever the others are."""


@dataclass(slots=True)
class Finished:
    """What became of a batch: ids finished, ids whose lease was lost, and (row, reason) PostgreSQL refused."""

    done: set[int] = field(default_factory=set)
    fenced: set[int] = field(default_factory=set)
    refused: list[tuple[Finish, str]] = field(default_factory=list)

    def add(self, part: "Finished") -> None:
        """Take in what became of another part of the batch."""
        self.done |= part.done
        self.fenced |= part.fenced
        self.refused += part.refused


async def finish_batch(
    store: Store, rows: Sequence[Finish], *, repeated: bool = False, deliveries: bool = False
) -> Finished:
    """Finish a batch. `repeated` says that an earlier call with these rows may have been committed unseen,
    `deliveries` that the audit log shall hear of those that deliver messages.

    A data error (a result PostgreSQL cannot store) is bisected down to its rows. Raises what the connection raises:
    then nobody knows, and the caller repeats with `repeated=True` on a new connection.
    """
    report = Finished()
    try:
        report.done = await (store.finish_deliveries if deliveries else store.finish_jobs)(rows)
    except REFUSED as error:
        if len(rows) == 1:
            report.refused.append((rows[0], (str(error).splitlines() or [type(error).__name__])[0]))
            return report
        half = len(rows) // 2
        for part in (rows[:half], rows[half:]):
            report.add(await finish_batch(store, part, repeated=repeated, deliveries=deliveries))
        return report
    missing = [(row[0], row[1]) for row in rows if row[0] not in report.done]
    if missing and repeated:
        before = await store.find_finished(missing)
        report.done |= before
    report.fenced = {job for job, _ in missing} - report.done
    return report
