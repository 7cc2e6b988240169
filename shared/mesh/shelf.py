"""What arrives on the link of a spare, or at one, before both ends know that the spare has taken a node's place.

The news of that travel to each process by themselves, so the one end may speak as soon as it has heard them, and the
other has not yet. Nothing of it is lost: messages wait unacknowledged, so that the sender's window bounds them, and
frames of the calls lane are bounded by whoever posts them, as they always are.
"""

from __future__ import annotations

from .connection import ConnectionHandle
from .parties import Receiver


class Shelf:
    """The ``Receiver`` of a link that is kept aside."""

    def __init__(self) -> None:
        self._messages: list[tuple[int, list[bytes | bytearray]]] = []
        self._calls: list[bytes | bytearray] = []

    def messages_received(self, link: ConnectionHandle, first: int, bodies: list[bytes | bytearray]) -> None:
        """See ``Receiver``."""
        self._messages.append((first, bodies))

    def calls_received(self, link: ConnectionHandle, bodies: list[bytes | bytearray]) -> None:
        """See ``Receiver``."""
        self._calls += bodies

    def clear_for(self, link: ConnectionHandle, receiver: Receiver) -> None:
        """Hand everything to ``receiver``, which takes what arrives on ``link`` from now on."""
        link.hand_to(receiver)
        messages, self._messages = self._messages, []
        calls, self._calls = self._calls, []
        for first, bodies in messages:
            receiver.messages_received(link, first, bodies)
        if calls:
            receiver.calls_received(link, calls)
