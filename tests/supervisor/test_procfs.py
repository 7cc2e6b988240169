"""What /proc tells of real processes and threads."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from meshvisor.supervisor import procfs


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_a_thread_that_computes_is_running_and_its_time_grows() -> None:
    pid, tid = os.getpid(), threading.get_native_id()
    started = procfs.start_time(pid)
    assert started is not None
    first = procfs.look(pid, tid, started, 1.0)
    before = time.thread_time()
    while time.thread_time() < before + 0.05:
        pass
    second = procfs.look(pid, tid, started, 2.0)
    assert first is not None
    assert second is not None
    assert (first.now, second.now, second.state, second.stop_signal) == (1.0, 2.0, "R", 0)
    assert first.executed is not None
    assert second.executed is not None
    # The kernel books the time of a running thread at its ticks only (10 ms at most).
    assert second.executed - first.executed >= 0.04
    assert second.cpu - first.cpu >= 0.03
    assert abs(second.ticks - second.executed) < 0.05


def test_what_a_process_costs_is_known_until_it_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    own = procfs.usage(os.getpid())
    assert own is not None
    assert own[0] == pytest.approx(time.process_time(), abs=0.1)
    assert own[1] == pytest.approx(int(Path("/proc/self/statm").read_text().split()[1]) * 4096, rel=0.1)
    sleeper.kill()
    sleeper.wait()
    assert procfs.usage(sleeper.pid) is None


def test_the_other_threads_are_told_apart_from_the_loops() -> None:
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            pass

    threads = [threading.Thread(target=compute), threading.Thread(target=stop.wait)]
    for thread in threads:
        thread.start()
    started = procfs.start_time(os.getpid())
    assert started is not None
    idle = procfs.look(os.getpid(), threads[1].native_id or 0, started, 0.0)
    assert idle is not None
    assert idle.others.is_runnable
    deadline = time.monotonic() + 10.0
    while True:
        later = procfs.look(os.getpid(), threads[1].native_id or 0, started, 1.0)
        assert later is not None
        if later.others.executed >= idle.others.executed + 0.02 or time.monotonic() > deadline:
            break
    stop.set()
    for thread in threads:
        thread.join()
    assert later.state == "S"
    assert later.others.executed >= idle.others.executed + 0.02
    assert later.executed is not None
    assert later.executed < 0.02


def test_a_stopped_process_tells_by_which_signal(sleeper: subprocess.Popen[bytes]) -> None:
    started = procfs.start_time(sleeper.pid)
    assert started is not None
    sleeper.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WNOWAIT)
    look = procfs.look(sleeper.pid, sleeper.pid, started, 0.0)
    assert look is not None
    assert (look.state, look.is_frozen, look.is_held) == ("T", True, False)
    assert look.stop_signal in (0, signal.SIGSTOP)  # 0: a kernel before 6.8


def test_a_sleeping_thread_says_where_it_sleeps(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WNOWAIT)
    assert procfs.sleeps_in(sleeper.pid, sleeper.pid) == "do_signal_stop"
    assert procfs.sleeps_in(os.getpid(), threading.get_native_id()) == ""
    assert procfs.waits_on(sleeper.pid, sleeper.pid) is None


def test_a_thread_that_waits_on_an_epoll_says_on_which() -> None:
    program = "import os, select; e = select.epoll(); os.dup2(e.fileno(), 17); select.epoll.fromfd(17).poll()"
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", program])
    deadline = time.monotonic() + 10.0
    try:
        while (found := procfs.waits_on(process.pid, process.pid)) is None and time.monotonic() < deadline:
            time.sleep(0.001)
        assert found == 17
    finally:
        process.kill()
        process.wait()


def test_a_number_that_belongs_to_another_process_by_now_is_nobodys(sleeper: subprocess.Popen[bytes]) -> None:
    started = procfs.start_time(sleeper.pid)
    assert started is not None
    assert procfs.look(sleeper.pid, sleeper.pid, started, 0.0) is not None
    assert procfs.look(sleeper.pid, sleeper.pid, started + 1, 0.0) is None
    assert procfs.look(sleeper.pid, os.getpid(), started, 0.0) is None  # a thread, but not of that process


def test_a_process_that_is_gone_is_nobodys_before_it_is_reaped_too() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    started = procfs.start_time(process.pid)
    assert started is not None
    assert procfs.look(process.pid, process.pid, started, 0.0) is None
    process.wait()
    assert procfs.look(process.pid, process.pid, started, 0.0) is None
    assert procfs.start_time(process.pid) is None
    assert procfs.sleeps_in(process.pid, process.pid) == ""


def test_a_name_full_of_parentheses_and_spaces_misleads_nobody(tmp_path: Path) -> None:
    program = tmp_path / ") S 1 (T"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "1000"], executable=program)
    try:
        started = procfs.start_time(process.pid)
        assert started is not None
        look = procfs.look(process.pid, process.pid, started, 0.0)
        assert look is not None
        assert look.state in "RSD"
    finally:
        process.kill()
        process.wait()


def test_without_schedstat_there_are_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    read = procfs._read
    monkeypatch.setattr(procfs, "_read", lambda path: b"" if path.endswith("schedstat") else read(path))
    started = procfs.start_time(os.getpid())
    assert started is not None
    look = procfs.look(os.getpid(), os.getpid(), started, 0.0)
    assert look is not None
    assert (look.executed, look.waited) == (None, 0.0)
    assert look.computed == look.ticks


def test_nothing_stays_open(sleeper: subprocess.Popen[bytes]) -> None:
    started = procfs.start_time(sleeper.pid)
    assert started is not None
    procfs.look(sleeper.pid, sleeper.pid, started, 0.0)
    procfs.waits_on(sleeper.pid, sleeper.pid)
    with suppress(FileNotFoundError):  # the directory that is listed has a descriptor of its own
        for descriptor in os.listdir("/proc/self/fd"):
            assert not os.readlink(f"/proc/self/fd/{descriptor}").startswith(f"/proc/{sleeper.pid}/")
