"""A real worker process, with the test as its supervisor at the other end of the lifeline."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshvisor import LivenessBoard
from meshvisor.shared.control.lifeline import (
    Assignment,
    Failure,
    FromWorker,
    Links,
    Listening,
    Ready,
    RosterNews,
    Stop,
    encode,
    supervisor_end,
)
from meshvisor.shared.core.roster import NodeRecord, NodeStatus
from meshvisor.shared.memory.board import Stage
from meshvisor.shared.memory.segment import FIRST_FREE
from meshvisor.supervisor.procfs import waits_on
from meshvisor.supervisor.traces import make_traces, read_traces, request_traces

WITHIN = 20.0

APPLICATION = """
import asyncio, os, sys, threading, time
from meshvisor import Worker, rpc

class Quiet(Worker):
    async def on_stop(self):
        print("stopping", flush=True)

class Echo(Worker):
    @rpc
    async def pid(self) -> int:
        return os.getpid()

class Asks(Worker):
    async def run(self):
        pid = await self.call("echo", "pid", timeout=10)
        print("pid", pid, flush=True)

class Looks(Worker):
    async def run(self):
        print(open("/proc/self/cmdline").read().rstrip("\\0"))
        print("MARK=here" in open("/proc/self/environ").read().split("\\0"))

class Raises(Worker):
    async def on_start(self):
        raise ValueError("no such luck")

class Exits(Worker):
    async def run(self):
        print("done")
        sys.exit(7)

class Hangs(Worker):
    async def on_start(self):
        process = await asyncio.create_subprocess_exec("true")
        print("child", await process.wait(), flush=True)

    async def run(self):
        while "b" not in self.peers or self.peers["b"].lag is None:
            await asyncio.sleep(0.01)
        print("lag", 5 < self.peers["b"].lag < 60, flush=True)
        self.sleep_for_ever()

    def sleep_for_ever(self):
        time.sleep(3600)

class LeavesThread(Worker):
    async def run(self):
        threading.Thread(target=time.sleep, args=(3600,)).start()
