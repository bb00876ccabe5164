"""Many deadlines over one timer."""

from __future__ import annotations

import asyncio

from ftpcluster.session.timer_wheel import RESOLUTION, TimerWheel


async def called_at(wheel: TimerWheel, when: float) -> float:
    loop = asyncio.get_running_loop()
    called = loop.create_future()
    wheel.add(when, lambda: called.set_result(loop.time()))
    async with asyncio.timeout(20):
        time: float = await called
    return time


async def test_nobody_is_called_too_early_whatever_the_order() -> None:
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop)
    start = loop.time()
    waits = [0.7, 0.1, 0.4, 0.0, -5.0, 0.4]
    times = await asyncio.gather(*[called_at(wheel, start + wait) for wait in waits])
    assert all(time >= start + wait for time, wait in zip(times, waits, strict=True))
    wheel.close()


async def test_who_was_discarded_is_not_called() -> None:
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop)
    called: list[str] = []
    first, second = (lambda: called.append("first")), (lambda: called.append("second"))
    when = loop.time() + 0.1
    slot = wheel.add(when, first)
    wheel.add(when, second)
    wheel.discard(slot, first)
    wheel.discard(slot + 1000, first)
    await called_at(wheel, when + 2 * RESOLUTION)
    assert called == ["second"]
    wheel.close()


async def test_a_callback_may_ask_to_be_called_again() -> None:
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop)
    done = loop.create_future()
    calls: list[float] = []

    def call() -> None:
        calls.append(loop.time())
        if len(calls) < 3:
            wheel.add(loop.time(), call)
        else:
            done.set_result(None)

    wheel.add(loop.time(), call)
    async with asyncio.timeout(20):
        await done
    assert len(calls) == 3
    wheel.close()


async def test_after_close_nobody_is_called() -> None:
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop)
    called: list[int] = []
    wheel.add(loop.time(), lambda: called.append(1))
    wheel.close()
    wheel.close()
    other = TimerWheel(loop)
    await called_at(other, loop.time() + RESOLUTION)
    assert not called
    other.close()
