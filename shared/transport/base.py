"""The seam between connections and the ways bytes can travel.

A connection is a pair of streams, control and data, opened one by one to the same endpoint; the listening side gets
them one by one and pairs them by what they say first. An adapter therefore knows nothing of connections: it opens
streams and accepts streams.

Who closes what: a stream belongs to whoever got it from ``connect`` or ``accept``. ``close`` may be called at any
time, any number of times, also while a read or a write waits: that one then raises ``OSError``.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..core.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """What an adapter is told about the node that uses it.

    ``backlog`` is the length of a listener's queue of connections not yet accepted. A full queue refuses newcomers,
    so it must hold the whole mesh knocking at once.
    """

    node_id: str
    backlog: int = 1024


class Stream(Protocol):
    """One ordered, reliable stream of bytes in each direction."""

    async def read(self, limit: int, /) -> bytes:
        """Return 1 to ``limit`` bytes as soon as there are any, or ``b""`` at the end of the stream.

        Raises:
            OSError: If the stream broke, or was closed on this side.
        """

    async def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """Hand all of ``data`` over to the transport, waiting while it has no room.

        Raises:
            OSError: If the stream broke, or was closed on this side.
        """

    def close(self) -> None:
        """Close both directions at once and release what the stream holds."""


@runtime_checkable
class HasSocket(Protocol):
    """A stream over a socket, which a driver may read and write by itself instead of through ``read`` and ``write``."""

    socket: socket.socket


class Listener(Protocol):
    """A bound endpoint; ``endpoint`` is how others dial it (port 0 filled in)."""

    endpoint: Endpoint

    async def accept(self) -> Stream:
        """Wait for the next stream.

        A lack of descriptors or memory is waited out with a growing pause, never raised.

        Raises:
            OSError: If the listener was closed.
        """

    def close(self) -> None:
        """Stop listening and remove what stands for the endpoint (a socket's file)."""


@dataclass(frozen=True, slots=True)
class TransportConnection:
    """The two streams of one connection, as the dialling side opened them."""

    control: Stream
    data: Stream

    def close(self) -> None:
        """Close both streams."""
        self.control.close()
        self.data.close()


class TransportAdapter(Protocol):
    """One way to travel, named by the first part of an endpoint (``tcp:``, ``unix:``, ``memory:``)."""

    transport: str

    async def connect(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection:
        """Open the two streams of a connection to ``endpoint``; on failure or cancellation none is left open.

        Raises:
            OSError: If the endpoint cannot be reached.
            RetryAfter: If the endpoint asks not to be dialled for a while.
        """

    async def listen(self, endpoint: Endpoint, options: TransportOptions, /) -> Listener:
        """Bind ``endpoint``.

        Raises:
            OSError: If it cannot be bound.
        """


@runtime_checkable
class ConnectsAtOnce(TransportAdapter, Protocol):
    """An adapter whose streams are sockets that are connected when the call returns."""

    def connect_now(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection | None:
        """Do as ``connect``, of which streams over sockets come; None if that would have to wait.

        Raises:
            OSError: If the endpoint cannot be reached.
        """