"""


class Supervised:
    """A worker process and the supervisor's end of its lifeline."""

    def __init__(self, process: subprocess.Popen[str], lifeline: socket.socket) -> None:
        self.process = process
        self.lifeline = lifeline
        self._reader = supervisor_end()
        self._heard: list[FromWorker] = []

    def tell(self, message: Any) -> None:
        self.lifeline.sendall(encode(message))

    def assign(self, message: Assignment, **descriptors: int) -> None:
        message = msgspec.structs.replace(message, descriptors=tuple(descriptors))
        socket.send_fds(self.lifeline, [encode(message)], list(descriptors.values()))

    def hear(self, kind: type[FromWorker]) -> Any:
        """Wait for the next message of ``kind``."""
        while True:
            while self._heard:
                if isinstance(message := self._heard.pop(0), kind):
                    return message
            data = self.lifeline.recv(65536)
            assert data, f"the worker ended with {self.process.wait(WITHIN)}: {self.process.stderr!r}"
            self._heard = self._reader.receive(data)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return the status and what was written to stdout and stderr."""
        output, errors = self.process.communicate(timeout=WITHIN)
        return self.process.returncode, output, errors


@contextmanager
def worker(*arguments: str) -> Iterator[Supervised]:
    ours, theirs = socket.socketpair()
    ours.settimeout(WITHIN)
    process = subprocess.Popen(
        [sys.executable, "-m", "meshvisor.workers", str(theirs.fileno()), *arguments],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    theirs.close()
    try:
        yield Supervised(process, ours)
    finally:
        ours.close()
        if process.poll() is None:
            process.kill()
        process.communicate()


def assignment(tmp_path: Path, cls: str, name: str = "a", roster: tuple[NodeRecord, ...] = ()) -> Assignment:
    (tmp_path / "app.py").write_text(APPLICATION)
    return Assignment(
        mesh="test",
        name=name,
        group=name,
        replica=0,
        incarnation=1,
        epoch=sum(name.encode()),
        class_path=f"app:{cls}",
        path=str(tmp_path),
        settings={},
        listen=(f"unix:{tmp_path}/{name}.1.sock",),
        secret=b"x" * 32,
        roster=roster,
    )


def test_a_worker_listens_gets_ready_and_stops_when_told(tmp_path: Path) -> None:
    with worker() as child:
        child.tell(assignment(tmp_path, "Quiet"))
        assert child.hear(Listening).endpoints == (f"unix:{tmp_path}/a.1.sock",)
        child.hear(Ready)
        child.tell(Stop())
        assert child.end() == (0, "stopping\n", "")
    assert not (tmp_path / "a.1.sock").exists()


def test_the_stop_signal_stops_it_and_ctrl_c_does_not(tmp_path: Path) -> None:
    with worker() as child:
        child.tell(assignment(tmp_path, "Quiet"))
        child.hear(Ready)
        child.process.send_signal(signal.SIGINT)
        child.process.send_signal(signal.SIGTERM)
        assert child.end() == (0, "stopping\n", "")


def test_two_workers_link_over_unix_sockets_and_call_each_other(tmp_path: Path) -> None:
    records = tuple(NodeRecord(name, name, 0, 1, sum(name.encode())) for name in ("echo", "asks"))
    with worker() as echo, worker() as asks:
        for child, cls, name in ((echo, "Echo", "echo"), (asks, "Asks", "asks")):
            child.tell(assignment(tmp_path, cls, name, records))
        news = []
        for child, record in ((echo, records[0]), (asks, records[1])):
            endpoints = child.hear(Listening).endpoints
            child.hear(Ready)
            news.append(NodeRecord(record.name, record.group, 0, 1, record.epoch, NodeStatus.READY, tuple(endpoints)))
        for child in (echo, asks):
            child.tell(RosterNews(tuple(news)))
        assert asks.end() == (0, f"pid {echo.process.pid}\n", "")
        while (links := echo.hear(Links)) != Links(0, 1):
            assert links in (Links(0, 0), Links(0, 1), Links(1, 1))


def test_a_worker_stamps_the_board_reads_its_peers_lag_there_and_says_where_it_hangs(tmp_path: Path) -> None:
    board, traces = LivenessBoard.create(2), make_traces()
    peer = board.claim(0, "b", 1, 1)
    peer.words[peer.stamp_at] = peer.waiting + 1  # in its turn since the board was made
    board.words[FIRST_FREE] -= 10_000_000_000  # ten seconds ago
    peer.beat(lag=0.5)
    record = NodeRecord("b", "b", 0, 1, 1)
    with worker() as child:
        assigned = msgspec.structs.replace(assignment(tmp_path, "Hangs", roster=(record,)), board_index=1)
        child.assign(assigned, board=board.fileno(), traces=traces)
        endpoints = child.hear(Listening).endpoints
        child.hear(Ready)
        pidfd = os.pidfd_open(child.process.pid)
        while "sleep_for_ever" not in read_traces(traces):
            request_traces(pidfd)
            select.select([], [], [], 0.05)
        entry = board.read(1)
        assert entry is not None
        assert (entry.name, entry.epoch, entry.stage) == ("a", 97, Stage.READY)
        assert (entry.pid, entry.tid, entry.endpoints) == (child.process.pid, child.process.pid, endpoints)
        assert os.readlink(f"/proc/{entry.pid}/fd/{entry.selector}") == "anon_inode:[eventpoll]"
        assert entry.turn_started_at is not None
        assert waits_on(entry.pid, entry.tid) is None
        child.process.kill()
        assert child.end()[:2] == (-signal.SIGKILL, "child 0\nlag True\n")
        os.close(pidfd)
    os.close(traces)
    board.close()


def test_a_class_that_does_not_import_is_reported_with_its_traceback(tmp_path: Path) -> None:
    with worker() as child:
        child.tell(assignment(tmp_path, "Quite"))
        failure = child.hear(Failure)
        status, _, errors = child.end()
    assert failure.where == "import"
    assert "module 'app' has no 'Quite' (did you mean 'Quiet'?)" in failure.traceback
    assert "meshvisor" not in failure.traceback
    assert (status, errors) == (1, failure.traceback)


def test_an_exception_in_on_start_is_reported_and_ends_with_1(tmp_path: Path) -> None:
    with worker() as child:
        child.tell(assignment(tmp_path, "Raises"))
        failure = child.hear(Failure)
        status, _, errors = child.end()
    assert failure.where == "on_start"
    assert failure.traceback.endswith('raise ValueError("no such luck")\nValueError: no such luck\n')
    assert (status, errors) == (1, failure.traceback)


def test_sys_exit_in_a_hook_is_the_status_and_output_is_flushed(tmp_path: Path) -> None:
    with worker() as child:
        child.tell(assignment(tmp_path, "Exits"))
        assert child.end() == (7, "done\n", "")


def test_run_that_returns_ends_the_process_whatever_threads_it_left(tmp_path: Path) -> None:
    with worker() as child:
        child.tell(assignment(tmp_path, "LeavesThread"))
        assert child.end()[0] == 0


def test_the_end_of_the_lifeline_ends_the_worker_at_once(tmp_path: Path) -> None:
    with worker() as child:
        child.tell(assignment(tmp_path, "Quiet"))
        child.hear(Ready)
        child.lifeline.shutdown(socket.SHUT_RDWR)
        assert child.end() == (1, "", "meshvisor worker: the supervisor is gone\n")


def test_garbage_on_the_lifeline_ends_the_worker(tmp_path: Path) -> None:
    with worker() as child:
        child.lifeline.sendall(b"\0\0\0\1\xc1")
        status, _, errors = child.end()
    assert status == 1
    assert "not a lifeline message" in errors


def test_a_worker_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    # A supervisor in between, so that it can be killed; the lifeline stays open, held by this process.
    ours, theirs = socket.socketpair()
    script = (
        "import os, socket, subprocess, sys\n"
        "keep, given = socket.socketpair()\n"
        "child = subprocess.Popen([sys.executable, '-m', 'meshvisor.workers', str(given.fileno())],"
        " pass_fds=[given.fileno()])\n"
        f"socket.send_fds(socket.socket(fileno={theirs.fileno()}), [str(child.pid).encode()], [keep.fileno()])\n"
        "child.wait()\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", script], pass_fds=[theirs.fileno()])
    theirs.close()
    with ours:
        data, descriptors, _, _ = socket.recv_fds(ours, 64, 1)
        with socket.socket(fileno=descriptors[0]) as lifeline:
            lifeline.settimeout(WITHIN)
            lifeline.sendall(encode(assignment(tmp_path, "Quiet")))
            assert lifeline.recv(1)  # It listens, so it has tied itself to its parent long ago.
            watch = os.pidfd_open(int(data))
            try:
                supervisor.kill()
                supervisor.wait(WITHIN)
                assert select.select([watch], [], [], WITHIN)[0], "the worker lives on"
            finally:
                os.close(watch)


def test_the_title_is_set_and_the_environment_stays_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The next supervisor knows the leftovers of a dead one by their environment.
    monkeypatch.setenv("MARK", "here")
    with worker("test/a") as child:
        child.tell(assignment(tmp_path, "Looks"))
        assert child.end() == (0, "meshvisor test/a\nTrue\n", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"), [([], "supervise run mesh.toml"), (["x"], "not the number"), (["999"], "not the number")]
)
def test_started_by_hand_it_says_one_sentence(arguments: list[str], sentence: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "meshvisor.workers", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )
    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
