"""How many clients a ZeroMQ socket of ours lets in.

ZeroMQ accepts whoever comes, and when no descriptor is left for one libzmq 4.3.5 aborts the whole process. So the
connections are counted, as its monitor reports them, and while there are too many the socket's file has another name:
nobody finds it, and clients of ZeroMQ try again until there is room. Those that are connected notice nothing. One that
says nothing sensible is cut off after ``_GREETING``; so a crowd of those does not last.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress

import zmq

from .pump import Pump, Socket

MOST = 64
"""Clients at once. A few more may get in before the door is shut."""
_GREETING = 2000  # milliseconds that a client has to show that it speaks ZeroMQ
_REPORT = struct.Struct("=HI")
_AWAY = ".full"


class Gate:
    """Binds ``socket`` to ``path`` and lets at most ``MOST`` clients in, in the running loop, until ``close``.

    Raises:
        ZMQError: If the socket cannot be bound.
    """

    def __init__(self, context: zmq.Context[Socket], socket: Socket, path: str) -> None:
        self.clients = 0
        self._path = path
        self._is_shut = False
        self._socket = socket
        address = f"inproc://gate-{id(self)}"
        # Before any client is there: a report that finds no room would hold ZeroMQ's own thread up.
        socket.monitor(address, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._reports = context.socket(zmq.PAIR)
        self._reports.set(zmq.LINGER, 0)
        self._reports.set(zmq.RCVHWM, 0)
        self._reports.connect(address)
        socket.set(zmq.HANDSHAKE_IVL, _GREETING)
        # The directory keeps others out as long as nobody opens it; this does whatever its mode has become.
        socket.set(zmq.IPC_FILTER_UID, os.geteuid())
        try:
            socket.bind(f"ipc://{path}")
        except zmq.ZMQError:
            self._reports.close(linger=0)
            raise
        self._pump = Pump(self._reports, self._take)

    def close(self) -> None:
        """Count no more; before the socket is closed. Again: no effect."""
        self._pump.close()
        self._reports.close(linger=0)

    def _take(self) -> None:
        while True:  # all that there are: each is tiny, and a client that is not counted yet is one too many
            report, *_ = self._reports.recv_multipart(zmq.NOBLOCK)
            event, _ = _REPORT.unpack(report)
            self.clients += 1 if event == zmq.EVENT_ACCEPTED else -1
            self._turn_away(self.clients >= MOST)

    def _turn_away(self, shut: bool) -> None:
        if shut is self._is_shut:
            return
        self._is_shut = shut
        away = self._path + _AWAY
        with suppress(OSError):  # the directory is being removed
            os.rename(*((self._path, away) if shut else (away, self._path)))
