"""The events of a running mesh as a client hears them: what has been, then what follows, without a gap or a double."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import msgspec
import zmq

from ..shared.control.requests import SYNC, TOPIC, Happened

_PATIENCE = 5.0


class Following:
    """Iterate over ``recent`` for the latest events, and over this for those that follow, until the mesh has stopped.

    Where some are missing, because they were more than could be kept for us, there is an event ``dropped`` with their
    ``count`` and the number of the last of them.

    ``receive`` returns the next message of ``socket``, which is a connected SUB, by a deadline (None: whenever it
    comes); what it raises goes to whoever makes this, or iterates.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        receive: Callable[[float | None], list[bytes]],
        recent: Callable[[], list[Happened]],
    ) -> None:
        self._socket = socket
        self._receive = receive
        try:
            number = self._subscribe()
            self.recent = recent()
        except BaseException:
            self.close()
            raise
        # Some of the recent ones may have been published as well, since we subscribed.
        self._number = max([number, *(event.number for event in self.recent[-1:])])

    def __iter__(self) -> Iterator[Happened]:
        while True:
            event = msgspec.json.decode(self._receive(None)[-1], type=Happened)
            if event.number <= self._number:
                continue
            if missed := event.number - self._number - 1:
                yield Happened(event.number - 1, event.at, "dropped", "", 0, {"count": missed})
            self._number = event.number
            yield event
            if event.event == "mesh-stopped":
                return

    def close(self) -> None:
        """Hear no more."""
        self._socket.close(linger=0)

    def _subscribe(self) -> int:
        """Subscribe, and return the number of the latest event when that had come into force."""
        mine = SYNC + os.urandom(8).hex().encode()
        self._socket.set(zmq.SUBSCRIBE, TOPIC)
        self._socket.set(zmq.SUBSCRIBE, mine)
        deadline = time.monotonic() + _PATIENCE
        while True:
            topic, number = self._receive(deadline)
            if topic == mine:
                self._socket.set(zmq.UNSUBSCRIBE, mine)
                return int(number)
