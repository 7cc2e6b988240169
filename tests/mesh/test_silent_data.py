"""A data channel that swallows everything while the control channel lives."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.mesh.way import Way, play

from meshvisor.shared.core.states import ConnectionState

Write = Callable[[bytes | bytearray | memoryview], Coroutine[Any, Any, None]]


async def swallow(data: bytes | bytearray | memoryview) -> None:
    """Take ``data`` and do nothing."""


@pytest.mark.parametrize("side", ["manager", "host"])
def test_messages_that_do_not_arrive_are_found_though_pings_are_answered(side: str) -> None:
    async def scenario(way: Way) -> None:
        options = {"heartbeat_interval": 0.25, "heartbeat_timeout": 2.0}
        async with way.host(**options) as host, way.manager(**options) as manager:
            near, far = await manager.connect(), await host.accept()
            sender, receiver = (near, far) if side == "manager" else (far, near)
            await sender.send(b"before")
            assert (await receiver.receive()).body == b"before"
            channel = sender._driver._current
            assert channel is not None
            channel.data._stream.write = swallow  # type: ignore[method-assign]
            begin = asyncio.get_running_loop().time()
            await sender.send(b"swallowed at first")
            assert (await receiver.receive()).body == b"swallowed at first"
            assert asyncio.get_running_loop().time() - begin < 2.0 + 2 * 0.25 + 0.1
            assert manager.state is ConnectionState.ESTABLISHED
            assert len(way.dialled) == 2

    play(scenario)


def test_a_consumer_that_takes_its_time_is_no_silent_channel() -> None:
    async def scenario(way: Way) -> None:
        options = {"heartbeat_interval": 0.25, "heartbeat_timeout": 2.0}
        async with way.host(**options) as host, way.manager(**options) as manager:
            near, far = await manager.connect(), await host.accept()
            for _ in range(100):
                await near.send(b"x" * 1000)
            await asyncio.sleep(60)
            assert len(way.dialled) == 1
            assert [(await far.receive()).number for _ in range(100)] == list(range(1, 101))

    play(scenario)


def test_a_message_that_takes_longer_than_the_timeout_to_arrive_keeps_its_connection() -> None:
    """Any byte is life, also one that completes no frame; here 1 MiB at 64 KiB a second."""

    async def scenario(way: Way) -> None:
        options = {"heartbeat_interval": 0.25, "heartbeat_timeout": 2.0}
        async with way.host(**options) as host, way.manager(**options) as manager:
            near, far = await manager.connect(), await host.accept()
            current = near._driver._current
            assert current is not None
            for channel in current.channels:
                channel._stream.write = trickle(channel._stream.write)  # type: ignore[method-assign]
            await near.send(bytes(1 << 20))
            assert len((await far.receive()).body) == 1 << 20
            assert asyncio.get_running_loop().time() > 10.0
            assert len(way.dialled) == 1

    def trickle(write: Write) -> Write:
        async def slowly(data: bytes | bytearray | memoryview) -> None:
            for start in range(0, len(data), 4096):
                await asyncio.sleep(1 / 16)
                await write(data[start : start + 4096])

        return slowly

    play(scenario)
