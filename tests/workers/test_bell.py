"""Bells: rung before, during and after a wait; several at once; nothing is left behind when a wait is cancelled."""

import asyncio

import pytest

from workers.bell import Bell, first_of


async def test_a_bell_that_was_rung_ends_the_wait_at_once_until_it_is_cleared() -> None:
    bell = Bell()
    bell.set()
    await first_of(None, bell)
    await bell.wait()
    bell.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await bell.wait()


async def test_one_of_several_is_enough_and_everybody_who_waits_goes_on() -> None:
    one, two = Bell(), Bell()
    waiting = [asyncio.create_task(first_of(30.0, one, two)), asyncio.create_task(two.wait())]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    two.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
    assert two.is_set()
    assert not one.is_set()


async def test_a_ring_between_clear_and_wait_is_not_missed() -> None:
    bell = Bell()
    bell.set()
    bell.clear()
    bell.set()
    async with asyncio.timeout(10):
        await first_of(None, bell)


async def test_the_time_ends_a_wait_without_a_ring() -> None:
    bell = Bell()
    await first_of(0.0, bell)
    await first_of(-1.0, bell)
    assert not bell.is_set()


async def test_a_cancelled_wait_leaves_nothing_and_rings_go_to_the_others() -> None:
    bell = Bell()
    gone, stays = asyncio.create_task(bell.wait()), asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    bell.set()
    async with asyncio.timeout(10):
        await stays
    assert bell.waiting == 0
