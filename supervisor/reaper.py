"""The death of a process: noticed through its pidfd, and made complete before anybody hears of it."""

from __future__ import annotations

import errno
import os
import resource
import signal
from contextlib import suppress

from ..shared.errors import SupervisorError
from .child import Exit


def check_kernel() -> None:
    """Find out whether processes can be watched here at all.

    Raises:
        SupervisorError: If the kernel, or a sandbox around us, has no ``pidfd_open``.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM, errno.EACCES):
            need = "it takes Linux 5.4 or later and a sandbox that allows it"
            raise SupervisorError(f"pidfd_open is not possible here ({error.strerror}); {need}") from error


def send(pidfd: int, number: int) -> None:
    """Send a signal to the process behind ``pidfd``; one that is gone already has got what it needs."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def kill_group(pid: int) -> None:
    """Kill the process group that ``pid`` leads. Only for a pid not reaped yet: it cannot be anybody else's."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def is_dead(pidfd: int) -> bool:
    """Return whether our child behind ``pidfd`` has ended; who is buried has, too."""
    try:
        return os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def reap(pid: int, pidfd: int) -> Exit | None:
    """Take the death notice of our child ``pid``, and bury it; None while it lives."""
    exit = read_notice(pid, pidfd)
    if exit is not None:
        bury(pid)
    return exit


def read_notice(pid: int, pidfd: int) -> Exit | None:
    """Read the death notice of our child ``pid``, and leave it; None while it lives. ``bury`` is owed for it.

    Its process group is killed while the child is still a zombie: the kernel then cannot have given the number of
    the group to anybody else, and nothing that the child started in it is left.
    """
    try:
        notice = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        # The program around us ignores SIGCHLD or waits for every child; the group cannot be killed safely any more.
        return Exit(failure="its exit status was taken by another part of this program")
    if notice is None:
        return None
    kill_group(pid)
    if notice.si_code == os.CLD_EXITED:
        return Exit(code=notice.si_status)
    return Exit(signal=signal_name(notice.si_status))


def bury(pid: int) -> int:
    """Let the kernel forget our dead child ``pid``, and return its largest resident set in bytes; 0: not known.

    That takes 0.1 ms. From then on its number can be another one's.
    """
    with suppress(ChildProcessError):
        _, _, usage = os.wait4(pid, os.WNOHANG)
        # Until it executed its program it was, to the kernel, as large as we are: only more than that says something.
        ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return usage.ru_maxrss * 1024 if usage.ru_maxrss > ours else 0
    return 0


def frozen_children() -> list[int]:
    """Return the pids of our children that SIGSTOP has stopped since the last call; at each SIGCHLD.

    A child stopped by a debugger is not among them, nor one that a person stopped (Ctrl-Z, SIGTSTP). Only for a
    program whose children are all ours: the notices of others are taken, too.
    """
    frozen: list[int] = []
    while True:
        try:
            notice = os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:
            return frozen
        if notice is None:
            return frozen
        is_stopped = notice.si_code == os.CLD_STOPPED and notice.si_status == signal.SIGSTOP
        if is_stopped and not _is_traced(notice.si_pid):
            frozen.append(notice.si_pid)


def _is_traced(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            return any(line.startswith("TracerPid:") and int(line.split()[1]) for line in file)
    except OSError:
        return False


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` for 9; for a number without a name of its own (real-time signals) ``SIG`` and the number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"
