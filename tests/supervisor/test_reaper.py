import errno
import os
import signal
import subprocess

import pytest

from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.child import Exit
from meshvisor.supervisor.reaper import check_kernel, frozen_children, reap, signal_name


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
    frozen, suspended, alive = (subprocess.Popen(["sleep", "1000"]) for _ in range(3))
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
