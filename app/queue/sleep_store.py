"""A sleeper's statements: its seats on its queues, and the locks that say it sleeps. Decides nothing."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from app.queue.store import Store


class Place(NamedTuple):
    """What a sleeper holds while it sleeps: a seat on a queue (its hash), or a wake lane (no seat).

    32 more than a lane says that the sleeper has no seat on some queue, so that only the lane's channel reaches it.
    """

    key: int
    seat: int | None = None


class Seat(NamedTuple):
    """A place that nobody else has on a queue, and the channel on which who sits there is told."""

    queue: str
    place: Place
    channel: str


class SleepStore(Store):
    """The statements on the connection that listens: locks and seats are the session's."""

    async def notice_death(self) -> None:
        """Have the server notice within half a minute when the other end of this session has gone."""
        await self._all("wake", "notice_death", {})

    async def take_seats(self, queues: Sequence[str]) -> list[Seat]:
        """Take a seat on each queue for as long as the session lives; none where all are taken."""
        rows = await self._all("wake", "take_seats", {"queues": list(queues)})
        return [Seat(queue, Place(key, seat), channel) for queue, key, seat, channel in rows]

    async def lie_down(self, places: Sequence[Place]) -> bool:
        """Announce a sleeper on its places, seats first; False, and nothing, if a producer held one this instant."""
        got = await self._all("wake", "lie_down", _arrays(places))
        if all(row[0] for row in got):
            return True
        await self.get_up([place for place, row in zip(places, got, strict=True) if row[0]])
        return False

    async def get_up(self, places: Sequence[Place], *, tell: Sequence[str] = ()) -> None:
        """Take the announcements back, lanes first, and then wake two others on each queue of `tell`."""
        await self._all("wake", "get_up", {**_arrays(reversed(places)), "tell": list(tell)})


def _arrays(places: Iterable[Place]) -> dict[str, Any]:
    keys, seats = [], []
    for key, seat in places:
        keys.append(key)
        seats.append(seat)
    return {"keys": keys, "seats": seats}
