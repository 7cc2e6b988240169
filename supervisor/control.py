"""The control plane's server: a ZeroMQ ROUTER that answers requests within the supervisor's event loop.

Nothing a client does can hold the supervisor up. Requests are handled one per turn of the loop; what takes longer
than a turn goes on beside the others, at most ``_MOST_PENDING`` at once and none beyond its deadline; a reply that its
client does not take is dropped by the socket when its small queue is full; what makes no sense is answered with a
refusal. ZeroMQ's own thread does the I/O and never touches our state.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Protocol

import msgspec
import zmq

from ..shared.control import requests
from ..shared.control.requests import (
    Accepted,
    Answer,
    FiguresReport,
    LinksReport,
    Refusal,
    Refused,
    RequestError,
    StatusReport,
    Traces,
    Welcome,
)
from ..shared.errors import MeshError, SupervisorError
from .figures import MeshFigures
from .naming import UnknownSlot
from .snapshot import MeshLinks, MeshStatus
from .spawn import reason_of

_QUEUE = 64  # messages waiting in each direction, per client
_LARGEST_MESSAGE = 1024 * 1024  # beyond it ZeroMQ cuts the client off; from MAX_REQUEST on it is answered
_MOST_FRAMES = 8
_MOST_PENDING = 16


class Controlled(Protocol):
    """What the server needs of a supervisor."""

    def status(self) -> MeshStatus: ...

    def request_stop(self, reason: str = ...) -> None: ...

    def traces(self, slot: str) -> Awaitable[str]: ...

    def links(self) -> Awaitable[MeshLinks]: ...

    def figures(self, *, each: bool = ...) -> Awaitable[MeshFigures]: ...


class ControlServer:
    """Answers clients at ``path`` (a Unix socket) from ``start`` to ``close``, in the running loop.

    Raises:
        SupervisorError: From ``start``, if the socket cannot be bound.
    """

    def __init__(self, supervisor: Controlled, path: str) -> None:
        self._supervisor = supervisor
        self._path = path
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._descriptor = -1
        self._next: asyncio.Handle | None = None
        self._pending: set[asyncio.Task[None]] = set()
        self._handlers: dict[type[Any], Callable[[Any], Answer | Awaitable[Answer]]] = {
            requests.Hello: self._welcome,
            requests.GetStatus: self._report,
            requests.GetLinks: self._tell_links,
            requests.GetFigures: self._tell_figures,
            requests.Shutdown: self._shut_down,
            requests.Why: self._trace,
        }

    def start(self) -> None:
        """Bind the socket and begin to answer."""
        self._loop = asyncio.get_running_loop()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        try:
            self._socket.set(zmq.LINGER, 0)
            self._socket.set(zmq.SNDHWM, _QUEUE)
            self._socket.set(zmq.RCVHWM, _QUEUE)
            self._socket.set(zmq.MAXMSGSIZE, _LARGEST_MESSAGE)
            self._socket.bind(f"ipc://{self._path}")
        except zmq.ZMQError as error:
            self.close()
            raise SupervisorError(f"cannot open the control socket: {error.strerror}") from None
        self._descriptor = int(self._socket.get(zmq.FD))
        self._loop.add_reader(self._descriptor, self._schedule)
        self._schedule()

    def close(self) -> None:
        """Stop answering; again: no effect."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        for task in self._pending:
            task.cancel()
        if self._socket is not None and self._loop is not None:
            if self._descriptor >= 0:
                self._loop.remove_reader(self._descriptor)
            self._socket.close(linger=0)
            self._socket = None
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None

    def _schedule(self) -> None:
        if self._next is None and self._loop is not None:
            self._next = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Handle one request, and come back as long as there may be more.

        The descriptor of a ZeroMQ socket is edge-triggered, and sending takes edges away as well: only the socket's
        EVENTS say that nothing is left.
        """
        self._next = None
        if self._socket is None or not int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
            return
        with suppress(zmq.Again):
            self._handle(self._socket.recv_multipart(zmq.NOBLOCK))
        self._schedule()

    def _handle(self, frames: list[bytes]) -> None:
        if len(frames) < 2 or len(frames) > _MOST_FRAMES or self._socket is None:
            return
        # Whatever stands before the body, the client's identity first, is the way back (a REQ adds an empty frame).
        *route, body = frames
        try:
            request, question, deadline = requests.decode_request(body, time.monotonic())
        except RequestError as error:
            self._reply(route, error.id, Refused(error.why, error.text))
            return
        answer = self._answer(question)
        if not isinstance(answer, Awaitable):
            self._reply(route, request, answer)
        elif len(self._pending) < _MOST_PENDING:
            task = asyncio.ensure_future(self._reply_later(route, request, answer, deadline))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)
        else:
            _forget(answer)
            text = f"{_MOST_PENDING} requests are being carried out; try again in a moment"
            self._reply(route, request, Refused(Refusal.BUSY, text))

    def _answer(self, question: requests.Question) -> Answer | Awaitable[Answer]:
        try:
            return self._handlers[type(question)](question)
        except (MeshError, OSError, MemoryError) as error:
            return _refused(error)

    async def _reply_later(self, route: list[bytes], request: int, pending: Awaitable[Answer], deadline: float) -> None:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                answer = await pending
        except TimeoutError:
            answer = Refused(Refusal.LATE, "it was not done by the request's deadline")
        except (MeshError, OSError, MemoryError) as error:
            answer = _refused(error)
        self._reply(route, request, answer)

    def _reply(self, route: list[bytes], request: int, answer: Answer) -> None:
        if self._socket is None:
            return
        with suppress(zmq.ZMQError):  # the client is gone, or does not read what it asked for
            self._socket.send_multipart([*route, requests.encode_reply(request, answer)], zmq.NOBLOCK)
        # Sending takes edges of the descriptor away as well: what has come in meanwhile would not be noticed.
        self._schedule()

    def _welcome(self, question: requests.Hello) -> Answer:
        return Welcome(self._supervisor.status().mesh, os.getpid(), version("meshvisor"))

    def _report(self, question: requests.GetStatus) -> Answer:
        return StatusReport(msgspec.Raw(msgspec.json.encode(self._supervisor.status())))

    async def _tell_links(self, question: requests.GetLinks) -> Answer:
        return LinksReport(await _encoded(await self._supervisor.links()))

    async def _tell_figures(self, question: requests.GetFigures) -> Answer:
        return FiguresReport(await _encoded(await self._supervisor.figures(each=question.each)))

    def _shut_down(self, question: requests.Shutdown) -> Answer:
        self._supervisor.request_stop("shutdown was asked for")
        return Accepted()

    async def _trace(self, question: requests.Why) -> Answer:
        return Traces(await self._supervisor.traces(question.slot))


async def _encoded(facts: MeshLinks | MeshFigures) -> msgspec.Raw:
    """Return ``facts`` as JSON. The links of 100 workers are 1 MB of it: made node by node, they are nobody's delay."""
    nodes = []
    for node in facts.nodes:
        nodes.append(msgspec.Raw(msgspec.json.encode(node)))
        await asyncio.sleep(0)
    return msgspec.Raw(msgspec.json.encode({**msgspec.structs.asdict(facts), "nodes": nodes}))


def _refused(error: MeshError | OSError | MemoryError) -> Refused:
    if not isinstance(error, MeshError):
        return Refused(Refusal.FAILED, f"the supervisor cannot do that now: {reason_of(error)}")
    why = Refusal.NO_SUCH_SLOT if isinstance(error, UnknownSlot) else Refusal.FAILED
    return Refused(why, str(error))


def _forget(answer: Awaitable[Answer]) -> None:
    """Give up what was never begun, without a warning that nobody has waited for it."""
    if isinstance(answer, Coroutine):
        answer.close()
