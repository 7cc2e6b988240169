"""A worker's first milliseconds, played through beforehand: two nodes that link, call each other, and part.

A third one, which is a spare, takes a place: that is played alone.

What runs for the first time is slow: modules are imported where they are first needed, code is specialised, caches are
filled, and in a forked process every page that is written to is copied first. A zygote plays it before it forks
anything, so that its children share the result; a spare plays it again, so that the pages are its own already.

All nodes are in this process, connected by pairs of sockets; the board is a file without a name: nothing of it can be
seen from outside.
"""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import closing, redirect_stderr, suppress
from functools import partial

from ..shared.control.lifeline import Assignment, FromWorker, Listening
from ..shared.core.endpoint import Endpoint
from ..shared.core.roster import NodeRecord, NodeStatus
from ..shared.memory.board import LivenessBoard
from ..shared.mesh.mesh import Mesh, MeshOptions
from ..shared.transport.base import TransportConnection, TransportOptions
from ..shared.transport.sockets import SocketStream, closed_error
from .node import Node
from .presence import Presence
from .rpc import rpc
from .worker import Worker

_NAMES = ("rehearsal-0", "rehearsal-1")
_WITHIN = 0.5  # seconds; it takes 2 ms when warm
_SECRET = bytes(32)
_HARMLESS = signal.SIGURG  # by default it is ignored

ENOUGH = 12


class _Player(Worker):
    async def on_start(self) -> None:
        if self.name == _NAMES[0]:
            await self.call(_NAMES[1], "echo", "are you there?")
            self.stop()

    @rpc
    async def echo(self, text: str) -> str:
        asyncio.get_running_loop().call_soon(self.stop)
        return text


class _Listener:
    def __init__(self, endpoint: Endpoint, backlog: int) -> None:
        self.endpoint = endpoint
        self._arrived: asyncio.Queue[SocketStream | None] = asyncio.Queue(backlog + 1)

    def dial(self) -> SocketStream:
        pair = socket.socketpair()
        for end in pair:
            end.setblocking(False)
        near, far = map(SocketStream, pair)
        self._arrived.put_nowait(far)
        return near

    async def accept(self) -> SocketStream:
        stream = await self._arrived.get()
        if stream is None:
            raise closed_error("listener")
        return stream

    def close(self) -> None:
        while not self._arrived.empty():
            stream = self._arrived.get_nowait()
            if stream is not None:
                stream.close()
        self._arrived.put_nowait(None)


class Stage:
    """The transport of a play: sockets, but no file that somebody could find or that could be left behind."""

    transport = "rehearsal"

    def __init__(self) -> None:
        self._listeners: dict[str, _Listener] = {}

    async def connect(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection:
        return self.connect_now(endpoint, options)

    def connect_now(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection:
        listener = self._listeners.get(endpoint.key)
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        return TransportConnection(listener.dial(), listener.dial())

    async def listen(self, endpoint: Endpoint, options: TransportOptions, /) -> _Listener:
        listener = self._listeners[endpoint.key] = _Listener(endpoint, options.backlog)
        return listener


def rehearse(loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None, *, times: int = 1) -> None:
    """Play the start of a worker on a loop of its own, within a bounded time, and leave nothing of it behind.

    Played ``ENOUGH`` times, all code is specialised: the interpreter does that from the ninth call of a function on.
    If it fails, that is nobody's business: what follows is only slower.
    """
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        with suppress(Exception), redirect_stderr(io.StringIO()), asyncio.Runner(loop_factory=loop_factory) as runner:
            for _ in range(times):
                runner.run(_play())
                runner.run(_take_place())
    finally:
        logging.disable(disabled)


async def _play() -> None:
    stage = Stage()
    nodes: list[Node] = []

    def tell(number: int, message: FromWorker) -> None:
        if isinstance(message, Listening):
            record = _record(number, NodeStatus.LISTENING)
            for node in nodes:
                node.apply([record])

    for number in range(len(_NAMES)):
        node = Node(_NAMES[number], 1, {}, report=partial(tell, number), drain_timeout=0.1)
        mesh = Mesh(_options(number), node, adapters=[stage])
        node.connect(mesh, _Player, [_record(each, NodeStatus.DOWN) for each in range(len(_NAMES))])
        nodes.append(node)
    async with asyncio.timeout(_WITHIN):
        await asyncio.gather(*(node.live() for node in nodes))


async def _take_place() -> None:
    loop = asyncio.get_running_loop()
    with closing(LivenessBoard.create(1)) as board:
        presence = Presence(board, loop)
        mesh = Mesh(_options(0), None, adapters=[Stage()])
        node = Node(_NAMES[0], 1, {}, report=presence.heard, ending=presence.stopping, lag_of=presence.lag_of)
        node.connect(mesh, _Player, [_record(each, NodeStatus.DOWN) for each in range(len(_NAMES))])
        presence.begin(_assignment())
        mesh.become(_NAMES[0], 1, node)
        loop.add_signal_handler(_HARMLESS, node.request_stop)
        loop.remove_signal_handler(_HARMLESS)
        presence.heard(Listening(()))
        presence.end()
        await mesh.close()


def _options(number: int) -> MeshOptions:
    return MeshOptions(
        node_id=_NAMES[number],
        incarnation=1,
        epoch=number + 1,
        listen=(f"rehearsal:node-{number}",),
        secret=_SECRET,
    )


def _assignment() -> Assignment:
    return Assignment(
        mesh="rehearsal",
        name=_NAMES[0],
        group="rehearsal",
        replica=0,
        incarnation=1,
        epoch=1,
        class_path="",
        path="",
        settings={},
        listen=(),
        secret=_SECRET,
        roster=(),
    )


def _record(number: int, status: NodeStatus) -> NodeRecord:
    endpoints = (f"rehearsal:node-{number}",)
    return NodeRecord(_NAMES[number], "rehearsal", number, 1, number + 1, status, endpoints, "")
