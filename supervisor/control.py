"""The control plane's server: a ZeroMQ ROUTER that answers requests within the supervisor's event loop.

Nothing a client does can hold the supervisor up. Requests are handled one per turn of the loop; a reply that its
client does not take is dropped by the socket when its small queue is full; what makes no sense is answered with a
refusal. ZeroMQ's own thread does the I/O and never touches our state.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Protocol

import msgspec
import zmq

from ..shared.control import requests
from ..shared.control.requests import Accepted, Answer, Refusal, Refused, RequestError, StatusReport, Welcome
from ..shared.errors import MeshError, SupervisorError
from .snapshot import MeshStatus

_QUEUE = 64  # messages waiting in each direction, per client
_LARGEST_MESSAGE = 1024 * 1024  # beyond it ZeroMQ cuts the client off; from MAX_REQUEST on it is answered
_MOST_FRAMES = 8


class Controlled(Protocol):
    """What the server needs of a supervisor."""

    def status(self) -> MeshStatus: ...

    def request_stop(self, reason: str = ...) -> None: ...


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
        self._handlers: dict[type[Any], Callable[[], Answer]] = {
            requests.Hello: self._welcome,
            requests.GetStatus: self._report,
            requests.Shutdown: self._shut_down,
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
        request, answer = self._answer(body)
        with suppress(zmq.ZMQError):  # the client is gone, or does not read what it asked for
            self._socket.send_multipart([*route, requests.encode_reply(request, answer)], zmq.NOBLOCK)

    def _answer(self, body: bytes) -> tuple[int, Answer]:
        try:
            request, question = requests.decode_request(body, time.monotonic())
        except RequestError as error:
            return error.id, Refused(error.why, error.text)
        try:
            return request, self._handlers[type(question)]()
        except MeshError as error:
            return request, Refused(Refusal.FAILED, str(error))

    def _welcome(self) -> Answer:
        return Welcome(self._supervisor.status().mesh, os.getpid(), version("meshvisor"))

    def _report(self) -> Answer:
        return StatusReport(msgspec.Raw(msgspec.json.encode(self._supervisor.status())))

    def _shut_down(self) -> Answer:
        self._supervisor.request_stop("shutdown was asked for")
        return Accepted()
