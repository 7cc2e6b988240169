"""What two workers say to each other on the calls lane of their link.

A frame is a msgpack array whose first item is its type:

    [1, number, method, seconds | nil, [argument, ...], {name: argument, ...}]    Request (the names may be left out)
    [2, number, value]                                                            Result
    [3, number, kind, message, traceback]                                         Failed
    [4, number]                                                                   Cancel
    [5, [node, ...]]                                                              Probe
    [6, count]                                                                    Parts
    [10]                                                                          Parting
    [11, number]                                                                  Held
    [12, number]                                                                  Refused

Numbers are the caller's own. ``seconds`` is how long the caller will still wait, as clocks differ between machines.
A probe runs along nodes whose ``on_message`` waits for the next one's; one that comes back has found a cycle.
Parts says that the next ``count`` bodies of the lane are no frames but large buffers, and belong to the frame after
them; see ``buffers``.

A node whose place another process is to take says so (Parting) before it ends, and everybody answers (Held) that new
calls and messages wait for its successor. What comes all the same once it has finished is refused: the answer proves
that the call was never begun, so that its caller may make it again elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..shared.core.session import Body
from .buffers import MAX_PARTS, Reading, Taking, buffer_hook, from_extension

REQUEST, RESULT, FAILED, CANCEL, PROBE, PARTS = 1, 2, 3, 4, 5, 6
PARTING, HELD, REFUSED = 10, 11, 12

LARGEST = 256 * 1024 * 1024
"""Bytes that the parts of one frame may have together."""


NO_NAMES = msgspec.Raw(b"\x80")
"""What the named arguments of a call without any are."""


class Request(msgspec.Struct, array_like=True, tag=REQUEST, frozen=True, gc=False):
    """Call ``method``; the arguments are left encoded until the method's own types are known."""

    number: int
    method: str
    seconds: float | None
    arguments: msgspec.Raw
    named: msgspec.Raw = NO_NAMES


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


class Parts(msgspec.Struct, array_like=True, tag=PARTS, frozen=True):
    """Bodies that are no frames follow, and then the frame that they are parts of."""

    count: int


class _Unread(msgspec.Struct, array_like=True, tag=RESULT, frozen=True):
    """A Result whose value cannot be read."""

    number: int
    value: msgspec.Raw


Frame = Request | Result | Failed | Cancel | Probe | Parts | Parting | Held | Refused

_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame, ext_hook=from_extension)
_unread_decoder = msgspec.msgpack.Decoder(_Unread)

encode = msgspec.msgpack.Encoder(enc_hook=buffer_hook).encode
"""Turn a tuple of a frame's items into its bytes.

Raises ``LargeBuffer`` if there is an array in it that is better sent by ``encode_apart``.
"""


def encode_apart(items: tuple[Any, ...]) -> list[Body]:
    """Return the bodies that make the frame of ``items``: its large buffers are not copied into it."""
    taking = Taking()
    frame = msgspec.msgpack.Encoder(enc_hook=taking.hook).encode(items)
    if not taking.parts:
        return [frame]
    size = sum(len(part) for part in taking.parts)
    if size > LARGEST:
        raise ValueError(
            f"{size} bytes of buffers are more than the {LARGEST} that one call may carry; send them in parts"
        )
    return [encode((PARTS, len(taking.parts))), *taking.parts, frame]


def decode(body: bytes | bytearray, parts: Sequence[bytes | bytearray] = ()) -> Frame:
    """Read a frame to which ``parts`` belong. A Result with a value that cannot be read becomes a Failed.

    Raises:
        ValueError: If it is none.
    """
    try:
        if not parts:
            return _decoder.decode(body)
        with Reading(parts):
            return _decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        failed = _failed(body, error)
        if failed is None:
            raise ValueError(f"not a frame of the calls lane: {error}") from None
        return failed


def _failed(body: bytes | bytearray, error: Exception) -> Failed | None:
    try:
        number = _unread_decoder.decode(body).number
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return Failed(number, "TypeError", f"the result cannot be read: {error}", "")


class Gathering:
    """The parts of a frame to come, while they arrive; ``count`` is what the other side has announced.

    ``wants`` is how many more are to ``add``. If they are more than may be, none is kept: the frame does without.
    """

    def __init__(self, count: int) -> None:
        self.wants = max(count, 0)
        self.parts: list[bytes | bytearray] = []
        self._room = LARGEST if count <= MAX_PARTS else -1

    def add(self, body: bytes | bytearray) -> None:
        """Take in what arrived."""
        self.wants -= 1
        self._room -= len(body)
        if self._room >= 0:
            self.parts.append(body)
        else:
            self.parts.clear()
