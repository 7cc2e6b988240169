"""What every transport promises (shared/transport/base.py), proved for each of them by the same tests."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from meshvisor.shared.transport.base import Stream


async def read_exactly(stream: Stream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = await stream.read(count - len(data))
        assert part, f"the stream ended after {len(data)} of {count} bytes"
        data += part
    return data


async def let_it_wait() -> None:
    """Give the tasks just created the turns that they need to reach their waits."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_bytes_come_out_at_the_other_end_in_both_directions(rig: Any) -> None:
    async def main() -> None:
        listener = await rig.listen()
        near, far = await rig.pair(listener)
        await near.write(b"ping")
        assert await read_exactly(far, 4) == b"ping"
        await far.write(bytearray(b"pong"))
        await far.write(memoryview(b"!"))
        assert await read_exactly(near, 5) == b"pong!"
        for closable in (near, far, listener):
            closable.close()

    rig.run(main())


def test_both_streams_of_a_connection_are_accepted_and_independent(rig: Any) -> None:
    async def main() -> None:
        listener = await rig.listen()
        connection = await rig.adapter.connect(listener.endpoint, rig.options)
        accepted = [await listener.accept(), await listener.accept()]
        await connection.control.write(b"control")
        await connection.data.write(b"data...")
        assert {await read_exactly(stream, 7) for stream in accepted} == {b"control", b"data..."}
        connection.close()
        for stream in accepted:
            assert await stream.read(1) == b""
            stream.close()
        listener.close()

    rig.run(main())


def test_a_read_returns_at_most_its_limit_and_the_rest_later(rig: Any) -> None:
    async def main() -> None:
        listener = await rig.listen()
        near, far = await rig.pair(listener)
        await near.write(b"0123456789")
        assert await far.read(3) == b"012"
        assert await read_exactly(far, 7) == b"3456789"
        for closable in (near, far, listener):
            closable.close()

    rig.run(main())


def test_what_was_written_before_a_close_is_read_before_the_end(rig: Any) -> None:
    async def main() -> None:
        listener = await rig.listen()
        near, far = await rig.pair(listener)
        await near.write(b"last words")
        near.close()
        assert await read_exactly(far, 10) == b"last words"
        assert await far.read(1) == b""
        assert await far.read(1) == b""
        far.close()
        listener.close()

    rig.run(main())


def test_a_writer_waits_for_a_slow_reader_and_nothing_is_lost(rig: Any) -> None:
    async def main() -> None:
        listener = await rig.listen()
        near, far = await rig.pair(listener)
        body = bytes(range(256)) * (8 * 1024 * 1024 // 256)
        writing = asyncio.create_task(near.write(body))
        await let_it_wait()
        assert not writing.done()
        received = bytearray()
        while len(received) < len(body):
            received += await far.read(200_000)
            await asyncio.sleep(0)
        await writing
        assert received == body
        for closable in (near, far, listener):
            closable.close()

    rig.run(main())


def test_closing_while_reading_and_writing_ends_both_with_an_error(rig: Any) -> None:
    async def main() -> None:
        listener = await rig.listen()
        near, far = await rig.pair(listener)
        reading = asyncio.create_task(near.read(1))
        writing = asyncio.create_task(near.write(bytes(8 * 1024 * 1024)))
        await let_it_wait()
        near.close()
        for task in (reading, writing):
            with pytest.raises(OSError, match="the stream is closed"):
                await task
        far.close()
        listener.close()

    rig.run(main())


def test_a_closed_stream_neither_reads_nor_writes_and_can_be_closed_again(rig: Any) -> None:
    async def main() -> None:
        listener = await rig.listen()
        near, far = await rig.pair(listener)
        await far.write(b"unread")
        near.close()
        near.close()
        with pytest.raises(OSError, match="the stream is closed"):
            await near.read(1)
        with pytest.raises(OSError, match="the stream is closed"):
            await near.write(b"x")
        far.close()
        listener.close()

    rig.run(main())


def test_writing_to_a_peer_that_closed_fails(rig: Any) -> None:
    async def main() -> None:
        listener = await rig.listen()
        near, far = await rig.pair(listener)
        far.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await near.write(bytes(8 * 1024 * 1024))
        near.close()
        listener.close()

    rig.run(main())


def test_a_cancelled_read_loses_nothing(rig: Any) -> None:
    async def main() -> None:
        listener = await rig.listen()
        near, far = await rig.pair(listener)
        reading = asyncio.create_task(far.read(10))
        await let_it_wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await near.write(b"still here")
        assert await read_exactly(far, 10) == b"still here"
        for closable in (near, far, listener):
            closable.close()

    rig.run(main())


def test_two_readers_of_one_stream_are_a_mistake_that_is_told(rig: Any) -> None:
    async def main() -> None:
        listener = await rig.listen()
        near, far = await rig.pair(listener)
        reading = asyncio.create_task(far.read(1))
        await let_it_wait()
        with pytest.raises(RuntimeError, match="two tasks"):
            await far.read(1)
        far.close()
        with suppress(OSError):
            await reading
        near.close()
        listener.close()

    rig.run(main())


def test_closing_a_listener_ends_its_accept_with_an_error(rig: Any) -> None:
    async def main() -> None:
        listener = await rig.listen()
        accepting = asyncio.create_task(listener.accept())
        await let_it_wait()
        listener.close()
        listener.close()
        with pytest.raises(OSError, match="the listener is closed"):
            await accepting
        with pytest.raises(OSError, match="the listener is closed"):
            await listener.accept()

    rig.run(main())


def test_where_nobody_listens_any_more_a_connect_is_refused(rig: Any) -> None:
    async def main() -> None:
        listener = await rig.listen()
        listener.close()
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            await rig.adapter.connect(listener.endpoint, rig.options)

    rig.run(main())


def test_an_endpoint_can_be_bound_again_after_its_listener_closed(rig: Any) -> None:
    async def main() -> None:
        first = await rig.listen()
        first.close()
        again = await rig.adapter.listen(first.endpoint, rig.options)
        near, far = await rig.pair(again)
        for closable in (near, far, again):
            closable.close()

    rig.run(main())


def test_an_endpoint_is_bound_only_once(rig: Any) -> None:
    async def main() -> None:
        listener = await rig.listen()
        with pytest.raises(OSError, match=r"in use|already"):
            await rig.adapter.listen(listener.endpoint, rig.options)
        near, far = await rig.pair(listener)
        for closable in (near, far, listener):
            closable.close()

    rig.run(main())


def test_a_cancelled_connect_leaves_nothing_open(rig: Any, open_files: Callable[[], set[str]]) -> None:
    async def main() -> None:
        listener = await rig.listen()
        before = open_files()
        for turns in range(4):
            connecting = asyncio.create_task(rig.adapter.connect(listener.endpoint, rig.options))
            for _ in range(turns):
                await asyncio.sleep(0)
            connecting.cancel()
            with suppress(asyncio.CancelledError):
                (await connecting).close()
        assert open_files() == before
        listener.close()

    rig.run(main())


def test_descriptors_are_back_where_they_were(rig: Any, open_files: Callable[[], set[str]]) -> None:
    before = open_files()

    async def main() -> None:
        listener = await rig.listen()
        near, far = await rig.pair(listener)
        await near.write(b"x")
        await far.read(1)
        far.close()
        near.close()
        listener.close()

    rig.run(main())
    assert open_files() == before
