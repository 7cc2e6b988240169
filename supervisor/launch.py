"""Becomes a command that cannot outlive its supervisor.

    python -I -S launch.py PARENT REPORT WORD... -- COMMAND...

A script of its own, which imports nothing of this package: it runs once per start of a command, between the fork
and the exec. REPORT is a descriptor that the exec closes: its end says that the command is running, anything
before that says why it is not. WORDs say what the command may do, and with which of our descriptors:

    fd=7:3   nice=5   umask=23 (decimal)   limit=nofile:4096 (-1: unlimited)   user=nobody
"""

import fcntl
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as shells have it


def _die_with_parent(parent: int) -> None:
    import ctypes

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


def _apply(word: str) -> None:
    key, _, value = word.partition("=")
    name, _, number = value.partition(":")
    if key == "fd":
        os.dup2(int(name), int(number))
        if name != number:
            os.close(int(name))
    elif key == "nice":
        os.setpriority(os.PRIO_PROCESS, 0, int(value))
    elif key == "umask":
        os.umask(int(value))
    elif key == "limit":
        most = int(number) if number != "-1" else resource.RLIM_INFINITY
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (most, most))
    else:
        _become(value)


def _become(user: str) -> None:
    """Change to ``user``, whose groups must be set while we may still do that."""
    import pwd

    entry = pwd.getpwnam(user)
    if os.geteuid() != entry.pw_uid:
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    for name, value in (("HOME", entry.pw_dir), ("USER", user), ("LOGNAME", user)):
        os.environ.setdefault(name, value)


def _out_of_the_way(report: int, words: list[str]) -> int:
    """Return the report's descriptor, moved if the command wants another one under its number."""
    wanted = {int(word.rpartition(":")[2]) for word in words if word.startswith("fd=")}
    if report not in wanted:
        os.set_inheritable(report, False)
        return report
    moved = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, max(wanted) + 1)
    os.close(report)
    return moved


def _confine(words: list[str]) -> str:
    """Do what the words say, in their order; return what could not be done and why, or nothing."""
    for word in words:
        try:
            _apply(word)
        except (OSError, ValueError, KeyError, AttributeError) as error:
            return f"cannot set {word.replace('=', ' to ', 1)}: {getattr(error, 'strerror', None) or error}"
    return ""


def main(arguments: list[str]) -> None:
    """Set limits, user and the parent-death signal, and become the command; report why that is not possible."""
    end = arguments.index("--")
    parent, words, command = int(arguments[0]), arguments[2:end], arguments[end + 1 :]
    report = _out_of_the_way(int(arguments[1]), words)
    _reset_signals()
    # Takes longer than the rest together, during which a signal must already find its default action. And whoever
    # we become may not be able to read what is imported later (os.execvp needs `warnings`).
    import ctypes  # noqa: F401
    import warnings  # noqa: F401

    status, reason = _NOT_EXECUTABLE, _confine(words)
    if not reason:
        try:
            _die_with_parent(parent)  # after the last change of credentials, which takes it away
            os.execvp(command[0], command)
        except OSError as error:
            status = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
            reason = f"cannot run {command[0]!r}: {error.strerror}"
    os.write(report, reason.encode(errors="replace"))
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
