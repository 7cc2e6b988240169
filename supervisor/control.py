"""The control plane's server: a ZeroMQ ROUTER that answers requests within the supervisor's event loop.

Nothing a client does can hold the supervisor up. Requests are handled one per turn of the loop; what takes longer
than a turn goes on beside the others, at most ``_MOST_PENDING`` at once and none beyond its deadline; a reply that its
client does not take is dropped by the socket when its small queue is full; what makes no sense is answered with a
refusal. Changes are begun here and then are the supervisor's own (``operations``); events go out beside (``feed``).
ZeroMQ's own thread does the I/O and never touches our state.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import cache, partial
from importlib.metadata import version
from typing import Any, Protocol

import msgspec
import zmq

from ..shared.control import requests
from ..shared.control.requests import (
    Accepted,
    Answer,
    EventLog,
    FiguresReport,
    KnownNames,
    LinksReport,
    Refusal,
    Refused,
    RequestError,
    StatusReport,
    Traces,
    Welcome,
)
from ..shared.errors import MeshError, SupervisorError
from .directory import RuntimeDirectory
from .feed import Feed
from .figures import MeshFigures
from .gate import Gate
from .operations import Operations, refused
from .pump import Pump, Socket
from .snapshot import MeshLinks, MeshStatus

_QUEUE = 64  # messages waiting in each direction, per client
_LARGEST_MESSAGE = 1024 * 1024  # beyond it ZeroMQ cuts the client off; from MAX_REQUEST on it is answered
_MOST_FRAMES = 8
_MOST_PENDING = 16
_MOST_OWED = 64
_AGAIN = 0.5  # seconds until the end of a change is told again to a client that did not take it
_LINGER = 200  # milliseconds in which the last answers may still go out


class Controlled(Protocol):
    """What the server needs of a supervisor."""

    def status(self) -> MeshStatus: ...

    def names(self) -> dict[str, tuple[str, ...]]: ...

    def request_stop(self, reason: str = ...) -> None: ...

    def traces(self, slot: str) -> Awaitable[str]: ...

    def links(self) -> Awaitable[MeshLinks]: ...

    def figures(self, *, each: bool = ...) -> Awaitable[MeshFigures]: ...


class ControlServer:
    """Answers clients of a mesh, at the sockets in its ``directory``, from ``start`` to ``close``, in the running loop.

    Raises:
        SupervisorError: From ``start``, if a socket cannot be bound.
    """

    def __init__(self, supervisor: Controlled, operations: Operations, feed: Feed, directory: RuntimeDirectory) -> None:
        self._supervisor = supervisor
        self._operations = operations
        self._feed = feed
        self._directory = directory
        self._context: zmq.Context[Socket] | None = None
        self._socket: Socket | None = None
        self._gate: Gate | None = None
        self._pump: Pump | None = None
        self._is_skipping = False
        self._pending: set[asyncio.Task[None]] = set()
        self._owed: set[asyncio.TimerHandle] = set()  # ends of changes that clients do not take now
        self._handlers: dict[type[Any], Callable[[Any], Answer | Awaitable[Answer]]] = {
            requests.Hello: self._welcome,
            requests.GetStatus: self._report,
            requests.GetLinks: self._tell_links,
            requests.GetNames: self._name,
            requests.GetEvents: self._remember,
            requests.GetFigures: self._tell_figures,
            requests.Shutdown: self._shut_down,
            requests.Why: self._trace,
        }

    def start(self) -> None:
        """Bind the sockets and begin to answer."""
        self._context = context = zmq.Context()
        self._socket = socket = context.socket(zmq.ROUTER)
        try:
            socket.set(zmq.LINGER, _LINGER)
            socket.set(zmq.ROUTER_MANDATORY, 1)  # say so if an answer cannot be sent
            socket.set(zmq.SNDHWM, _QUEUE)
            socket.set(zmq.RCVHWM, _QUEUE)
            socket.set(zmq.MAXMSGSIZE, _LARGEST_MESSAGE)
            self._gate = Gate(context, socket, self._directory.control_path)
            self._feed.open(context, self._directory.events_path)
        except zmq.ZMQError as error:
            self.close()
            raise SupervisorError(f"cannot open the control socket: {error.strerror}") from None
        self._pump = Pump(socket, self._take)

    def close(self) -> None:
        """Stop answering, when what was answered is out or ``_LINGER`` has passed; again: no effect."""
        for task in self._pending:
            task.cancel()
        for timer in self._owed:
            timer.cancel()
        self._feed.close()
        for part in (self._pump, self._gate):
            if part is not None:
                part.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._context is not None:
            self._context.term()
            self._context = None

    def _take(self) -> None:
        """Handle one message."""
        assert self._socket is not None
        frames = [self._socket.recv(zmq.NOBLOCK)]
        while self._socket.get(zmq.RCVMORE) and len(frames) <= _MOST_FRAMES:
            frames.append(self._socket.recv(zmq.NOBLOCK))
        was_skipping, self._is_skipping = self._is_skipping, bool(self._socket.get(zmq.RCVMORE))
        if not was_skipping and not self._is_skipping:  # else it is part of one that is too long to be sensible
            self._handle(frames)

    def _handle(self, frames: list[bytes]) -> None:
        if len(frames) < 2:
            return
        # Whatever stands before the body, the client's identity first, is the way back (a REQ adds an empty frame).
        *route, body = frames
        try:
            request, question, deadline = requests.decode_request(body, time.monotonic())
        except RequestError as error:
            self._reply(route, error.id, Refused(error.why, error.text))
            return
        if isinstance(question, requests.Change):
            self._operations.begin(question, partial(self._tell, route, request))
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
            return refused(error)

    async def _reply_later(self, route: list[bytes], request: int, pending: Awaitable[Answer], deadline: float) -> None:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                answer = await pending
        except TimeoutError:
            answer = Refused(Refusal.LATE, "it was not done by the request's deadline")
        except (MeshError, OSError, MemoryError) as error:
            answer = refused(error)
        self._reply(route, request, answer)

    def _reply(self, route: list[bytes], request: int, answer: Answer) -> bool:
        """Send an answer, if its client takes it; return whether it would be worth another try."""
        if self._socket is None or self._pump is None:
            return False
        try:
            self._socket.send_multipart([*route, _message(request, answer)], zmq.NOBLOCK)
        except zmq.Again:
            return True
        except zmq.ZMQError:  # the client is gone
            return False
        finally:
            self._pump.look()
        return False

    def _tell(self, route: list[bytes], request: int, answer: Answer) -> None:
        """Tell what becomes of a change. A step may be lost, the end may not: its client waits as long as we live."""
        if self._reply(route, request, answer) and not isinstance(answer, requests.Step):
            self._owe(partial(self._tell, route, request, answer))

    def _owe(self, again: Callable[[], None]) -> None:
        if len(self._owed) >= _MOST_OWED:
            return

        def try_again() -> None:
            self._owed.discard(timer)
            again()

        timer = asyncio.get_running_loop().call_later(_AGAIN, try_again)
        self._owed.add(timer)

    def _welcome(self, question: requests.Hello) -> Answer:
        return Welcome(self._directory.path.name, os.getpid(), _release())

    def _name(self, question: requests.GetNames) -> Answer:
        return KnownNames(self._supervisor.names())

    def _remember(self, question: requests.GetEvents) -> Answer:
        return EventLog(self._feed.recent)

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


def _message(request: int, answer: Answer) -> bytes:
    try:
        return requests.encode_reply(request, answer)
    except UnicodeEncodeError:  # names of files, and what programs print, can be any bytes
        return requests.encode_reply(request, Refused(Refusal.FAILED, "there is something in it that is no text"))


@cache
def _release() -> str:
    return version("meshvisor")


async def _encoded(facts: MeshLinks | MeshFigures) -> msgspec.Raw:
    """Return ``facts`` as JSON. The links of 100 workers are 1 MB of it: made node by node, they are nobody's delay."""
    nodes = []
    for node in facts.nodes:
        nodes.append(msgspec.Raw(msgspec.json.encode(node)))
        await asyncio.sleep(0)
    return msgspec.Raw(msgspec.json.encode({**msgspec.structs.asdict(facts), "nodes": nodes}))


def _forget(answer: Awaitable[Answer]) -> None:
    """Give up what was never begun, without a warning that nobody has waited for it."""
    if isinstance(answer, Coroutine):
        answer.close()
