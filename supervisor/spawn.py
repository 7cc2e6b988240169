"""Making processes: what a child inherits, and what it does not.

A child leads a session and a process group of its own, reads nothing, writes to two pipes, and inherits one more
descriptor: a worker its lifeline, a command the pipe on which its launcher reports. ``subprocess`` does the fork and
exec (vfork, since nothing of ours runs in between); it must happen in a thread that lives as long as the supervisor,
because the parent-death signal fires when the *thread* that forked ends.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .confinement import UNCONFINED, Confinement

if TYPE_CHECKING:
    from .reserve import Spare

WORKER_PROGRAM = ("-m", "meshvisor.workers")
ZYGOTE_PROGRAM = ("-m", "meshvisor.workers.zygote")
_TITLE_ROOM = 128
_LAUNCHER = str(Path(__file__).with_name("launch.py"))


# No descriptors (ours, the system's), no memory, no processes (fork(2)), no watches (inotify_add_watch(2)).
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ENOSPC})


class SpawnError(Exception):
    """A process could not be made; the text says why. Nothing is left of the attempt.

    ``is_shortage``: for want of something of which there may be enough again at any time.
    """

    def __init__(self, text: str, *, is_shortage: bool = False) -> None:
        super().__init__(text)
        self.is_shortage = is_shortage


@dataclass(slots=True)
class Process:
    """A running child and our ends of what we share with it; ``close`` releases them.

    Of a linked spare the lifeline is in ``spare``, with all else that makes it one.
    """

    pid: int
    pidfd: int
    stdout: int
    stderr: int
    lifeline: socket.socket | None = None
    report: int | None = None
    spare: Spare | None = None

    def close(self) -> None:
        """Release all of our ends, for a process that nobody wants any more."""
        for descriptor in (self.pidfd, self.stdout, self.stderr, self.report):
            if descriptor is not None:
                os.close(descriptor)
        if self.lifeline is not None:
            self.lifeline.close()
        if self.spare is not None:
            self.spare.close()


def interpreter() -> str:
    """Return the Python that children run with.

    Inside a virtual environment that is the environment's own link: the path is how Python finds the environment.
    Elsewhere links are resolved, and a script that stands for Python (a version manager's shim, which costs tens of
    milliseconds per start) is replaced by the binary that is running now.
    """
    executable = sys.executable
    if executable and sys.prefix != sys.base_prefix:
        return executable
    resolved = os.path.realpath(executable or "/proc/self/exe")
    with suppress(OSError), open(resolved, "rb") as file:
        if file.read(2) == b"#!":
            return os.path.realpath("/proc/self/exe")
    return resolved


def spawn_worker(title: str, cwd: Path, environment: Mapping[str, str]) -> Process:
    """Start a worker process; its identity follows over the lifeline. ``title`` is how it shows in ``ps``.

    Raises:
        SpawnError: If there is no process now.
    """
    with ExitStack() as stack:
        try:
            ours, theirs = socket.socketpair()
            stack.callback(ours.close)
            with theirs:
                arguments = [interpreter(), *WORKER_PROGRAM, str(theirs.fileno()), title]
                process = _spawn(arguments, cwd, environment, theirs.fileno())
        except (OSError, ValueError, MemoryError) as error:
            raise SpawnError(_reason(error, cwd), is_shortage=is_shortage(error)) from error
        stack.pop_all()
    ours.setblocking(False)
    process.lifeline = ours
    return process


def spawn_zygote(cwd: Path, environment: Mapping[str, str]) -> Process:
    """Start a zygote; ``Process.lifeline`` is our end of its control socket.

    Raises:
        SpawnError: If there is no process now.
    """
    with ExitStack() as stack:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(ours.close)
            with theirs:
                # What it shows in ps is written over its arguments, and must find room there.
                arguments = [interpreter(), *ZYGOTE_PROGRAM, str(theirs.fileno()), " " * _TITLE_ROOM]
                process = _spawn(arguments, cwd, environment, theirs.fileno())
        except (OSError, ValueError, MemoryError) as error:
            raise SpawnError(_reason(error, cwd), is_shortage=is_shortage(error)) from error
        stack.pop_all()
    ours.setblocking(False)
    process.lifeline = ours
    return process


def spawn_command(
    command: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    confinement: Confinement = UNCONFINED,
    *,
    ready: tuple[int, int] | None = None,
    is_quiet: bool = False,
) -> Process:
    """Start a command; whether it could be executed follows over ``Process.report``.

    ``ready`` is a descriptor of ours that the command gets, and the number under which it gets it. ``is_quiet``: what
    it prints goes nowhere, and ``stdout`` and ``stderr`` are -1.

    Raises:
        SpawnError: If there is no process now.
    """
    with ExitStack() as stack:
        try:
            ours, theirs = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, ours)
            with open(theirs, "wb", buffering=0):
                words = confinement.words() if ready is None else [f"fd={ready[0]}:{ready[1]}", *confinement.words()]
                launcher = [interpreter(), "-I", "-S", _LAUNCHER, str(os.getpid()), str(theirs), *words, "--"]
                inherited = (theirs,) if ready is None else (theirs, ready[0])
                process = _spawn([*launcher, *command], cwd, environment, *inherited, is_quiet=is_quiet)
        except (OSError, ValueError, MemoryError) as error:
            raise SpawnError(_reason(error, cwd), is_shortage=is_shortage(error)) from error
        stack.pop_all()
    os.set_blocking(ours, False)
    process.report = ours
    return process


def _spawn(
    arguments: list[str], cwd: Path, environment: Mapping[str, str], *inherited: int, is_quiet: bool = False
) -> Process:
    with ExitStack() as ours, ExitStack() as theirs:
        out, out_end = (-1, subprocess.DEVNULL) if is_quiet else _pipe(ours, theirs)
        err, err_end = (-1, subprocess.DEVNULL) if is_quiet else _pipe(ours, theirs)
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=out_end,
            stderr=err_end,
            cwd=cwd,
            env=dict(environment),
            pass_fds=inherited,
            start_new_session=True,
        )
        # The death notice is ours to take: with a status in place, subprocess never waits for this child itself.
        process.returncode = 0
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError:
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
            raise
        ours.pop_all()
    return Process(process.pid, pidfd, out, err)


def _pipe(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    ours.callback(os.close, read_end)
    theirs.callback(os.close, write_end)
    os.set_blocking(read_end, False)
    return read_end, write_end


def is_shortage(error: BaseException) -> bool:
    """Return whether ``error`` is about something of which there may be enough again at any time."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _SHORTAGES)


def reason_of(error: BaseException) -> str:
    """Return what went wrong, as the system says it; where it says that badly, as a person would."""
    if isinstance(error, MemoryError):
        return os.strerror(errno.ENOMEM)
    if isinstance(error, OSError) and error.errno == errno.EAGAIN:
        return "no more processes are allowed here"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _reason(error: OSError | ValueError | MemoryError, cwd: Path) -> str:
    if isinstance(error, OSError) and error.filename is not None and os.fspath(error.filename) == os.fspath(cwd):
        return f"cannot enter the directory {cwd}: {error.strerror}"
    return f"cannot start a process: {reason_of(error)}"
