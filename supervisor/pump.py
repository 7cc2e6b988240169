"""Reads a ZeroMQ socket within an asyncio loop: one message a turn, so that nobody who sends many holds the loop up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import zmq

Socket = zmq.Socket[bytes]
"""A plain (synchronous) socket of pyzmq."""


class Pump:
    """Calls ``take`` in the running loop, once a turn, as long as there is something to receive, until ``close``.

    The descriptor of a ZeroMQ socket is edge-triggered, and sending takes edges away as well: only the socket's EVENTS
    say that nothing is left. Call ``look`` after whatever was sent.
    """

    def __init__(self, socket: Socket, take: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = socket
        self._take = take
        self._descriptor = int(socket.get(zmq.FD))
        self._next: asyncio.Handle | None = None
        self._is_closed = False
        self._loop.add_reader(self._descriptor, self.look)
        self.look()

    def look(self) -> None:
        """See in the next turn whether there is something."""
        if self._next is None and not self._is_closed:
            self._next = self._loop.call_soon(self._turn)

    def close(self) -> None:
        """Read no more; before the socket is closed."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._descriptor)
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _turn(self) -> None:
        self._next = None
        if not int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
            return
        try:
            with suppress(zmq.Again):
                self._take()
        finally:
            self.look()
