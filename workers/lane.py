"""What two workers say to each other on the calls lane of their link.

A frame is a msgpack array whose first item is its type:

    [1, number, method, [arguments], {named arguments}, seconds | nil]   Request
    [2, number, value]                                                   Result
    [3, number, kind, message, traceback]                                Failed
    [4, number]                                                          Cancel
    [5, [node, ...]]                                                     Probe
    [10]                                                                 Parting
    [11, number]                                                         Held
    [12, number]                                                         Refused

Numbers are the caller's own. ``seconds`` is how long the caller will still wait, as clocks differ between machines.
A probe runs along nodes whose ``on_message`` waits for the next one's; one that comes back has found a cycle.

A node whose place another process is to take says so (Parting) before it ends, and everybody answers (Held) that new
calls and messages wait for its successor. What comes all the same once it has finished is refused: the answer proves
that the call was never begun, so that its caller may make it again elsewhere.
"""

from __future__ import annotations

from typing import Any

import msgspec

REQUEST, RESULT, FAILED, CANCEL, PROBE = 1, 2, 3, 4, 5
PARTING, HELD, REFUSED = 10, 11, 12


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


class Parting(msgspec.Struct, array_like=True, tag=PARTING, frozen=True):
    """The sender is about to end, and somebody will take its place."""


class Held(msgspec.Struct, array_like=True, tag=HELD, frozen=True):
    """No more calls and messages come; the last message has this ``number`` in the session. A later one counts."""

    number: int


class Refused(msgspec.Struct, array_like=True, tag=REFUSED, frozen=True):
    """The call was not begun and will not be."""

    number: int


Frame = Request | Result | Failed | Cancel | Probe | Parting | Held | Refused

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
