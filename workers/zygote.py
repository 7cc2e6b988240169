"""``python -m meshvisor.workers.zygote FD``: a process that has imported what its workers need, and forks them.

A worker's start is mostly imports; a fork of a process that has done them already takes none of that time and shares
their memory. What is forked must be harmless to fork: no thread beside the main one, no event loop, no connection.

A worker is to be the supervisor's own child, so that its death and its stopping are events there. So it is forked
twice: the process in between ends at once, and the kernel gives its child to the next ancestor that adopts orphans
(PR_SET_CHILD_SUBREAPER), which is the supervisor. Both forks are libc's: a clone with CLONE_PARENT would do it in one,
but skips the ``pthread_atfork`` handlers, and native pools hang in the child.

The first fork is made ahead: the process in between is there when an order comes, takes it from the socket itself, and
only forks. The zygote waits for its end, tells of what it has forked, and makes the next one.

    zygote ──fork──▶ in between ──order, fork──▶ newborn: leads a session of its own and says so, waits for its
       ▲                 └─ exit                 │        adoption, asks for the parent-death signal, becomes a worker
       └──────────────── its pid ◀───────────────┘
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import io
import os
import select
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from ..shared.control.urgency import ask_for_short_turns
from ..shared.control.zygote import (
    FORK_DESCRIPTORS,
    MAX_CHANGED,
    MAX_PACKET,
    Checked,
    Failed,
    Fork,
    Forked,
    FromZygote,
    Prepare,
    Prepared,
    ToZygote,
    ZygoteError,
    decode_to_zygote,
    encode,
)
from ..shared.transport import tcp as tcp
from ..shared.transport import unix as unix
from . import runtime
from .parent import ADOPTION_SIGNAL, die_with, die_with_supervisor, open_lifeline, wait_for_adoption
from .pulse import PulsedLoop
from .rehearsal import ENOUGH, rehearse
from .title import set_title

_INT = array.array("i").itemsize
_ANCILLARY_SIZE = socket.CMSG_SPACE((FORK_DESCRIPTORS + 1) * _INT)  # one too many must show, not be cut off
_BATCH = 8  # requests that share a process in between: it costs as much as a worker, but the first waits for the last
_TEXT_LIMIT = 500
_PLACE_LIMIT = 200
_NAMED_LIMIT = 50

# What its surroundings (nohup, a shell's background job) may have told the supervisor to ignore.
_DEFAULT_SIGNALS = (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class Newborn:
    """What a forked process knows of itself: the process that it was forked by, and what it got with the order."""

    middle: int
    lifeline: int
    stdout: int
    stderr: int
    is_spare: bool


@dataclass(frozen=True, slots=True)
class _Delivery:
    """What a process in between has done: the orders it took (their numbers), and the pids of what it forked for them.

    ``failure`` says why those that are missing are; ``is_checking``: a ``Check`` was the last that came.
    """

    orders: list[int]
    pids: dict[int, int]
    failure: str
    is_checking: bool


class Zygote:
    """The conversation with the supervisor; it blocks, since nothing else is ever to be done here."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._files: dict[str, tuple[int, int] | None] = {}

    def serve(self) -> Newborn:
        """Do what the supervisor asks for; return in every process that is forked, and nowhere else.

        The zygote itself ends with its supervisor, or at the first message that it does not understand.
        """
        message, _ = self._receive()
        if not isinstance(message, Prepare):
            _end("meshvisor zygote: the first message must say what to prepare")
        self._reply(self._prepare(message))
        ask_for_short_turns(inherit=True)
        while True:
            try:
                outcome = self._deliver()
            except OSError as error:
                self._refuse(f"cannot fork: {error.strerror or error}")
                continue
            if isinstance(outcome, Newborn):
                return outcome
            for number in outcome.orders:
                pid = outcome.pids.get(number)
                self._reply(Forked(number, pid) if pid else Failed(number, outcome.failure))
            if outcome.is_checking:
                self._tell_changes()

    def _refuse(self, reason: str) -> None:
        """Answer the next message without a process in between, of which there is none."""
        message, descriptors = self._receive()
        for descriptor in descriptors:
            os.close(descriptor)
        if isinstance(message, Fork):
            self._reply(Failed(message.number, reason))
        else:
            self._tell_changes()

    def _tell_changes(self) -> None:
        self._reply(Checked(tuple(self._changed())[:MAX_CHANGED]))

    def _receive(self) -> tuple[ToZygote, list[int]]:
        try:
            # socket.recv_fds would leave the descriptors inheritable.
            packet, ancillary, _, _ = self._control.recvmsg(MAX_PACKET + 1, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)
            descriptors = array.array("i")
            for level, kind, numbers in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptors.frombytes(numbers[: len(numbers) - len(numbers) % _INT])
            if not packet:
                os._exit(0)
            return decode_to_zygote(packet, len(descriptors)), list(descriptors)
        except (OSError, ZygoteError) as error:
            _end(f"meshvisor zygote: {error}")

    def _has_more(self) -> bool:
        readable, _, _ = select.select([self._control], [], [], 0)
        return bool(readable)

    def _reply(self, message: FromZygote) -> None:
        try:
            self._control.send(encode(message))
        except (OSError, ZygoteError) as error:
            _end(f"meshvisor zygote: {error}")

    # Imports.

    def _prepare(self, order: Prepare) -> Prepared:
        set_title(order.title)
        sys.path[0] = order.path
        skipped: dict[str, str] = {}
        blamed = []
        for module in order.modules:
            before = _count_threads()
            try:
                importlib.import_module(module)
            except BaseException as error:  # A module may raise anything at all; its workers will, by themselves.
                skipped[module] = _reason(error)
            if _count_threads() > before:
                blamed.append(module)
        # The plain loop, whatever the modules made the default: nothing of another one may be left behind here.
        rehearse(PulsedLoop, times=ENOUGH)
        runtime.set_up_logging()
        _fork_once()
        threads = _count_threads() - 1
        self._files = dict(_files_of_modules())
        gc.collect()
        gc.freeze()
        gc.disable()
        named = dict(list(skipped.items())[:_NAMED_LIMIT])
        return Prepared(named, threads, tuple(blamed[:_NAMED_LIMIT]) if threads else ())

    def _changed(self) -> Iterator[str]:
        for file, stamp in self._files.items():
            if _stamp(file) != stamp:
                yield file

    # Forks.

    def _deliver(self) -> _Delivery | Newborn:
        """Have a process in between take the next orders, and fork; in each of those processes, return what it is.

        When this returns in the zygote, the process in between has ended, so that the adoption is done, and each new
        process leads its session: it can be killed by its group.

        Raises:
            OSError: If there is none.
        """
        _flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, {ADOPTION_SIGNAL})
        zygote = os.getpid()
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with open(reading, "rb") as incoming:
            with open(writing, "wb", buffering=0) as outgoing:
                if (middle := os.fork()) == 0:
                    die_with(zygote)
                    return self._fork_and_end(outgoing)
            said = [line.split() for line in incoming]
        _, status = os.waitpid(middle, 0)
        code = os.waitstatus_to_exitcode(status)
        if not said and code >= 0:
            os._exit(code)  # it has found that this is the end; killed while it waited, it is replaced
        failure = f"cannot fork: {os.strerror(code)}" if code > 0 else "it was killed at once"
        orders = [int(words[1]) for words in said if words[0] == b"order"]
        pids = {int(words[1]): int(words[2]) for words in said if words[0] == b"born"}
        return _Delivery(orders, pids, failure, [b"check"] in said)

    def _fork_and_end(self, outgoing: io.FileIO) -> Newborn:
        """Be the process in between: take orders, fork, and end. In what it forks, return what that is.

        While nobody waits, it makes the pages that a worker writes to its own, for who gets them: they need not be
        copied then.
        """
        middle, orders = os.getpid(), []
        if not self._has_more():
            rehearse(PulsedLoop)
        message, descriptors = self._receive()
        while isinstance(message, Fork):
            outgoing.write(b"order %d\n" % message.number)
            orders.append((message, descriptors))
            if len(orders) == _BATCH or not self._has_more():
                break
            message, descriptors = self._receive()
        if isinstance(message, Prepare):
            _end("meshvisor zygote: it was to prepare twice")
        if not isinstance(message, Fork):
            outgoing.write(b"check\n")
        try:
            for index, (order, _) in enumerate(orders):
                if os.fork() == 0:
                    os.setsid()
                    outgoing.write(b"born %d %d\n" % (order.number, os.getpid()))
                    self._control.close()
                    return _pick(orders, index, middle)
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
        except BaseException:
            os._exit(1)


