"""What operators do with jobs that deliver messages, noted for the audit log of topics. Workers' ends are in settle.py.

Here because every way meets here: commands, the API and programs redrive, purge and cancel through the queue.
"""

from collections.abc import Sequence
from typing import Literal

from app.queue.admin_store import AdminStore, Row
from app.queue.job import is_delivery

Action = Literal["redrive", "purge", "cancel", "request-cancel"]


async def note_deliveries(
    store: AdminStore, action: Action, rows: Sequence[Row], *, by: str | None = None
) -> None:
    """Note those of these jobs that deliver messages, in the transaction that changes them; others cost nothing.

    A row says `queue` and `job_id`; it may say `asked_by` (who, instead of `by`), `reason`, and, of a job that is gone,
    its `position`.
    """
    told = [
        {"asked_by": by, "reason": None, "position": None, **row} for row in rows if is_delivery(row["queue"])
    ]
    if told:
        await store.note_deliveries(action, told)
