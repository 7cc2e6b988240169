"""The command line's side of the control plane: finds a running mesh and asks its supervisor."""

from __future__ import annotations

import fcntl
import itertools
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import zmq

from ..shared.control.requests import (
    Accepted,
    Answer,
    FiguresReport,
    GetFigures,
    GetLinks,
    GetStatus,
    LinksReport,
    Question,
    Refusal,
    Refused,
    Shutdown,
    StatusReport,
    Traces,
    Why,
    decode_reply,
    encode_request,
)
from ..shared.errors import SupervisorError
from .directory import NotRunning as NotRunning
from .directory import find_running
from .figures import MeshFigures
from .naming import UnknownSlot
from .snapshot import MeshLinks, MeshStatus

TIMEOUT = 5.0
"""How long an answer may take, in seconds."""
_LARGEST_REPLY = 64 * 1024 * 1024


class Client:
    """Talks to the supervisor of the mesh ``name`` whose runtime directory is in ``base``.

    Raises:
        NotRunning: If there is no such mesh, or it ends before it answers.
        SupervisorError: From the requests, if they are refused or not answered in time.
    """

    def __init__(self, base: Path, name: str) -> None:
        self.name = name
        pid = find_running(base, name)
        if pid is None:
            raise NotRunning(name)
        self.pid = pid
        self._numbers = itertools.count(1)
        self._descriptors: list[int] = []
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        try:
            self._directory = self._keep(os.open(base / name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            self._lock = self._keep(os.open("lock", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory))
            self._process = self._keep(os.pidfd_open(pid))
            self._connect()
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
        self._socket.close(linger=0)
        self._context.destroy(linger=0)
        while self._descriptors:
            os.close(self._descriptors.pop())

    def status(self) -> MeshStatus:
        """Return how the mesh is."""
        answer = self._ask(GetStatus())
        if not isinstance(answer, StatusReport):
            raise _strange(answer)
        return msgspec.json.decode(answer.status, type=MeshStatus)

    def links(self) -> MeshLinks:
        """Return how the links of all workers are."""
        answer = self._ask(GetLinks())
        if not isinstance(answer, LinksReport):
            raise _strange(answer)
        return msgspec.json.decode(answer.links, type=MeshLinks)

    def figures(self, *, each: bool = False) -> MeshFigures:
        """Return what is measured of the mesh; see ``Supervisor.figures``."""
        answer = self._ask(GetFigures(each))
        if not isinstance(answer, FiguresReport):
            raise _strange(answer)
        return msgspec.json.decode(answer.figures, type=MeshFigures)

    def traces(self, slot: str) -> str:
        """Return where the process in ``slot`` is now: the tracebacks of all its threads.

        Raises:
            UnknownSlot: If there is no such slot.
        """
        answer = self._ask(Why(slot))
        if not isinstance(answer, Traces):
            raise _strange(answer)
        return answer.text

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

    def _connect(self) -> None:
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.MAXMSGSIZE, _LARGEST_REPLY)
        # A supervisor that has just begun may not have its socket yet.
        self._socket.set(zmq.RECONNECT_IVL, 10)
        # Socket addresses are short and directories are not: the way through the descriptor has any length.
        self._socket.connect(f"ipc:///proc/self/fd/{self._directory}/control")

    def _ask(self, question: Question) -> Answer:
        number = next(self._numbers)
        deadline = time.monotonic() + TIMEOUT
        self._socket.send(encode_request(number, question, deadline))
        while True:
            reply = decode_reply(self._receive(deadline))
            if reply.id not in (number, 0):
                continue  # to an earlier request, given up by us
            if isinstance(reply.body, Refused) and reply.body.why is Refusal.NO_SUCH_SLOT:
                raise UnknownSlot(reply.body.text)
            if isinstance(reply.body, Refused):
                raise SupervisorError(f"the supervisor (process {self.pid}) refused: {reply.body.text}")
            return reply.body

    def _receive(self, deadline: float) -> bytes:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._process, zmq.POLLIN)
        remaining = max(0, round((deadline - time.monotonic()) * 1000))
        ready = dict(poller.poll(remaining))
        with suppress(zmq.Again):
            return self._socket.recv(zmq.NOBLOCK)
        if ready:
            raise NotRunning(self.name)
        raise SupervisorError(f"the supervisor (process {self.pid}) did not answer within {TIMEOUT:g} s")


def _strange(answer: Answer) -> SupervisorError:
    return SupervisorError(f"the supervisor gave an answer to something else: {type(answer).__name__}")
