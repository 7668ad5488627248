"""Concurrency: up by one a window, down by half, never below one; pauses hold for all."""

from __future__ import annotations

import asyncio
import time

from vecfill.encode.api.concurrency import START, Pace


async def window(pace: Pace) -> None:
    """Fills all places once and succeeds in each."""

    async def one() -> None:
        async with pace.slot():
            await asyncio.sleep(0.001)
        pace.succeeded()

    await asyncio.gather(*(one() for _ in range(pace.limit)))


def test_it_grows_by_one_a_window_up_to_its_most():
    async def limits():
        pace = Pace(5)
        found = [pace.limit]
        for _ in range(6):
            await window(pace)
            found.append(pace.limit)
        return found

    assert asyncio.run(limits()) == [START, 3, 4, 5, 5, 5, 5]


def test_it_does_not_grow_where_places_stay_free():
    async def limit():
        pace = Pace(8)
        for _ in range(20):
            async with pace.slot():
                pass
            pace.succeeded()
        return pace.limit

    assert asyncio.run(limit()) == START


def test_it_halves_once_for_all_that_were_sent_before_and_never_below_one():
    async def limits():
        pace = Pace(16)
        for _ in range(8):
            await window(pace)
        sent, found = time.monotonic(), [pace.limit]
        pace.overloaded(sent)
        found.append(pace.limit)
        pace.overloaded(sent)
        found.append(pace.limit)
        for _ in range(5):
            await asyncio.sleep(0.002)
            pace.overloaded(time.monotonic())
            found.append(pace.limit)
        return found

    assert asyncio.run(limits()) == [10, 5, 5, 2, 1, 1, 1, 1]


def test_no_more_than_the_limit_at_once():
    async def most():
        pace, under_way, seen = Pace(4), 0, []

        async def one():
            nonlocal under_way
            async with pace.slot():
                under_way += 1
                seen.append((under_way, pace.limit))
                await asyncio.sleep(0.001)
                under_way -= 1
            pace.succeeded()

        await asyncio.gather(*(one() for _ in range(60)))
        return seen

    seen = asyncio.run(most())
    assert max(count for count, _ in seen) == 4
    assert all(count <= limit for count, limit in seen)


def test_a_pause_holds_for_every_request():
    async def waited():
        pace = Pace(4)
        pace.pause(0.1)
        pace.pause(0.01)  # the longer one stands
        started = time.monotonic()
        async with pace.slot() as sent_at:
            return sent_at - started

    assert 0.1 <= asyncio.run(waited()) < 10
