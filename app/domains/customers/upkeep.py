"""What the sweeper keeps right here: accepted jobs that lost touch with the queue, and customers' histories.

Both go page by page, each page in a transaction of its own, so that no row is held for long.
"""

import logging
from typing import Final

from app.database.deadline import BoundedAsyncConnection
from app.domains.customers import notices, repository

PAGE: Final = 500
MOST_PAGES: Final = 20
"""Per run, so that one run of the sweeper stays short; the next one goes on where it stopped."""
HISTORY_DAYS: Final = 30
MOST_NAMES: Final = 10
TOPICS: Final = {"SUCCEEDED": "job-succeeded", "DEAD": "job-dead", "CANCELLED": "job-cancelled"}
_log = logging.getLogger(__name__)


class Drift:
    """Ends accepted jobs that count as open although their job of the queue has ended, or is gone.

    Ends that pass by the hooks do that, such as a `tandem.cancel` of plain SQL; without repair such jobs would
    count against the capacity for ever. What is gone without a trace ends as DEAD, error class `lost`.
    """

    def __init__(self) -> None:
        self._after = 0

    async def repair(self, connection: BoundedAsyncConnection) -> int:
        """Look at the next pages of open jobs; answers how many were ended. `connection` is in autocommit."""
        total = 0
        for _ in range(MOST_PAGES):
            async with connection.transaction():
                page = await repository.lock_open_jobs(connection, after=self._after, most=PAGE)
                ended = await repository.end_astray(connection, page)
                for row in ended:
                    await self._follow(connection, row)
            total += len(ended)
            if ended:
                names = ", ".join(str(row["job_id"]) for row in ended[:MOST_NAMES])
                _log.warning("%d accepted jobs had ended without their line: %s", len(ended), names)
            self._after = page[-1] if len(page) == PAGE else 0
            if not self._after:
                break
        return total

    async def _follow(self, connection: BoundedAsyncConnection, row: repository.Row) -> None:
        await repository.meter_failures(connection, row["job_id"])
        if row["notify"]:
            facts = {name: row[name] for name in ("job_id", "workflow", "error_class")}
            topic = TOPICS[row["outcome"]]
            once = f"{topic}:found:{row['job_id']}"
            await notices.tell(connection, row["customer_id"], topic, facts, once=once, job_id=row["job_id"])


class History:
    """Counts again what customers' jobs of the last 30 days came to; the priority formula reads it."""

    def __init__(self) -> None:
        self._after = ""

    async def refresh(self, connection: BoundedAsyncConnection) -> int:
        """Look at the next pages of customers; answers how many changed. `connection` is in autocommit."""
        total = 0
        for _ in range(MOST_PAGES):
            page = await repository.refresh_history(
                connection, days=HISTORY_DAYS, after=self._after, most=PAGE
            )
            total += page.changed
            self._after = page.last if page.seen == PAGE else ""
            if not self._after:
                break
        return total
