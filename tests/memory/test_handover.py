"""Shared memory without a name changes hands over a socket: whole, to our own user, and without anybody waiting."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshvisor.shared.errors import BlacklistError, SegmentError
from meshvisor.shared.memory import handover
from meshvisor.shared.memory.blacklist import SharedBlacklist
from meshvisor.shared.memory.handover import fetch, fetched, is_socket, offer

Serve = Callable[[Callable[[socket.socket], object]], Callable[[], None]]
GREETING = b"meshvisor 1 blacklist wake\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ("deep" * 40) / "attach.sock"  # no socket address is that long


@pytest.fixture
def serve(path: Path) -> Iterator[Serve]:
    """Listen at ``path``; each client is given to a function and hung up on. Returns what ends that."""
    path.parent.mkdir()
    directory = os.open(path.parent, os.O_PATH)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"/proc/self/fd/{directory}/{path.name}")
    os.close(directory)
    listener.listen(8)
    threads: list[threading.Thread] = []

    def run(act: Callable[[socket.socket], object]) -> None:
        try:
            while True:
                client, _ = listener.accept()
                with client:
                    act(client)
        except OSError:
            return

    def stop() -> None:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()

    def start(act: Callable[[socket.socket], object], /) -> Callable[[], None]:
        threads.append(threading.Thread(target=run, args=(act,)))
        threads[-1].start()
        return stop

    yield start
    stop()
    listener.close()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_arrive_by_name_as_copies_that_no_program_inherits(serve: Serve, path: Path) -> None:
    reading, writing = os.pipe()
    serve(lambda client: offer(client, {"wake": writing, "board": reading}))
    found = fetch(path)
    os.write(found["wake"], b"hello")
    assert os.read(found["board"], 5) == b"hello"
    for descriptor in found.values():
        assert fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    for descriptor in (*found.values(), reading, writing):
        os.close(descriptor)


def test_a_blacklist_is_attached_by_the_path_of_the_socket(serve: Serve, path: Path) -> None:
    with SharedBlacklist.create(source="mesh") as ours:
        stop = serve(lambda client: offer(client, {"blacklist": ours.fileno(), "wake": ours.wake_fd}))
        before = open_descriptors()
        with SharedBlacklist.attach(path, source="guest") as theirs:
            assert theirs.wake_fd >= 0
            assert theirs.set_penalty("tcp:127.0.0.1:4500", "hard", 10.0)
            penalty = ours.get_penalty("tcp:127.0.0.1:4500")
            assert penalty is not None
            assert penalty.source == "guest"
        stop()
        assert open_descriptors() == before


def test_a_mesh_without_a_blacklist_says_so(serve: Serve, path: Path) -> None:
    serve(lambda client: offer(client, {}))
    with pytest.raises(BlacklistError, match="no blacklist to be had"):
        SharedBlacklist.attach(path)


def test_a_client_that_does_not_read_is_not_waited_for() -> None:
    with SharedBlacklist.create() as table:
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        with ours, theirs:
            ours.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    ours.send(bytes(65_536))
            ours.setblocking(True)
            assert offer(ours, {"blacklist": table.fileno()}) is False


def test_a_client_that_is_gone_already_does_no_harm() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    theirs.close()
    with ours:
        assert offer(ours, {}) is False


def test_another_user_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        monkeypatch.setattr(handover, "_peer_uid", lambda sock: os.geteuid() + 1)
        assert offer(ours, {"wake": 0}) is False
        ours.shutdown(socket.SHUT_WR)
        assert theirs.recv(100) == b""


def test_nothing_is_taken_from_another_user(serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(lambda client: client.sendall(GREETING))
    monkeypatch.setattr(handover, "_peer_uid", lambda sock: os.geteuid() + 1)
    with pytest.raises(SegmentError, match="belongs to user"):
        fetch(path)


@pytest.mark.parametrize(
    ("greeting", "count", "text"),
    [
        (b"", 0, "does not hand out"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 1, "does not hand out"),
        (b"meshvisor 1 blacklist wake", 2, "does not hand out"),
        (b"meshvisor 2 blacklist\n", 1, "of another version"),
        (GREETING, 1, "1 descriptors came, where 2 were named"),
        (GREETING, 3, "3 descriptors came, where 2 were named"),
        (b"meshvisor 1 wake wake\n", 2, "2 descriptors came"),
        (b"x" * 4096, 8, "does not hand out"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_stays_open(
    serve: Serve, path: Path, greeting: bytes, count: int, text: str
) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    stop = serve(lambda client: socket.send_fds(client, [greeting], [null] * count) if greeting else None)
    before = open_descriptors()
    with pytest.raises(SegmentError, match=text) as error:
        fetch(path)
    assert error.value.segment == str(path)
    stop()
    assert open_descriptors() == before
    os.close(null)


def test_a_server_that_does_not_answer_is_given_up(serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "TIMEOUT", 0.05)
    done = threading.Event()
    serve(lambda client: done.wait())
    with pytest.raises(SegmentError, match=r"did not answer within 0\.05 s"):
        fetch(path)
    done.set()


def test_a_full_queue_is_waited_for_and_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "TIMEOUT", 0.05)
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        with pytest.raises(SegmentError, match="did not answer"):
            fetch(path)


def test_where_nobody_listens_that_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(BlacklistError, match="nobody answers there: No such file"),
        fetched(tmp_path / "s", BlacklistError),
    ):
        pass
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
    assert is_socket(tmp_path / "s")
    assert not is_socket(tmp_path)
    assert not is_socket(tmp_path / "missing")
    with pytest.raises(SegmentError, match="nobody answers there: Connection refused"):
        fetch(tmp_path / "s")
