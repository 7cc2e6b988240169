"""The application as a node of the mesh of its plugins: what it serves to them, and what it takes from them."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from ..shared.control.lifeline import Assignment, FromWorker
from ..shared.core.roster import NodeRecord
from ..shared.errors import LinkClosed, PeerLeft, PeerLost
from ..shared.mesh.mesh import Mesh
from .finder import MeshOfNode
from .inbox import Link
from .introduction import INTRODUCE, Introduction
from .lane import FAILED, RESULT, Request, encode
from .node import Node
from .rpc import rpc, rpc_methods
from .serving import Parts, Serving
from .wiring import adapters_for, options_of
from .worker import Worker

log = logging.getLogger("meshvisor.plugins")

_arguments = msgspec.msgpack.Decoder(tuple[Introduction])


class Host(Protocol):
    """Who decides about plugins."""

    def introduced(self, plugin: str, incarnation: int, introduction: Introduction) -> str | None:
        """Hear what a plugin says it is; return what is wrong with that, or None to let it start."""

    def came(self, plugin: str, count: int, size: int) -> bool:
        """Hear how many messages and frames have come from a plugin; return whether to take them.

        ``size`` is in bytes, without replies to calls: those are as long as who has called wanted them to be.
        """


class HostNode(Node):
    """A node whose every peer is a plugin."""

    def __init__(self, assignment: Assignment, host: Host, report: Callable[[FromWorker], None]) -> None:
        super().__init__(
            assignment.name,
            assignment.incarnation,
            assignment.settings,
            report=report,
            drain_timeout=assignment.drain_timeout,
        )
        self._host = host
        self._dropped_of: set[str] = set()

    def connect(self, mesh: MeshOfNode, worker_class: type[Worker], roster: Iterable[NodeRecord]) -> None:
        """See ``Node.connect``."""
        super().connect(mesh, worker_class, roster)
        self._serving = _Reception(self._exited, self._host)

    def messages_received(self, link: Link, first: int, bodies: list[bytes | bytearray]) -> None:
        """Drop messages: plugins call."""
        if not self._host.came(link.node_id, len(bodies), sum(map(len, bodies))):
            return
        if link.node_id not in self._dropped_of:
            self._dropped_of.add(link.node_id)
            log.warning("plugin %s sends messages to the application, which takes calls only: dropped", link.node_id)
        # Not within the call that brings them: what is consumed here would be acknowledged before it is taken over.
        asyncio.get_running_loop().call_soon(link.consumed, first + len(bodies) - 1)

    def calls_received(self, link: Link, bodies: list[bytes | bytearray]) -> None:
        """Take calls and replies in that are not too many."""
        if self._host.came(link.node_id, len(bodies), 0):
            super().calls_received(link, bodies)


class _Reception(Serving):
    """Serves methods, and takes in those who introduce themselves: who that is, is known from the link."""

    def __init__(self, on_exit: Callable[[SystemExit], None], host: Host) -> None:
        super().__init__(on_exit)
        self._host = host

    def receive(self, link: Link, request: Request, parts: Parts = ()) -> None:
        """See ``Serving.receive``."""
        if request.method != INTRODUCE:
            size = memoryview(request.arguments).nbytes + memoryview(request.named).nbytes + sum(map(len, parts))
            if self._host.came(link.node_id, 0, size):
                super().receive(link, request, parts)
            return
        try:
            (introduction,) = _arguments.decode(request.arguments)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            _answer(link, request.number, f"does not introduce itself properly: {error}")
        else:
            objection = self._host.introduced(link.node_id, link.incarnation, introduction)
            _answer(link, request.number, objection)


def make_node(
    assignment: Assignment, host: Host, offer: object | None, report: Callable[[FromWorker], None]
) -> HostNode:
    """Return the node of an application that offers its plugins the ``@rpc`` methods of ``offer``."""
    node = HostNode(assignment, host, report)
    mesh = Mesh(options_of(assignment), node, adapters=adapters_for(assignment.listen))
    node.connect(mesh, _worker_of(offer), assignment.roster)
    return node


def check_offer(offer: object | None) -> None:
    """Look whether an object can be offered to plugins.

    Raises:
        TypeError: If it has no ``@rpc`` methods, or some that cannot be called from elsewhere.
    """
    if offer is not None and not rpc_methods(type(offer)):
        raise TypeError(f"{type(offer).__qualname__} has no @rpc methods that plugins could call")


def _worker_of(offer: object | None) -> type[Worker]:
    """Return a worker that has the methods of ``offer``; they are not its attributes, so any names will do."""
    own = {name: _forward(offer, method.function) for name, method in rpc_methods(type(offer)).items()}
    worker: type[Worker] = type(type(offer).__name__ if own else "Host", (Worker,), {})
    worker._rpc_methods = rpc_methods(type("Offer", (), own))
    return worker


def _forward(offer: object, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def forwarded(self: Worker, *args: Any, **named: Any) -> Any:
        try:
            result = function(offer, *args, **named)
            return await result if inspect.isawaitable(result) else result
        except SystemExit as stop:  # a worker's would be its own end
            raise RuntimeError(f"{function.__qualname__} has raised SystemExit({stop.code!r})") from stop

    return rpc(forwarded)


def _answer(link: Link, number: int, objection: str | None) -> None:
    try:
        if objection is None:
            link.post(encode((RESULT, number, None)))
        else:
            link.post(encode((FAILED, number, "PluginError", objection, "")))
    except (PeerLost, PeerLeft, LinkClosed):
        pass  # It is gone, and is told when it comes again.
