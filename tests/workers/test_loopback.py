"""The link of a node to itself: bounded, in order, and over when its node is."""

import asyncio

import pytest

from meshvisor.shared.errors import LinkClosed, QueueFull, SendTimeout
from meshvisor.workers.inbox import Link
from meshvisor.workers.loopback import WINDOW_BYTES, WINDOW_MESSAGES, Loopback
from meshvisor.workers.testing import run_virtual


class Taker:
    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes | bytearray]] = []
        self.calls: list[bytes | bytearray] = []

    def messages_received(self, link: Link, first: int, bodies: list[bytes | bytearray]) -> None:
        self.messages += enumerate(bodies, first)

    def calls_received(self, link: Link, bodies: list[bytes | bytearray]) -> None:
        self.calls += bodies


def test_messages_are_numbered_copied_and_large_ones_are_the_receivers_own() -> None:
    async def main() -> None:
        taker = Taker()
        link = Loopback("a", 1, taker)
        body = bytearray(b"small")
        assert await link.send(body) == 1
        body[:] = b"other"
        assert link.send_nowait(memoryview(bytes(65536))) == 2
        assert taker.messages == [(1, b"small"), (2, bytearray(65536))]
        assert [type(message) for _, message in taker.messages] == [bytes, bytearray]
        with pytest.raises(TypeError):
            await link.send("text")  # type: ignore[arg-type]  # that it is refused is the point

    run_virtual(main())


def test_a_full_window_makes_senders_wait_until_messages_are_consumed() -> None:
    async def main() -> None:
        link = Loopback("a", 1, Taker())
        for _ in range(WINDOW_MESSAGES):
            await link.send(b"")
        with pytest.raises(QueueFull, match=f"{WINDOW_MESSAGES} messages"):
            link.send_nowait(b"")
        with pytest.raises(SendTimeout, match="towards a within 2 s"):
            await link.send(b"", timeout=2.0)
        waiting = [asyncio.create_task(link.send(b"")) for _ in range(2)]
        await asyncio.sleep(1)
        link.consumed(1)
        await asyncio.sleep(1)
        assert [task.done() for task in waiting] == [True, False]
        link.consumed(2)
        assert [await task for task in waiting] == [WINDOW_MESSAGES + 1, WINDOW_MESSAGES + 2]

    run_virtual(main())


def test_the_window_counts_bytes_and_a_larger_message_goes_alone() -> None:
    async def main() -> None:
        link = Loopback("a", 1, Taker())
        await link.send(bytes(WINDOW_BYTES + 1))
        with pytest.raises(QueueFull, match=f"{WINDOW_BYTES + 1} bytes"):
            link.send_nowait(b"x")
        link.consumed(1)
        assert link.send_nowait(b"x") == 2

    run_virtual(main())


def test_what_is_no_buffer_is_refused_with_a_sentence() -> None:
    async def main() -> None:
        link = Loopback("a", 1, Taker())
        with pytest.raises(TypeError, match="a message must be bytes or another buffer, and not a str; encode it"):
            await link.send("text")  # type: ignore[arg-type]  # that it is refused is the point

    run_virtual(main())


def test_when_it_is_closed_those_who_wait_and_those_who_come_are_told() -> None:
    async def main() -> None:
        taker = Taker()
        link = Loopback("a", 1, taker)
        assert link.post(b"call") == 1
        assert taker.calls == [b"call"]
        await link.send(bytes(WINDOW_BYTES))
        waiting = asyncio.create_task(link.send(b"x"))
        await asyncio.sleep(1)
        link.close()
        with pytest.raises(LinkClosed):
            await waiting
        with pytest.raises(LinkClosed):
            link.send_nowait(b"x")
        with pytest.raises(LinkClosed):
            link.post(b"x")

    run_virtual(main())
