import errno
import os
import select
import signal
import subprocess

import pytest

from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.child import Exit
from meshvisor.supervisor.reaper import check_kernel, frozen_children, kill_group, reap, send, signal_name


def test_signals_have_their_names() -> None:
    assert [signal_name(number) for number in (9, 15)] == ["SIGKILL", "SIGTERM"]
    assert signal_name(signal.SIGRTMIN + 1) == f"SIG{signal.SIGRTMIN + 1}"


def test_a_death_notice_that_somebody_else_took_is_an_end_all_the_same() -> None:
    process = subprocess.Popen(["true"], start_new_session=True)
    pidfd = os.pidfd_open(process.pid)
    process.wait()
    assert reap(process.pid, pidfd) == Exit(failure="its exit status was taken by another part of this program")
    os.close(pidfd)


def test_a_kernel_without_pidfds_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    check_kernel()
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(
        SupervisorError, match=r"pidfd_open is not possible here \(Function not implemented\); it takes"
    ):
        check_kernel()


def test_a_child_stopped_by_sigstop_is_frozen_once_and_by_nothing_else() -> None:
    frozen, suspended, alive = (subprocess.Popen(["sleep", "1000"], process_group=0) for _ in range(3))
    frozen.send_signal(signal.SIGSTOP)
    suspended.send_signal(signal.SIGTTIN)
    for process in (frozen, suspended):
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert frozen_children() == [frozen.pid]
    assert frozen_children() == []
    for process in (frozen, suspended, alive):
        process.kill()
        process.wait()
    assert frozen_children() == []


def test_a_signal_to_who_is_gone_is_no_error() -> None:
    """supervisord 7 (reliability.md 4.3): ESRCH on kill is not an error state."""
    process = subprocess.Popen(["true"], start_new_session=True)
    pidfd = os.pidfd_open(process.pid)
    process.wait()
    try:
        send(pidfd, signal.SIGTERM)
        kill_group(process.pid)
    finally:
        os.close(pidfd)


def test_several_deaths_at_once_are_each_taken_once() -> None:
    """supervisord 11 (reliability.md 4.3)."""
    processes = [subprocess.Popen(["sh", "-c", f"exit {number}"], start_new_session=True) for number in (1, 2, 3)]
    pidfds = [os.pidfd_open(process.pid) for process in processes]
    for process, pidfd in zip(processes, pidfds, strict=True):
        select.select([pidfd], [], [], 10.0)
        process.returncode = 0  # ours to take
    exits = [reap(process.pid, pidfd) for process, pidfd in zip(processes, pidfds, strict=True)]
    assert [exit.code for exit in exits if exit] == [1, 2, 3]
    again = [reap(process.pid, pidfd) for process, pidfd in zip(processes, pidfds, strict=True)]
    assert all(exit is not None and exit.failure for exit in again)
    for pidfd in pidfds:
        os.close(pidfd)
