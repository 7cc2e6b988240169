"""Events for clients: numbered, kept in a ring, published, and never waited for."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.supervisor.fake import FakeSupervisor

from meshvisor.shared.control.requests import Happened
from meshvisor.supervisor import feed as feed_module
from meshvisor.supervisor import gate
from meshvisor.supervisor.client import Client, NotRunning
from meshvisor.supervisor.control import ControlServer
from meshvisor.supervisor.directory import RuntimeDirectory
from meshvisor.supervisor.event import Event
from meshvisor.supervisor.feed import Feed
from meshvisor.supervisor.operations import Operations


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RuntimeDirectory]:
    directory = RuntimeDirectory(tmp_path / "run", "demo", tmp_path / "mesh.toml")
    yield directory
    directory.close()


def event(number: int, **details: object) -> Event:
    return Event(float(number), "slot-ready", "a", number, details)


def kept(feed: Feed) -> list[Happened]:
    return [msgspec.json.decode(raw, type=Happened) for raw in feed.recent]


# The ring.


def test_events_are_numbered_from_one() -> None:
    feed = Feed()
    feed.event(event(7, pid=3))
    feed.event(Event(8.0, "mesh-ready"))
    assert kept(feed) == [
        Happened(1, 7.0, "slot-ready", "a", 7, {"pid": 3}),
        Happened(2, 8.0, "mesh-ready", "", 0, {}),
    ]


def test_only_the_latest_are_kept() -> None:
    feed = Feed()
    for number in range(1, 1203):
        feed.event(event(number))
    assert [happened.number for happened in kept(feed)] == list(range(203, 1203))


def test_only_so_many_bytes_are_kept() -> None:
    feed = Feed()
    for number in range(1, 31):
        feed.event(event(number, text="x" * 60_000))
    found = kept(feed)
    assert found[-1].number == 30
    assert 15 <= len(found) <= 17
    assert all(len(happened.details["text"]) == 60_000 for happened in found)


def test_an_event_that_is_too_long_loses_its_long_texts() -> None:
    feed = Feed()
    feed.event(event(1, pid=3, traceback="x" * 70_000, tail=["y" * 10]))
    assert kept(feed)[0].details == {"pid": 3, "traceback": "x" * 1000}


def test_what_is_no_utf8_does_no_harm() -> None:
    feed = Feed()
    feed.event(event(1, cwd=Path("/b"), tail=["caf\udce9"]))
    assert kept(feed)[0].details == {"cwd": "/b", "tail": ["caf?"]}


# Following.

Scene = Callable[[Feed, Callable[[Client], object]], object]


@pytest.fixture
def loops() -> list[asyncio.AbstractEventLoop]:
    """The loops of the servers so far."""
    return []


@pytest.fixture
def scene(directory: RuntimeDirectory, loops: list[asyncio.AbstractEventLoop]) -> Scene:
    """Run a client's function in a thread, against a server in the loop of another."""

    def run(feed: Feed, work: Callable[[Client], object]) -> object:
        async def main() -> object:
            loops.append(asyncio.get_running_loop())
            supervisor = FakeSupervisor()
            server = ControlServer(supervisor, Operations(supervisor), feed, directory)
            server.start()

            def ask() -> object:
                with Client(directory.path.parent, "demo") as client:
                    return work(client)

            try:
                return await asyncio.to_thread(ask)
            finally:
                server.close()

        return asyncio.run(main())

    return run


def test_who_joins_late_has_all_of_it_and_nothing_twice(scene: Scene, loops: list[asyncio.AbstractEventLoop]) -> None:
    feed = Feed()
    for number in range(1, 51):
        feed.event(event(number))
    is_on = threading.Event()

    def work(client: Client) -> list[int]:
        loops[0].call_soon_threadsafe(publish, 51)
        is_on.wait(10)  # events are being published from here on, whether we have subscribed or not
        following = client.follow()
        return [*(one.number for one in following.recent), *(one.number for one in following)]

    def publish(number: int) -> None:
        is_on.set()
        for one in range(number, number + 5):
            feed.event(event(one))
        if number < 1000:
            loops[0].call_later(0.0005, publish, number + 5)
        else:
            feed.event(Event(1.0, "mesh-stopped"))

    numbers = scene(feed, work)
    assert isinstance(numbers, list)
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 1000


def test_a_reader_that_is_too_slow_is_told_how_many_it_missed(
    scene: Scene, loops: list[asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_REMINDER", 0.05)
    feed = Feed()
    feed.event(event(1))

    def work(client: Client) -> list[Happened]:
        following = client.follow()
        is_out = threading.Event()

        def publish() -> None:
            for number in range(2, 20_001):
                feed.event(event(number))
            is_out.set()

        loops[0].call_soon_threadsafe(publish)
        assert is_out.wait(10)  # nobody waits for us
        heard = []
        for one in following:
            heard.append(one)
            if one.number == 20_000:  # the last of them was dropped, too, and nothing follows
                loops[0].call_soon_threadsafe(feed.event, Event(1.0, "mesh-stopped"))
        return heard

    heard = scene(feed, work)
    assert isinstance(heard, list)
    dropped = [one for one in heard if one.event == "dropped"]
    assert dropped
    missed = sum(one.details["count"] for one in dropped)
    assert missed + len(heard) - len(dropped) == 20_000
    assert [one.number for one in heard] == sorted({one.number for one in heard})


def test_a_supervisor_that_is_killed_is_an_error(directory: RuntimeDirectory, scene: Scene) -> None:
    def work(client: Client) -> None:
        following = client.follow()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.close()  # readable, as the pidfd of a process that has ended
            client._process = ours.fileno()
            with pytest.raises(NotRunning):
                next(iter(following))

    scene(Feed(), work)


# Who gets in.


def test_only_so_many_get_in_and_those_that_say_nothing_do_not_stay(
    scene: Scene, directory: RuntimeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MOST", 4)
    monkeypatch.setattr(gate, "_GREETING", 200)
    path = f"/proc/self/fd/{directory.fd}/control"

    def work(client: Client) -> None:
        client.names()
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                peer = stack.enter_context(socket.socket(socket.AF_UNIX))
                peer.connect(path)
            while not _is_shut(path):
                pass
            client.names()  # who is in stays in
            with Client(directory.path.parent, "demo") as late:
                late.names()  # as soon as the silent ones are cut off
            _read_to_the_end(peer)

    scene(Feed(), work)


def _is_shut(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as peer:
        try:
            peer.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return True
    return False


def _read_to_the_end(peer: socket.socket) -> None:
    peer.settimeout(10)
    while peer.recv(4096):
        pass
