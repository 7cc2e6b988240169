"""What happens in a mesh, for clients: the latest events in a ring, and those that follow published as they come.

Each has its number. A client that has heard up to one number and then hears a later one knows how many it has missed;
one that asks for the ring after it has subscribed has all, none twice (see ``shared.control.requests``). Nobody is
waited for: a subscriber that does not keep up loses what is beyond its queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec
import zmq

from ..shared.control.requests import LATEST, SYNC, TOPIC
from .event import Event, encode_facts
from .gate import Gate
from .pump import Pump, Socket

_MOST = 1000
_MOST_BYTES = 1024 * 1024
_LARGEST = 65_536  # of one event; what is beyond goes without its long texts
_LONGEST_TEXT = 1000
_QUEUE = 1000  # events waiting, per subscriber
_LARGEST_TOPIC = 64
_REMINDER = 2.0  # seconds between two mentions of the latest number, while anybody listens
_LINGER = 200  # milliseconds in which the last events may still go out


class Feed:
    """Collects events from the beginning, and publishes them from ``open`` to ``close``."""

    def __init__(self) -> None:
        self._number = 0
        self._ring: deque[bytes] = deque()
        self._size = 0
        self._socket: Socket | None = None
        self._gate: Gate | None = None
        self._pump: Pump | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def recent(self) -> tuple[msgspec.Raw, ...]:
        """The latest events, the oldest first."""
        return tuple(map(msgspec.Raw, self._ring))

    def event(self, event: Event) -> None:
        """Take an event in, and pass it on."""
        self._number += 1
        data = _encoded(self._number, event)
        self._ring.append(data)
        self._size += len(data)
        while len(self._ring) > _MOST or self._size > _MOST_BYTES:
            self._size -= len(self._ring.popleft())
        self._send(TOPIC, data)

    def open(self, context: zmq.Context[Socket], path: str) -> None:
        """Publish at ``path`` (a Unix socket), in the running loop.

        Raises:
            ZMQError: If the socket cannot be bound.
        """
        self._socket = socket = context.socket(zmq.XPUB)
        socket.set(zmq.LINGER, _LINGER)
        socket.set(zmq.SNDHWM, _QUEUE)
        socket.set(zmq.RCVHWM, _LARGEST_TOPIC)
        socket.set(zmq.MAXMSGSIZE, _LARGEST_TOPIC)
        self._gate = Gate(context, socket, path)
        self._pump = Pump(socket, self._subscribed)

    def close(self) -> None:
        """Publish no more; again: no effect."""
        self._remind_no_more()
        if self._pump is not None:
            self._pump.close()
        if self._gate is not None:
            self._gate.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _subscribed(self) -> None:
        """Take in what subscribers want: it is passed on here when the first begins and when the last one ends."""
        assert self._socket is not None
        frame, *_ = self._socket.recv_multipart(zmq.NOBLOCK)
        begins, topic = frame[:1] == b"\x01", frame[1:]
        if topic == TOPIC:
            self._remind_no_more()
            if begins:
                self._remind()
        elif begins and topic.startswith(SYNC):
            self._send(topic, b"%d" % self._number)

    def _remind(self) -> None:
        self._send(LATEST, b"%d" % self._number)
        self._timer = asyncio.get_running_loop().call_later(_REMINDER, self._remind)

    def _remind_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self, topic: bytes, data: bytes) -> None:
        if self._socket is not None and self._pump is not None:
            self._socket.send_multipart([topic, data], zmq.NOBLOCK)  # never waits: who has no room goes without
            self._pump.look()


def _encoded(number: int, event: Event) -> bytes:
    data = _happened(number, event, event.details)
    return data if len(data) <= _LARGEST else _happened(number, event, _shortened(event.details))


def _happened(number: int, event: Event, details: Mapping[str, Any]) -> bytes:
    """Return what is published of an event: a ``Happened``."""
    return encode_facts(
        {
            "number": number,
            "at": event.at,
            "event": event.event,
            "slot": event.slot,
            "incarnation": event.incarnation,
            "details": dict(details),
        }
    )


def _shortened(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts without what is long: lists and tables are left out, texts are cut."""
    return {
        key: value[:_LONGEST_TEXT].encode(errors="replace").decode() if isinstance(value, str) else value
        for key, value in details.items()
        if value is None or isinstance(value, str | int | float)
    }
