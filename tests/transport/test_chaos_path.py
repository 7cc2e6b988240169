"""The way under a chaotic stream: how tunnels and lines end while something is on its way."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from meshvisor.shared.transport.chaos import ChaosOptions
from meshvisor.shared.transport.chaos_faults import Direction, Faults
from meshvisor.shared.transport.chaos_path import Line, Tunnel
from meshvisor.shared.transport.memory import PIPE_SIZE, MemoryStream, memory_pair
from meshvisor.workers.testing import run_virtual

PART = 64 * 1024


def play(act: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run on virtual time; nothing may be left running."""

    async def main() -> None:
        await act()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"still running: {left}"

    run_virtual(main())


def line(tunnel: Tunnel, **options: Any) -> Line:
    loop = asyncio.get_running_loop()
    faults = Faults(ChaosOptions(**options), random.Random(0))
    return Line(tunnel, faults, clock=loop.time, sleep=asyncio.sleep)


async def flushing() -> tuple[Tunnel, MemoryStream]:
    """Return a healed tunnel that still writes what its hole held, since the peer's pipe is full, and the peer."""
    near, far = memory_pair()
    tunnel = Tunnel(near, keeps_silence=True)
    await tunnel.write(bytes(PIPE_SIZE - 1))
    tunnel.black_hole(Direction.WRITE)
    await tunnel.write(b"held" * 10)
    tunnel.heal()
    await asyncio.sleep(1)
    return tunnel, far


async def drained(stream: MemoryStream) -> int:
    """Read ``stream`` to its end and return how many bytes came."""
    count = 0
    while data := await stream.read(PART):
        count += len(data)
    return count


def test_a_close_waits_for_what_a_healed_hole_still_gives() -> None:
    async def act() -> None:
        tunnel, far = await flushing()
        tunnel.close()
        tunnel.close()
        assert not tunnel.is_released
        closing = asyncio.create_task(tunnel.wait_closed())
        assert await drained(far) == PIPE_SIZE - 1 + 40
        await closing
        assert tunnel.is_released

    play(act)


def test_an_abort_does_not_wait_for_it() -> None:
    async def act() -> None:
        tunnel, far = await flushing()
        tunnel.abort()
        assert tunnel.is_released
        await tunnel.wait_closed()
        assert await drained(far) == PIPE_SIZE

    play(act)


def test_a_writer_waits_its_turn_behind_what_the_hole_held() -> None:
    async def act() -> None:
        tunnel, far = await flushing()
        writing = asyncio.create_task(tunnel.write(b"!"))
        await asyncio.sleep(1)
        assert not writing.done()
        assert len(await far.read(PIPE_SIZE)) == PIPE_SIZE
        await writing
        assert await far.read(100) == (b"held" * 10)[1:] + b"!"
        tunnel.close()

    play(act)


def test_what_a_hole_held_for_a_peer_that_is_gone_is_dropped() -> None:
    async def act() -> None:
        near, far = memory_pair()
        tunnel = Tunnel(near)
        tunnel.black_hole(Direction.WRITE)
        await tunnel.write(b"held")
        far.close()
        tunnel.heal()
        with pytest.raises(BrokenPipeError):
            await tunnel.write(b"x")
        tunnel.close()

    play(act)


def test_a_line_passes_on_the_error_that_its_reader_met() -> None:
    class Broken:
        async def read(self, limit: int) -> bytes:
            raise ConnectionResetError("reset by peer")

        async def write(self, data: object) -> None:
            raise AssertionError

        def close(self) -> None:
            pass

    async def act() -> None:
        path = line(Tunnel(Broken()), latency=(0.5, 0.5))
        for _ in range(2):
            with pytest.raises(ConnectionResetError, match="reset by peer"):
                await path.read(1)
        assert asyncio.get_running_loop().time() == 0.5
        path.close()
        await path.wait_closed()

    play(act)


def test_a_line_closed_twice_is_closed_once_and_takes_nothing_more() -> None:
    async def act() -> None:
        near, far = memory_pair()
        path = line(Tunnel(near), latency=(1.0, 1.0))
        await path.write(b"last")
        reading = asyncio.create_task(path.read(1))
        await asyncio.sleep(0)
        path.close()
        path.close()
        with pytest.raises(OSError, match="the stream is closed"):
            await reading
        with pytest.raises(OSError, match="the stream is closed"):
            await path.write(b"x")
        assert await drained(far) == 4
        await path.wait_closed()

    play(act)


def test_a_line_closed_with_a_full_belt_ends_the_writer_that_waits() -> None:
    async def act() -> None:
        near, far = memory_pair()
        path = line(Tunnel(near), latency=(1.0, 1.0))
        writing = asyncio.create_task(path.write(bytes(16 * PART)))
        await asyncio.sleep(0.5)
        path.close()
        with pytest.raises(OSError, match="the stream is closed"):
            await writing
        assert await drained(far) == 4 * PART
        await path.wait_closed()

    play(act)


def test_an_aborted_line_loses_what_is_on_its_way() -> None:
    async def act() -> None:
        near, far = memory_pair()
        path = line(Tunnel(near), latency=(1.0, 1.0))
        await path.write(b"lost")
        path.close()
        path.abort()
        assert await drained(far) == 0
        await path.wait_closed()

    play(act)
