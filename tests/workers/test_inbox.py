"""The order in which a worker gets what has arrived."""

import asyncio
from dataclasses import dataclass

from meshvisor.shared.errors import PeerLost
from meshvisor.workers.inbox import Arrived, Entry, Inbox, LinkDown, LinkUp
from meshvisor.workers.testing import run_virtual


@dataclass(eq=False)
class FakeLink:
    node_id: str
    incarnation: int = 1
    calls_behind: int = 0

    def when_calls_taken(self, callback: object) -> None:
        raise NotImplementedError

    async def send(self, body: bytes | bytearray | memoryview, timeout: float | None = None) -> int:
        raise NotImplementedError

    def send_nowait(self, body: bytes | bytearray | memoryview) -> int:
        raise NotImplementedError

    def post(self, body: bytes) -> int:
        raise NotImplementedError

    def post_together(self, bodies: object) -> None:
        raise NotImplementedError

    def consumed(self, number: int) -> None:
        raise NotImplementedError

    def turn_away(self) -> None:
        raise NotImplementedError

    def message_counts(self) -> tuple[int, int]:
        raise NotImplementedError


def told(entry: Entry | None) -> str:
    if isinstance(entry, Arrived):
        return f"{entry.message.sender} {entry.message.number} {bytes(entry.message.body).decode()}"
    if isinstance(entry, LinkUp):
        return f"{entry.link.node_id} up {entry.link.incarnation}"
    assert isinstance(entry, LinkDown)
    return f"{entry.link.node_id} down {entry.link.incarnation}"


async def take(inbox: Inbox, count: int) -> list[str]:
    taken = []
    for _ in range(count):
        await inbox.wait()
        taken.append(told(inbox.next()))
    return taken


def test_senders_take_turns_message_by_message() -> None:
    async def main() -> None:
        inbox = Inbox()
        inbox.messages(FakeLink("a"), 1, [b"x", b"y", b"z"])
        inbox.messages(FakeLink("b"), 7, [b"p"])
        inbox.messages(FakeLink("c"), 1, [b"q", b"r"])
        assert await take(inbox, 6) == ["a 1 x", "b 7 p", "c 1 q", "a 2 y", "c 2 r", "a 3 z"]

    run_virtual(main())


def test_each_sender_keeps_its_order_over_incarnations() -> None:
    async def main() -> None:
        inbox = Inbox()
        first, second = FakeLink("a", 1), FakeLink("a", 2)
        inbox.peer_up(first)
        inbox.messages(first, 1, [b"x"])
        inbox.peer_down(first, PeerLost("a", 1))
        inbox.peer_up(second)
        inbox.messages(second, 1, [b"y"])
        inbox.messages(second, 2, [b"z"])
        assert await take(inbox, 6) == ["a up 1", "a 1 x", "a down 1", "a up 2", "a 1 y", "a 2 z"]

    run_virtual(main())


def test_taking_waits_for_the_next_arrival() -> None:
    async def main() -> None:
        inbox = Inbox()
        taking = asyncio.create_task(take(inbox, 1))
        await asyncio.sleep(1)
        assert not taking.done()
        assert inbox.next() is None
        inbox.messages(FakeLink("a"), 1, [])  # An empty batch is no arrival.
        await asyncio.sleep(1)
        inbox.messages(FakeLink("a"), 1, [b"x"])
        assert await taking == ["a 1 x"]

    run_virtual(main())


def test_a_closed_inbox_gives_nothing_out_any_more() -> None:
    async def main() -> None:
        inbox = Inbox()
        waiting = asyncio.create_task(inbox.wait())
        await asyncio.sleep(0)
        inbox.close()
        await waiting
        inbox.messages(FakeLink("a"), 1, [b"x"])
        await inbox.wait()
        assert inbox.next() is None

    run_virtual(main())
