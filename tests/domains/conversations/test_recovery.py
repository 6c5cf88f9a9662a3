"""What the page promises to recover from and no other test shows: a lost NOTIFY, a database that crashes under load."""

import asyncio

import pytest

from app.database import migrate
from tests.conftest import MakeServer
from tests.support.conversations import (
    END,
    body,
    end,
    event,
    friendship,
    make_settings,
    read,
    serving,
    working,
    write,
)
from tests.support.membership import check_membership
from tests.support.waiting import eventually_async


@pytest.mark.parametrize("mode", ["hybrid", "poll"])
async def test_a_lost_notification_only_costs_the_time_until_the_next_look(db_url: str, mode: str) -> None:
    write(db_url, "ALTER TABLE tandem.wake_request DISABLE TRIGGER USER")
    write(db_url, "ALTER TABLE tandem.ready DISABLE TRIGGER USER")
    async with serving(db_url) as client, working(db_url, mode=mode, poll_seconds=0.3) as worker:
        await eventually_async(lambda: worker.inbox.free_slots == len(worker.slots.slots))
        await end(client)
        await eventually_async(lambda: event(db_url).status == "PROCESSED")


@pytest.mark.chaos
async def test_a_crash_of_the_database_loses_nothing_that_was_accepted_and_counts_nothing_twice(
    make_server: MakeServer,
) -> None:
    # A quick retry stands for the 30 s that a job waits whose transaction the crash broke.
    quick = make_settings(conversations={"retry_delays_seconds": (0.2, 0.2, 0.2, 0.2)})
    with make_server({"fsync": "on", "synchronous_commit": "on"}) as (cluster, url):
        migrate.upgrade(url)
        accepted: set[str] = set()

        async def call(number: int) -> None:
            """As a back end would: the same call until it is accepted."""
            while True:
                made = body(f"conv_{number}", f"user_{number % 3}")
                if (await client.post(END, json=made)).status_code == 202:
                    accepted.add(made["conversation_id"])
                    return
                await asyncio.sleep(0)

        async with serving(url, quick) as client, working(url, quick, sweep=True, lease_seconds=2.0):
            callers = asyncio.gather(*(call(number) for number in range(60)))
            await eventually_async(lambda: len(accepted) >= 10)
            await asyncio.to_thread(cluster.stop, mode="immediate")
            await asyncio.to_thread(cluster.start)
            await callers
            await eventually_async(
                lambda: len(read(url, "SELECT FROM conversation_events WHERE status = 'PROCESSED'")) == 60,
                timeout=60,
            )
        total = read(url, "SELECT sum(friendship_score_change) AS total FROM conversation_events")[0].total
        friends = [friendship(url, f"user_{number}") for number in range(3)]
        assert sum(one.conversations for one in friends) == len(accepted) == 60
        assert sum(one.friendship_score for one in friends) == total
        check_membership(url)
