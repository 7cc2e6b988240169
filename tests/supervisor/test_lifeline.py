"""The supervisor's end of a lifeline, against a worker that is slow, silent, rude or dead."""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from meshvisor.shared.control.lifeline import (
    Assignment,
    Failure,
    FromWorker,
    Links,
    LinksWanted,
    Ready,
    RosterNews,
    Stop,
    ToWorker,
    encode,
    worker_end,
)
from meshvisor.shared.core.roster import NodeRecord, NodeStatus
from meshvisor.supervisor.herald import HUSH, Herald
from meshvisor.supervisor.lifeline import Lifeline
from meshvisor.workers.testing import run_virtual


class Talk:
    """Both ends of a lifeline; the worker's is read when the test says so."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        for end in (self.ours, self.theirs):
            end.setblocking(False)
        self.heard: list[FromWorker] = []
        self.ends: list[tuple[str, bool]] = []
        loop = asyncio.get_running_loop()
        self.lifeline = Lifeline(loop, self.ours, self.heard.append, lambda *end: self.ends.append(end))
        self._reader = worker_end()

    def read(self) -> list[ToWorker]:
        """Return what has arrived at the worker."""
        messages: list[ToWorker] = []
        while True:
            try:
                data = self.theirs.recv(1 << 20)
            except BlockingIOError:
                return messages
            if not data:
                return messages
            messages += self._reader.receive(data)

    def close(self) -> None:
        self.lifeline.close()
        self.theirs.close()


@pytest.fixture
def talk() -> Callable[[Callable[[Talk], Coroutine[Any, Any, None]]], None]:
    def run(scenario: Callable[[Talk], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            talk = Talk()
            try:
                await scenario(talk)
            finally:
                talk.close()

        run_virtual(main())

    return run


def record(name: str, incarnation: int = 1, status: NodeStatus = NodeStatus.READY) -> NodeRecord:
    return NodeRecord(name, name, 0, incarnation, 7, status)


def assignment(settings: dict[str, Any]) -> Assignment:
    return Assignment("m", "a", "a", 0, 1, 7, "x:Y", "/", settings, ("unix:/a",), b"s", ())


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_descriptors_go_out_once_with_the_first_byte_of_the_assignment(talk: Any) -> None:
    async def scenario(talk: Talk) -> None:
        talk.lifeline.assign(assignment({}), [talk.theirs.fileno()])
        talk.lifeline.tell([record("b")])
        _, descriptors, _, _ = socket.recv_fds(talk.theirs, 1, 8)
        assert len(descriptors) == 1
        os.close(descriptors[0])
        _, more, _, _ = socket.recv_fds(talk.theirs, 1 << 20, 8)
        assert more == []

    talk(scenario)


def test_what_is_said_arrives_in_order(talk: Any) -> None:
    async def scenario(talk: Talk) -> None:
        talk.lifeline.assign(assignment({}))
        talk.lifeline.tell([record("b")])
        talk.lifeline.stop()
        assert talk.read() == [assignment({}), RosterNews((record("b"),)), Stop()]

    talk(scenario)


def test_what_the_worker_says_is_handed_over(talk: Any) -> None:
    async def scenario(talk: Talk) -> None:
        talk.theirs.send(encode(Ready()) + encode(Links(1, 2))[:3])
        await turns()
        talk.theirs.send(encode(Links(1, 2))[3:])
        await turns()
        assert talk.heard == [Ready(), Links(1, 2)]

    talk(scenario)


def test_a_worker_that_does_not_read_costs_one_batch_and_the_latest_news_per_node(talk: Any) -> None:
    async def scenario(talk: Talk) -> None:
        talk.lifeline.assign(assignment({"big": "x" * 4_000_000}))
        for incarnation in range(1, 1000):
            talk.lifeline.tell([record("b", incarnation), record("c", incarnation)])
        received: list[ToWorker] = []
        while len(received) < 2:
            received += talk.read()
            await turns()
        assert isinstance(received[0], Assignment)
        assert received[1:] == [RosterNews((record("b", 999), record("c", 999)))]

    talk(scenario)


def test_a_stop_gets_through_to_a_worker_that_was_busy(talk: Any) -> None:
    async def scenario(talk: Talk) -> None:
        talk.lifeline.assign(assignment({"big": "x" * 4_000_000}))
        talk.lifeline.stop()
        received: list[ToWorker] = []
        while len(received) < 2:
            received += talk.read()
            await turns()
        assert received[1] == Stop()

    talk(scenario)


def test_a_question_goes_out_behind_the_news_it_is_about(talk: Any) -> None:
    async def scenario(talk: Talk) -> None:
        talk.lifeline.assign(assignment({"big": "x" * 4_000_000}))
        talk.lifeline.want_links(LinksWanted(3))
        talk.lifeline.tell([record("b")])
        received: list[ToWorker] = []
        while len(received) < 3:
            received += talk.read()
            await turns()
        assert received[1:] == [RosterNews((record("b"),)), LinksWanted(3)]
        talk.lifeline.want_links(LinksWanted(4, each=False))
        assert talk.read() == [LinksWanted(4, each=False)]

    talk(scenario)


def test_the_end_is_told_once_with_its_reason(talk: Any) -> None:
    async def scenario(talk: Talk) -> None:
        talk.theirs.send(encode(Failure("run", "Traceback")))
        talk.theirs.close()
        await turns()
        assert talk.heard == [Failure("run", "Traceback")]
        assert talk.ends == [("it closed its lifeline", False)]
        talk.lifeline.tell([record("b")])
        talk.lifeline.stop()
        await turns()
        assert len(talk.ends) == 1

    talk(scenario)


def test_a_worker_that_closes_without_reading_its_news_has_closed_too(talk: Any) -> None:
    """supervisord 12 (reliability.md 4.3): EPIPE towards a child is survived."""

    async def scenario(talk: Talk) -> None:
        talk.lifeline.tell([record("b")])
        talk.theirs.close()
        await turns()
        assert talk.ends == [("it closed its lifeline", False)]

    talk(scenario)


@pytest.mark.parametrize(
    "garbage",
    [b"\0\0\0\1\0", b"\xff\xff\xff\xff", b"\0\0\0\x02\x91\xa1", encode(Stop())],
    ids=["a number", "an endless message", "half a message", "a message of the other side"],
)
def test_garbage_is_told_as_such(talk: Any, garbage: bytes) -> None:
    async def scenario(talk: Talk) -> None:
        talk.theirs.send(garbage)
        await turns()
        assert [(reason.split(":")[0], garbled) for reason, garbled in talk.ends] == [
            ("it sent garbage over its lifeline", True)
        ]

    talk(scenario)


@pytest.mark.parametrize("is_dead", [False, True])
def test_what_comes_before_garbage_is_heard(talk: Any, is_dead: bool) -> None:
    async def scenario(talk: Talk) -> None:
        talk.theirs.send(encode(Failure("import", "Traceback")) + b"\0\0\0\1\0")
        if is_dead:
            talk.lifeline.drain()
        else:
            await turns()
        assert talk.heard == [Failure("import", "Traceback")]
        assert [garbled for _, garbled in talk.ends] == ([] if is_dead else [True])

    talk(scenario)


def test_the_last_words_of_a_dead_worker_are_heard(talk: Any) -> None:
    async def scenario(talk: Talk) -> None:
        talk.theirs.send(encode(Failure("import", "Traceback")) + encode(Ready())[:5])
        talk.theirs.close()
        talk.lifeline.drain()
        assert talk.heard == [Failure("import", "Traceback")]
        assert talk.ends == []

    talk(scenario)


def test_draining_waits_for_nobody(talk: Any) -> None:
    async def scenario(talk: Talk) -> None:
        talk.lifeline.drain()
        assert talk.heard == []

    talk(scenario)


def test_what_changes_while_a_spare_takes_a_place_is_told_when_it_has(talk: Any) -> None:
    async def scenario(talk: Talk) -> None:
        herald = Herald(asyncio.get_running_loop())
        herald.enroll(talk.lifeline)
        herald.hush()
        herald.announce(record("b", 2))
        await turns()
        assert talk.read() == []
        herald.announce(record("c"))
        herald.speak()
        await turns()
        assert talk.read() == [RosterNews((record("b", 2), record("c")))]
        herald.announce(record("b", 3))
        await turns()
        assert talk.read() == [RosterNews((record("b", 3),))]

    talk(scenario)


def test_news_wait_for_a_spare_a_moment_and_no_longer(talk: Any) -> None:
    async def scenario(talk: Talk) -> None:
        loop = asyncio.get_running_loop()
        herald = Herald(loop)
        herald.enroll(talk.lifeline)
        herald.hush()
        herald.announce(record("b"))
        began = loop.time()
        while not (told := talk.read()):
            await asyncio.sleep(HUSH / 10)
        assert told == [RosterNews((record("b"),))]
        assert loop.time() - began >= HUSH * 0.9
        herald.hush()
        herald.speak()  # of nothing
        await turns()
        assert talk.read() == []

    talk(scenario)


def test_all_changes_of_one_turn_are_one_message(talk: Any) -> None:
    async def scenario(talk: Talk) -> None:
        herald = Herald(asyncio.get_running_loop())
        herald.enroll(talk.lifeline)
        herald.announce(record("b", 1, NodeStatus.DOWN))
        herald.announce(record("b", 2, NodeStatus.DOWN))
        herald.announce(record("c"))
        assert talk.read() == []
        await turns()
        assert talk.read() == [RosterNews((record("b", 2, NodeStatus.DOWN), record("c")))]
        herald.announce(record("c"))
        herald.announce(record("b", 1))
        await turns()
        assert talk.read() == []
        assert herald.records == (record("b", 2, NodeStatus.DOWN), record("c"))
        herald.dismiss(talk.lifeline)
        herald.announce(record("c", 2))
        await turns()
        assert talk.read() == []

    talk(scenario)