def _pick(orders: list[tuple[Fork, list[int]]], own: int, middle: int) -> Newborn:
    """Return what one newborn is, and leave it nothing of what its siblings got."""
    for index, (_, descriptors) in enumerate(orders):
        if index != own:
            for descriptor in descriptors:
                os.close(descriptor)
    order, (lifeline, stdout, stderr) = orders[own]  # as many as decode_to_zygote lets pass
    return Newborn(middle, lifeline, stdout, stderr, order.is_spare)


def _fork_once() -> None:
    """Fork for nothing: native pools that are safe to fork end their threads for it, and start them when needed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is what this is about
        pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _settle(newborn: Newborn) -> socket.socket:
    """Take over what came with the order, tie this process to the supervisor, and return the lifeline.

    Raises:
        OSError: If that is not possible (any more), as when the supervisor has gone.
    """
    for descriptor, number in ((newborn.stdout, 1), (newborn.stderr, 2)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    lifeline = socket.socket(fileno=newborn.lifeline)
    wait_for_adoption(newborn.middle)
    die_with_supervisor(lifeline)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    gc.enable()
    return lifeline


def _flush() -> None:
    """Leave nothing in a buffer that every fork would write again."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _reason(error: BaseException) -> str:
    """Return an error in one line, with the place in the user's code that it came from."""
    line = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError) and error.filename:
        places: list[tuple[str, int | None]] = [(error.filename, error.lineno)]
    else:
        walked = traceback.walk_tb(error.__traceback__)
        places = [(frame.f_code.co_filename, number) for frame, number in walked]
        places = [place for place in places if place[0] != __file__ and "importlib" not in place[0]]
    place = f" ({places[-1][0][-_PLACE_LIMIT:]}:{places[-1][1]})" if places else ""
    return line[: _TEXT_LIMIT - len(place)] + place


