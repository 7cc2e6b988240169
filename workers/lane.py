"""What two workers say to each other on the calls lane of their link.

A frame is a msgpack array whose first item is its type:

    [1, number, method, [arguments], {named arguments}, seconds | nil]   Request
    [2, number, value]                                                   Result
    [3, number, kind, message, traceback]                                Failed
    [4, number]                                                          Cancel
    [5, [node, ...]]                                                     Probe

Numbers are the caller's own. ``seconds`` is how long the caller will still wait, as clocks differ between machines.
A probe runs along nodes whose ``on_message`` waits for the next one's; one that comes back has found a cycle.
"""

from __future__ import annotations

from typing import Any

import msgspec

REQUEST, RESULT, FAILED, CANCEL, PROBE = 1, 2, 3, 4, 5


class Request(msgspec.Struct, array_like=True, tag=REQUEST, frozen=True):
    """Call ``method``; the arguments are left encoded until the method's own types are known."""

    number: int
    method: str
    arguments: msgspec.Raw
    named: msgspec.Raw
    seconds: float | None


class Result(msgspec.Struct, array_like=True, tag=RESULT, frozen=True):
    """The method returned ``value``."""

    number: int
    value: Any


class Failed(msgspec.Struct, array_like=True, tag=FAILED, frozen=True):
    """The method raised, or could not be called."""

    number: int
    kind: str
    message: str
    traceback: str


class Cancel(msgspec.Struct, array_like=True, tag=CANCEL, frozen=True):
    """Nobody waits for the result any more."""

    number: int


class Probe(msgspec.Struct, array_like=True, tag=PROBE, frozen=True):
    """Each node of ``path`` waits for the next one, and the last one for the receiver."""

    path: list[str]


Frame = Request | Result | Failed | Cancel | Probe

_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


def _plain(value: Any) -> Any:
    # A Peer is a str with some knowledge; so may be a type of the user's.
    if isinstance(value, str):
        return str.__str__(value)
    raise NotImplementedError(f"Encoding objects of type {type(value).__name__} is unsupported")


encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode
"""Turn a tuple of a frame's items into its bytes."""


def decode(body: bytes | bytearray) -> Frame:
    """Read a frame.

    Raises:
        ValueError: If it is none.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(f"not a frame of the calls lane: {error}") from None
