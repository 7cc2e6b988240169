"""What a supervisor and one of its zygotes say to each other over the socket that the zygote inherits.

The socket is a ``SOCK_SEQPACKET`` pair of ``AF_UNIX``: one packet is one message, a msgpack array whose first item is
the message's type, together with the descriptors that belong to it. Its end means that the other process is gone. Both
ends are processes of one user and one version, but lengths, types and descriptors are checked all the same.

    supervisor                                zygote
        Prepare     ────────────────────────▶            import these modules
                    ◀────────────────────────  Prepared   they are imported, except ...
        Fork        ────────────────────────▶            make a process with these descriptors
                    ◀────────────────────────  Forked     here it is, and it is a child of yours
                    ◀────────────────────────  Failed     there is none
        Check       ────────────────────────▶            has the code changed since?
                    ◀────────────────────────  Checked    these files have

A zygote answers in the order in which it is asked.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ..core.malformed import MALFORMED
from ..errors import MeshError

MAX_PACKET = 64 * 1024
"""The longest message accepted, in bytes."""

FORK_DESCRIPTORS = 3
"""How many descriptors come with a ``Fork``: the lifeline, standard output, standard error."""

MAX_CHANGED = 20
"""How many changed files are named at most: it is for people to read."""


class ZygoteError(MeshError):
    """What came from the other end is not a message of this protocol."""


class Prepare(msgspec.Struct, frozen=True, tag="prepare", array_like=True, forbid_unknown_fields=True):
    """The first message: import ``modules`` with ``path`` at the front of ``sys.path``; ``title`` is for ``ps``."""

    title: str
    path: str
    modules: tuple[str, ...]


class Fork(msgspec.Struct, frozen=True, tag="fork", array_like=True, forbid_unknown_fields=True):
    """Make a process. ``is_spare``: its assignment may be long in coming, so that it should warm up meanwhile."""

    number: int
    is_spare: bool = False


class Check(msgspec.Struct, frozen=True, tag="check", array_like=True, forbid_unknown_fields=True):
    """Compare the files of all imported modules with what they were when they were imported."""


class Prepared(msgspec.Struct, frozen=True, tag="prepared", array_like=True, forbid_unknown_fields=True):
    """The modules are imported, but for those ``skipped``, each with the last line of its traceback.

    ``threads`` counts the threads beside the main one that are left: with any, nothing may be forked from here.
    ``blamed`` are the modules whose import began them, as far as that is known.
    """

    skipped: dict[str, str] = {}
    threads: int = 0
    blamed: tuple[str, ...] = ()


class Forked(msgspec.Struct, frozen=True, tag="forked", array_like=True, forbid_unknown_fields=True):
    """The process for the request ``number`` is there, and is a child of the supervisor by now."""

    number: int
    pid: int


class Failed(msgspec.Struct, frozen=True, tag="failed", array_like=True, forbid_unknown_fields=True):
    """There is no process for the request ``number``; ``text`` says why."""

    number: int
    text: str


class Checked(msgspec.Struct, frozen=True, tag="checked", array_like=True, forbid_unknown_fields=True):
    """The files that have changed, the first ``MAX_CHANGED`` of them."""

    changed: tuple[str, ...]


Message = TypeVar("Message")

ToZygote = Prepare | Fork | Check
FromZygote = Prepared | Forked | Failed | Checked


_encoder = msgspec.msgpack.Encoder()
_to_zygote: msgspec.msgpack.Decoder[ToZygote] = msgspec.msgpack.Decoder(ToZygote)
_from_zygote: msgspec.msgpack.Decoder[FromZygote] = msgspec.msgpack.Decoder(FromZygote)


def encode(message: ToZygote | FromZygote) -> bytes:
    """Return ``message`` as one packet.

    Raises:
        ZygoteError: If it is too long to be one.
    """
    packet = _encoder.encode(message)
    if len(packet) > MAX_PACKET:
        raise ZygoteError(f"a message of {len(packet)} bytes (at most {MAX_PACKET} are accepted)")
    return packet


def decode_to_zygote(packet: bytes, descriptors: int) -> ToZygote:
    """Return the message that ``packet`` is, which came with so many ``descriptors``.

    Raises:
        ZygoteError: If it is not one of this protocol.
    """
    message = _decode(_to_zygote, packet)
    expected = FORK_DESCRIPTORS if isinstance(message, Fork) else 0
    if descriptors != expected:
        raise ZygoteError(f"{descriptors} descriptors came with a message that has {expected}")
    return message


def decode_from_zygote(packet: bytes) -> FromZygote:
    """Return the message that ``packet`` is.

    Raises:
        ZygoteError: If it is not one of this protocol.
    """
    message = _decode(_from_zygote, packet)
    if isinstance(message, Forked) and message.pid <= 0:
        raise ZygoteError(f"{message.pid} is not a process")
    return message


def _decode(decoder: msgspec.msgpack.Decoder[Message], packet: bytes) -> Message:
    if len(packet) > MAX_PACKET:
        raise ZygoteError(f"a message of more than {MAX_PACKET} bytes")
    try:
        return decoder.decode(packet)
    except MALFORMED as error:
        raise ZygoteError(f"not a message between supervisor and zygote: {error}") from None