def _count_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _files_of_modules() -> Iterator[tuple[str, tuple[int, int] | None]]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str):
            yield file, _stamp(file)


def _stamp(file: str) -> tuple[int, int] | None:
    """Return what changes when the file does; None when it is not there."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _end(text: str) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="replace"))
    os._exit(1)


def _begin(text: str) -> socket.socket:
    """Tie this process to its supervisor and return the socket whose descriptor's number is ``text``."""
    try:
        control = open_lifeline(text)
        die_with_supervisor(control)
    except (ValueError, OSError) as error:
        sys.exit(f"meshvisor zygote: {error}")
    for number in _DEFAULT_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    # Ctrl-C in a terminal goes to everybody; it is the supervisor that decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return control


def main() -> None:
    """Serve as a zygote; in the processes forked from it, be a worker."""
    if len(sys.argv) < 2:
        sys.exit("this is how a supervisor starts its zygotes; to start a mesh, run: supervise run mesh.toml")
    zygote = Zygote(_begin(sys.argv[1]))  # kept: to take it apart would make many pages the newborn's own
    newborn = zygote.serve()
    try:
        lifeline = _settle(newborn)
    except OSError as error:  # a TimeoutError is one too
        _end(f"meshvisor worker: {error}")
    runtime.run(lifeline, is_spare=newborn.is_spare)


if __name__ == "__main__":
    main()
