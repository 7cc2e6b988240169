"""What an application receives."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message from another node.

    ``sender`` is the node's name; ``body`` is ``bytes``, or from 64 KiB on a ``bytearray`` that belongs to the
    receiver; ``number`` counts the messages of the session, in this direction, from 1.
    """

    sender: str
    body: bytes | bytearray
    number: int
