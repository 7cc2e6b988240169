"""The command line's side of the control plane: finds a running mesh and asks its supervisor."""

from __future__ import annotations

import fcntl
import itertools
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import zmq

from ..shared.control.requests import (
    Accepted,
    Answer,
    Change,
    Difference,
    Done,
    EventLog,
    Faulty,
    FiguresReport,
    GetEvents,
    GetFigures,
    GetLinks,
    GetNames,
    GetStatus,
    Happened,
    Hello,
    KnownNames,
    LinksReport,
    Question,
    Refusal,
    Refused,
    Reload,
    RequestError,
    Restart,
    Scale,
    Shutdown,
    Start,
    StatusReport,
    Step,
    Stop,
    Traces,
    Welcome,
    Why,
    decode_content,
    decode_reply,
    encode_request,
)
from ..shared.errors import ConfigError, SupervisorError
from .directory import NotRunning as NotRunning
from .directory import find_running, open_directory, why_silent
from .figures import MeshFigures
from .following import Following
from .naming import UnknownSlot
from .snapshot import MeshLinks, MeshStatus

Told = Callable[[Step], None]
"""Hears what has become of a slot."""
TIMEOUT = 5.0
"""How long an answer may take, in seconds."""
_LARGEST_REPLY = 64 * 1024 * 1024


