"""Becomes a command that cannot outlive its supervisor; run as ``python -I -S launch.py PARENT REPORT COMMAND...``.

A script of its own, which imports nothing of this package: it runs once per start of a command, between the fork
and the exec. REPORT is a descriptor that the exec closes: its end says that the command is running, anything
before that says why it is not.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as shells have it


def _die_with_parent(parent: int) -> None:
    import ctypes  # takes longer than the rest together, during which a signal must already find its default action

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # The signal is not sent for a parent that was dead already (prctl(2)): then we have another one by now.
    if os.getppid() != parent:
        os._exit(_NOT_EXECUTABLE)


def _reset_signals() -> None:
    """Undo what the supervisor's own surroundings (nohup, a shell's background job) ignore or block."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def main(arguments: list[str]) -> None:
    """Set the parent-death signal and become the command; report why that is not possible."""
    parent, report, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    try:
        os.set_inheritable(report, False)
        _reset_signals()
        _die_with_parent(parent)
        os.execvp(command[0], command)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        os.write(report, f"cannot run {command[0]!r}: {error.strerror}".encode(errors="replace"))
        os._exit(_NOT_FOUND if missing else _NOT_EXECUTABLE)


if __name__ == "__main__":
    main(sys.argv[1:])
