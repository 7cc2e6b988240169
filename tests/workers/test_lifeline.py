"""A worker's end of its lifeline, over a real socket pair."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator

import msgspec
import pytest

from meshvisor.shared.control.lifeline import (
    Assignment,
    FromWorker,
    LifelineError,
    Links,
    Ready,
    Reserve,
    RosterNews,
    Stop,
    ToWorker,
    encode,
    supervisor_end,
)
from meshvisor.workers.lifeline import Lifeline

ASSIGNMENT = Assignment("m", "a", "a", 0, 1, 7, "app:A", "/", {}, ("unix:/run/a",), b"s", ())


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Lifeline]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    with ours, theirs:
        yield ours, Lifeline(theirs)


def heard(sock: socket.socket) -> list[FromWorker]:
    return supervisor_end().receive(sock.recv(1 << 20))


def fail(reason: str) -> None:
    raise AssertionError(reason)


def ignore(message: ToWorker) -> None:
    raise AssertionError(message)


def test_what_came_right_behind_the_assignment_is_kept(ends: tuple[socket.socket, Lifeline]) -> None:
    ours, lifeline = ends
    ours.sendall(encode(ASSIGNMENT) + encode(RosterNews(())) + encode(Stop())[:3])
    assert lifeline.receive_first() == ASSIGNMENT
    got: list[ToWorker] = []

    async def main() -> None:
        lifeline.attach(got.append, fail)
        assert got == [RosterNews(())]
        ours.sendall(encode(Stop())[3:])
        await eventually(lambda: got == [RosterNews(()), Stop()])

    asyncio.run(main())


def test_the_descriptors_that_come_with_the_assignment_are_known_by_name(
    ends: tuple[socket.socket, Lifeline],
) -> None:
    ours, lifeline = ends
    assignment = msgspec.structs.replace(ASSIGNMENT, descriptors=("blacklist", "board"))
    message = encode(assignment)
    with open(os.devnull, "rb") as one, open(os.devnull, "rb") as two:
        socket.send_fds(ours, [message[:5]], [one.fileno(), two.fileno()])
        ours.sendall(message[5:])
        assert lifeline.receive_first() == assignment
    assert list(lifeline.descriptors) == ["blacklist", "board"]
    for descriptor in lifeline.descriptors.values():
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


def test_an_assignment_without_the_descriptors_it_names_is_refused(ends: tuple[socket.socket, Lifeline]) -> None:
    ours, lifeline = ends
    ours.sendall(encode(msgspec.structs.replace(ASSIGNMENT, descriptors=("board",))))
    with pytest.raises(LifelineError, match="0 descriptors came with an assignment of 1"):
        lifeline.receive_first()


@pytest.mark.parametrize("sent", [encode(Stop()), b"\0\0\0\1\xc1", b"\xff\xff\xff\xff"])
def test_anything_but_an_assignment_first_is_refused(ends: tuple[socket.socket, Lifeline], sent: bytes) -> None:
    ours, lifeline = ends
    ours.sendall(sent)
    with pytest.raises(LifelineError):
        lifeline.receive_first()


def test_the_end_instead_of_an_assignment_is_told(ends: tuple[socket.socket, Lifeline]) -> None:
    ours, lifeline = ends
    ours.close()
    with pytest.raises(EOFError, match="before it said what to run"):
        lifeline.receive_first()


def test_a_spare_is_assigned_later_and_once(ends: tuple[socket.socket, Lifeline]) -> None:
    ours, lifeline = ends
    reserve = Reserve("~spare-1", 7, ("unix:/run/~spare-1",), b"s", ())
    ours.sendall(encode(reserve) + encode(RosterNews(())) + encode(ASSIGNMENT) + encode(Stop()))
    assert lifeline.receive_first() == reserve
    early, late = list[ToWorker](), list[ToWorker]()
    reasons: list[str] = []

    async def main() -> None:
        lifeline.attach(early.append, fail)
        assert early == [RosterNews(()), ASSIGNMENT, Stop()]
        lifeline.attach(late.append, reasons.append)  # the node's, from here on
        ours.sendall(encode(RosterNews(())) + encode(ASSIGNMENT))
        await eventually(lambda: bool(reasons))

    asyncio.run(main())
    assert (late, len(early)) == ([RosterNews(())], 3)
    assert reasons == ["a second assignment came"]


def test_reports_of_links_are_coalesced_and_the_latest_counts(ends: tuple[socket.socket, Lifeline]) -> None:
    ours, lifeline = ends

    async def main() -> None:
        lifeline.report(Links(0, 9))  # Before there is a loop: it waits for one.
        lifeline.attach(ignore, fail)
        for up in range(1, 6):
            lifeline.report(Links(up, 9))
        lifeline.report(Ready())
        loop = asyncio.get_running_loop()
        assert heard(ours) == [Ready()]
        ours.setblocking(False)
        reader = supervisor_end()
        assert reader.receive(await loop.sock_recv(ours, 4096)) == [Links(5, 9)]
        first = loop.time()
        for up in (6, 7):
            lifeline.report(Links(up, 9))
        assert reader.receive(await loop.sock_recv(ours, 4096)) == [Links(7, 9)]
        assert loop.time() - first >= 0.045

    asyncio.run(main())


def test_a_supervisor_that_does_not_read_blocks_nothing_and_gets_everything_later(
    ends: tuple[socket.socket, Lifeline],
) -> None:
    ours, lifeline = ends
    count = 100_000

    async def main() -> None:
        lifeline.attach(ignore, fail)
        for _ in range(count):
            lifeline.report(Ready())
        reader, loop, received = supervisor_end(), asyncio.get_running_loop(), 0
        ours.setblocking(False)
        while received < count:
            received += len(reader.receive(await loop.sock_recv(ours, 1 << 20)))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "the supervisor is gone"),
        (encode(ASSIGNMENT), "a second assignment came"),
        (b"\0\0\0\1\xc1", "not a lifeline message: "),
    ],
)
def test_the_end_of_the_supervisor_and_garbage_end_the_worker(
    ends: tuple[socket.socket, Lifeline], sent: bytes, reason: str
) -> None:
    ours, lifeline = ends
    reasons: list[str] = []

    async def main() -> None:
        lifeline.attach(ignore, reasons.append)
        if sent:
            ours.sendall(sent)
        else:
            ours.close()
        await eventually(lambda: bool(reasons))

    asyncio.run(main())
    assert len(reasons) == 1
    assert reasons[0].startswith(reason)


def test_what_comes_before_garbage_is_taken_in(ends: tuple[socket.socket, Lifeline]) -> None:
    ours, lifeline = ends
    got: list[ToWorker] = []
    reasons: list[str] = []

    async def main() -> None:
        lifeline.attach(got.append, reasons.append)
        ours.sendall(encode(RosterNews(())) + b"\0\0\0\1\xc1")
        await eventually(lambda: bool(reasons))

    asyncio.run(main())
    assert got == [RosterNews(())]
    assert len(reasons) == 1


@pytest.mark.parametrize("names", [("blacklist",), ("blacklist", "blacklist"), ("a", "b", "c")])
def test_descriptors_that_are_not_those_of_the_assignment_are_closed(
    ends: tuple[socket.socket, Lifeline], names: tuple[str, ...]
) -> None:
    ours, lifeline = ends
    said = encode(msgspec.structs.replace(ASSIGNMENT, descriptors=names))
    with open(os.devnull, "rb") as null:
        socket.send_fds(ours, [said], [null.fileno()] * 2)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(LifelineError, match="descriptors"):
        lifeline.receive_first()
    assert set(os.listdir("/proc/self/fd")) == before


def test_what_is_left_at_the_end_is_flushed(ends: tuple[socket.socket, Lifeline]) -> None:
    ours, lifeline = ends

    async def main() -> None:
        lifeline.attach(ignore, fail)
        lifeline.report(Ready())

    asyncio.run(main())
    lifeline.flush(1.0)
    assert heard(ours) == [Ready()]
    ours.close()
    lifeline.flush(1.0)  # Nobody is there any more: no error.


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def test_who_writes_first_to_a_dead_supervisor_says_the_same_as_who_reads(
    ends: tuple[socket.socket, Lifeline],
) -> None:
    ours, lifeline = ends
    ours.sendall(encode(ASSIGNMENT))
    assert lifeline.receive_first() == ASSIGNMENT
    reasons: list[str] = []

    async def main() -> None:
        lifeline.attach(ignore, reasons.append)
        ours.close()
        lifeline.report(Ready())
        assert reasons == ["the supervisor is gone"]

    asyncio.run(main())