class Client:
    """Talks to the supervisor of the mesh ``name`` whose runtime directory is in ``base``.

    An answer may take ``timeout`` seconds (None: ``TIMEOUT``); that a change is done, as long as it likes.

    Raises:
        NotRunning: If there is no such mesh, or it ends before it answers.
        SupervisorError: From the requests, if they are refused or not answered in time.
    """

    def __init__(self, base: Path, name: str, timeout: float | None = None) -> None:
        self.name = name
        self._timeout = TIMEOUT if timeout is None else timeout
        pid = find_running(base, name)
        if pid is None:
            raise NotRunning(name)
        self.pid = pid
        self._numbers = itertools.count(1)
        self._descriptors: list[int] = []
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._sockets = [self._socket]
        try:
            self._directory = self._keep(open_directory(base, name))
            self._lock = self._keep(os.open("lock", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory))
            self._process = self._keep(os.pidfd_open(pid))
            self._set_up(self._socket, "control")
        except OSError:
            self.close()
            raise NotRunning(name) from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        for socket in self._sockets:
            socket.close(linger=0)
        self._context.destroy(linger=0)
        while self._descriptors:
            os.close(self._descriptors.pop())

    def status(self) -> MeshStatus:
        """Return how the mesh is."""
        answer = self._ask(GetStatus())
        if not isinstance(answer, StatusReport):
            raise _strange(answer)
        return decode_content(answer.status, MeshStatus)

    def links(self) -> MeshLinks:
        """Return how the links of all workers are."""
        answer = self._ask(GetLinks())
        if not isinstance(answer, LinksReport):
            raise _strange(answer)
        return decode_content(answer.links, MeshLinks)

    def names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the slots by those of their workers, in the order of the file."""
        answer = self._ask(GetNames())
        if not isinstance(answer, KnownNames):
            raise _strange(answer)
        return answer.workers

    def recent(self) -> list[Happened]:
        """Return the latest events, the oldest first."""
        answer = self._ask(GetEvents())
        if not isinstance(answer, EventLog):
            raise _strange(answer)
        return [decode_content(event, Happened) for event in answer.events]

    def follow(self) -> Following:
        """Return the latest events and then, as long as the mesh runs and this is open, those that follow."""
        self.recent()  # else one of another version, which publishes in another way, would be waited for in vain
        socket = self._context.socket(zmq.SUB)
        self._set_up(socket, "events")
        self._sockets.append(socket)
        return Following(socket, partial(self._receive, socket), self.recent, self._timeout)

    def figures(self, *, each: bool = False) -> MeshFigures:
        """Return what is measured of the mesh; see ``Supervisor.figures``."""
        answer = self._ask(GetFigures(each))
        if not isinstance(answer, FiguresReport):
            raise _strange(answer)
        return decode_content(answer.figures, MeshFigures)

    def traces(self, slot: str) -> str:
        """Return where the process in ``slot`` is now: the tracebacks of all its threads.

        Raises:
            UnknownSlot: If there is no such slot.
        """
        answer = self._ask(Why(slot))
        if not isinstance(answer, Traces):
            raise _strange(answer)
        return answer.text

    # Changes. Each returns when it is done, however long that takes, or as soon as it has begun (``wait=False``; there
    # is nothing to tell then). ``told`` hears each step. What has begun goes on, whatever becomes of this client.

    def start(self, *names: str, wait: bool = True, told: Told | None = None) -> Done | None:
        """Start slots, or all of workers.

        Raises:
            UnknownSlot: If there is no slot and no worker of a name; nothing is done then.
            SupervisorError: If one does not become ready.
        """
        return self._change(Start(names, wait), told)

    def stop(self, *names: str, wait: bool = True, told: Told | None = None) -> Done | None:
        """Stop slots, or all of workers; they stay down until they are started.

        Raises:
            UnknownSlot: As ``start``.
            SupervisorError: If somebody starts one again before it is down.
        """
        return self._change(Stop(names, wait), told)

    def restart(self, *names: str, at_once: bool = False, wait: bool = True, told: Told | None = None) -> Done | None:
        """Restart slots, or all of workers, one after the other or those of each name ``at_once``.

        Raises:
            UnknownSlot: As ``start``.
            SupervisorError: If one does not become ready; those after it are as they were.
        """
        return self._change(Restart(names, at_once, wait), told)

    def scale(self, replicas: Mapping[str, int], *, wait: bool = True, told: Told | None = None) -> Done | None:
        """Have so many slots for each of these workers.

        Raises:
            UnknownSlot: If there is no such worker; nothing is done then.
            SupervisorError: If there cannot be so many, or a new one does not become ready.
        """
        return self._change(Scale(dict(replicas), wait), told)

    def difference(self) -> Difference:
        """Return what a reload would change now.

        Raises:
            ConfigError: If there are faults in the supervisor's file.
        """
        answer = self._ask(Reload(dry_run=True))
        if not isinstance(answer, Difference):
            raise _strange(answer)
        return answer

    def reload(
        self, *, wait: bool = True, told: Told | None = None, found: Callable[[Difference], None] | None = None
    ) -> Done | None:
        """Go over to what the supervisor's file says now; ``found`` hears, before anything is done, what changes.

        Raises:
            ConfigError: If there are faults in the file; nothing is done then.
            SupervisorError: If something cannot change under a running mesh, or a slot does not become ready.
        """
        return self._change(Reload(wait=wait), told, found)

    def shutdown(self) -> None:
        """Ask for a clean stop; return when it has begun."""
        try:
            answer = self._ask(Shutdown())
        except NotRunning:
            return  # it was over before its answer was here
        if not isinstance(answer, Accepted):
            raise _strange(answer)

    def wait_until_over(self) -> None:
        """Wait until the supervisor has let the mesh go. The kernel tells: its lock becomes free."""
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _keep(self, descriptor: int) -> int:
        self._descriptors.append(descriptor)
        return descriptor

    def _set_up(self, socket: zmq.Socket[bytes], name: str) -> None:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.MAXMSGSIZE, _LARGEST_REPLY)
        # A supervisor that has just begun may not have its sockets yet, or it lets nobody in for a moment.
        socket.set(zmq.RECONNECT_IVL, 10)
        # Socket addresses are short and directories are not: the way through the descriptor has any length.
        socket.connect(f"ipc:///proc/self/fd/{self._directory}/{name}")

    def _ask(self, question: Question) -> Answer:
        number, deadline = self._send(question)
        return self._answer_to(number, deadline)

    def _change(
        self, change: Change, told: Told | None = None, found: Callable[[Difference], None] | None = None
    ) -> Done | None:
        number, deadline = self._send(change)
        begun = self._answer_to(number, deadline)
        if isinstance(begun, Difference) and found is not None:
            found(begun)
        while change.wait:
            try:
                answer = self._answer_to(number, None)
            except NotRunning:
                raise Ended(self.name) from None
            if isinstance(answer, Done):
                return answer
            if isinstance(answer, Step) and told is not None:
                told(answer)
        return None

    def _send(self, question: Question) -> tuple[int, float]:
        number, deadline = next(self._numbers), time.monotonic() + self._timeout
        self._socket.send(encode_request(number, question, deadline))
        return number, deadline

    def _answer_to(self, number: int, deadline: float | None) -> Answer:
        """Return the next answer to the request of that number, by the deadline or as long as the supervisor lives."""
        while True:
            reply = decode_reply(self._receive(self._socket, deadline)[-1])
            if reply.id not in (number, 0):
                continue  # to an earlier request, given up by us
            if isinstance(reply.body, Faulty):
                raise ConfigError(reply.body.file, reply.body.faults)
            if isinstance(reply.body, Refused):
                raise self._error_of(reply.body)
            return reply.body

    def _error_of(self, refused: Refused) -> SupervisorError:
        match refused.why:
            case Refusal.NO_SUCH_SLOT:
                return UnknownSlot(refused.text)
            case Refusal.FAILED:
                return SupervisorError(refused.text)
            case Refusal.VERSION:
                return SupervisorError(self._mismatch(refused.text))
            case _:
                return SupervisorError(f"the supervisor (process {self.pid}) refused: {refused.text}")

    def _mismatch(self, text: str) -> str:
        """Return what to do about a supervisor of another version: all of them say in the same way who they are."""
        from importlib.metadata import version

        number, deadline = self._send(Hello())
        with suppress(RequestError):
            while (reply := decode_reply(self._receive(self._socket, deadline)[-1])).id != number:
                pass
            if isinstance(reply.body, Welcome):
                text = f"it is of meshvisor {reply.body.release}, this command of {version('meshvisor')}"
        return f"the supervisor (process {self.pid}) cannot be talked to: {text}; use the supervise of its release"

    def _receive(self, socket: zmq.Socket[bytes], deadline: float | None) -> list[bytes]:
        """Return the next message.

        Raises:
            NotRunning: If the supervisor ends before.
            SupervisorError: If there is none by the deadline.
        """
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._process, zmq.POLLIN)
        remaining = None if deadline is None else max(0, round((deadline - time.monotonic()) * 1000))
        ready = dict(poller.poll(remaining))
        with suppress(zmq.Again):
            return socket.recv_multipart(zmq.NOBLOCK)
        if ready:
            raise NotRunning(self.name)
        text = f"the supervisor (process {self.pid}) did not answer within {self._timeout:g} s"
        raise SupervisorError(text + why_silent(self.pid))


class Ended(NotRunning):
    """The mesh has ended before what it was asked for was done."""

    def __str__(self) -> str:
        return f"the mesh {self.mesh!r} has ended before that was done"


def _strange(answer: Answer) -> SupervisorError:
    return SupervisorError(f"the supervisor gave an answer to something else: {type(answer).__name__}")
