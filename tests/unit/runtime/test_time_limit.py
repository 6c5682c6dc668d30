"""A handling ends in its time, however it waits, and what it raises or returns comes out as it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from workers.runtime.base import Worker
from workers.runtime.middleware.time_limit import time_limit


class Hasty(Worker):
    timeout_s = 0.02


class Patient(Worker):
    timeout_s = 60.0


async def limited(handler: Any, worker: type[Worker] = Patient) -> Any:
    nothing: Any = None
    return await time_limit(lambda message, context: handler(), nothing, nothing, worker())


async def test_a_handler_that_never_waits_returns_what_it_returns() -> None:
    async def at_once() -> list[str]:
        return ["done"]

    assert await limited(at_once) == ["done"]


async def test_a_handler_that_waits_often_returns_what_it_returns() -> None:
    async def waits() -> list[str]:
        found = []
        for number in range(3):
            await asyncio.sleep(0)
            found.append(await asyncio.get_running_loop().run_in_executor(None, str, number))
        return found

    assert await limited(waits) == ["0", "1", "2"]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("error", [ValueError("bad"), TimeoutError("of its own"), KeyError("k")])
async def test_what_a_handler_raises_is_what_comes_out(error: Exception, waits: bool) -> None:
    async def fails() -> None:
        if waits:
            await asyncio.sleep(0)
        raise error

    with pytest.raises(type(error)) as caught:
        await limited(fails)
    assert caught.value is error


async def test_a_handler_that_takes_too_long_is_ended_and_can_tidy_up() -> None:
    tidied = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            tidied.append(True)

    with pytest.raises(TimeoutError, match=r"Hasty took longer than 0\.02 s"):
        await limited(slow, Hasty)
    assert tidied == [True]


async def test_a_handler_that_catches_what_it_waits_for_goes_on() -> None:
    async def forgiving() -> list[str]:
        broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(broken.set_exception, OSError("gone"))
        try:
            await broken
        except OSError as error:
            await asyncio.sleep(0)
            return [str(error)]
        return []

    assert await limited(forgiving) == ["gone"]


async def test_whoever_waits_for_it_can_cancel_it() -> None:
    ended = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    task = asyncio.create_task(limited(slow))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]
