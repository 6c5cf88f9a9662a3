"""Leadership by a leased row: at most one sweeper works at a time, whatever host it runs on."""

import secrets
from datetime import timedelta
from time import monotonic
from uuid import UUID

from app.database.deadline import BoundedAsyncConnection
from app.queue.store import Store

NAME = "sweeper"


class Leadership:
    """Takes and renews the row. `held` counts from before the request was sent, on the monotonic clock."""

    def __init__(self, holder: UUID, *, lease: float, name: str = NAME) -> None:
        self.holder = holder
        self.lease = lease
        self.name = name
        self._until = 0.0

    @property
    def held(self) -> bool:
        """Whether we lead, with certainty."""
        return monotonic() < self._until

    async def acquire(self, connection: BoundedAsyncConnection) -> bool:
        """Take or renew; False when another process leads."""
        asked_at = monotonic()
        got = await Store(connection).acquire_leadership(
            self.name, holder=self.holder, token=secrets.randbits(63), lease=timedelta(seconds=self.lease)
        )
        self._until = asked_at + self.lease * 0.9 if got else 0.0
        return got

    async def release(self, connection: BoundedAsyncConnection) -> None:
        """Give it up, so that another takes over at once."""
        if self.held:
            self._until = 0.0
            await Store(connection).release_leadership(self.name, holder=self.holder)
