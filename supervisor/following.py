"""The events of a running mesh as a client hears them: what has been, then what follows, without a gap or a double."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import zmq

from ..shared.control.requests import SYNC, TOPIC, Happened, decode_published


class Following:
    """Iterate over ``recent`` for the latest events, and over this for those that follow, until the mesh has stopped.

    Where some are missing, because they were more than could be kept for us, there is an event ``dropped`` with their
    ``count`` and the number of the last of them.

    ``socket`` is a connected SUB, and the caller's. ``receive`` returns its next message by a deadline (None: whenever
    that comes); what it raises goes to whoever makes this, or iterates, and so does a RequestError for what makes no
    sense. To subscribe may take ``timeout`` seconds.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        receive: Callable[[float | None], list[bytes]],
        recent: Callable[[], list[Happened]],
        timeout: float,
    ) -> None:
        self._socket = socket
        self._receive = receive
        number = self._subscribe(time.monotonic() + timeout)
        self.recent = recent()
        # Some of the recent ones may have been published as well, since we subscribed.
        self._number = max([number, *(event.number for event in self.recent[-1:])])

    def __iter__(self) -> Iterator[Happened]:
        while True:
            _, said = decode_published(self._receive(None))
            event = said if isinstance(said, Happened) else None
            number = said if isinstance(said, int) else said.number
            before = number if event is None else number - 1  # what must have been here by now
            if before > self._number:
                yield Happened(before, time.time(), "dropped", "", 0, {"count": before - self._number})
            if number <= self._number:
                continue
            self._number = number
            if event is not None:
                yield event
                if event.event == "mesh-stopped":
                    return

    def _subscribe(self, deadline: float) -> int:
        """Subscribe, and return the number of the latest event when that had come into force."""
        mine = SYNC + os.urandom(8).hex().encode()
        self._socket.set(zmq.SUBSCRIBE, TOPIC)
        self._socket.set(zmq.SUBSCRIBE, mine)
        while True:
            topic, number = decode_published(self._receive(deadline))
            if topic == mine and isinstance(number, int):
                self._socket.set(zmq.UNSUBSCRIBE, mine)
                return number
