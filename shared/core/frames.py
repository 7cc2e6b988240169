"""The wire: what the bytes on the two streams of a connection mean.

Each stream begins with a preamble from the side that dialled::

    magic "MSHV" | version u8 | channel u8 | zero u16 | connection id, 16 bytes

and from then on carries frames in both directions, all integers little-endian::

    length u32 | kind u8 | lane u8 | count u16 | number u64 | ack u64 | body, ``length`` bytes

``length`` is that of the body. Messages travel in *batches*: one frame holds ``count`` messages of one lane, the
first of them numbered ``number``, and is the unit of numbering, of replay and of delivery; ``ack`` is the highest
number of that lane that the sender of the frame has consumed in the other direction. A batch of several messages is
a msgpack array of byte strings; a lone message is its plain bytes, so that a large one need not be copied.

The two lanes of a session are independent streams of messages: lane 0 is the application's, lane 1 carries calls and
replies, which must not wait behind messages that nobody takes.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

MAGIC = b"MSHV"
VERSION = 1

LARGE = 64 * 1024
"""Bodies of this many bytes or more are received in place, into a buffer that becomes the receiver's own."""

HANDSHAKE_LIMIT = 4096
"""The longest body, in bytes, that is read from a peer which has not proved itself."""

CONTROL_LIMIT = 64 * 1024 - 1
"""The longest body on a control channel."""

MESSAGES = 0
CALLS = 1
LANES = 2

_PREAMBLE = struct.Struct("<4sBBH16s")
_HEADER = struct.Struct("<IBBHQQ")
PREAMBLE_SIZE = _PREAMBLE.size
HEADER_SIZE = _HEADER.size


class Channel(IntEnum):
    """Which of a connection's two streams this one is."""

    CONTROL = 0
    DATA = 1


_CHANNELS = tuple(Channel)


class Kind(IntEnum):
    """What a frame says. Only ever append: the numbers are the protocol."""

    HELLO = 1  # dialling side: who I am, my nonce
    WELCOME = 2  # accepting side: who I am, my nonce, my proof
    PROOF = 3  # dialling side: my proof, the session I want, what I have received in it
    ACCEPT = 4  # accepting side: what I have received in it; the connection is established
    REFUSE = 5  # accepting side: no, why, and whether to try again
    BIND = 6  # dialling side, on the data channel: proof that it belongs to this connection
    BATCH = 16  # data: several messages
    SINGLE = 17  # data: one message, its plain bytes
    PING = 32  # control: ``number`` is a nonce
    PONG = 33  # control: ``number`` is the nonce of the ping, ``ack`` the bytes that arrived on the data channel
    ACK = 34  # control: ``ack`` of ``lane``
    GOODBYE = 35  # control: no more messages after ``number`` (lane 0) and ``ack`` (lane 1)


# As plain numbers, for where every nanosecond counts: an attribute of an enum costs several.
BATCH = Kind.BATCH.value
SINGLE = Kind.SINGLE.value

DATA_KINDS = frozenset({Kind.BATCH, Kind.SINGLE})
CONTROL_KINDS = frozenset({Kind.PING, Kind.PONG, Kind.ACK, Kind.GOODBYE})


class Frame(NamedTuple):
    """One frame as it was cut from a stream; ``kind`` is one that the reader accepts."""

    kind: int
    lane: int
    messages: int
    number: int
    ack: int
    body: bytes | bytearray


ControlFrame = Frame
"""A frame of the control channel; its ``kind`` is one of ``CONTROL_KINDS``."""


class FrameFault(Exception):
    """What arrived cannot be a frame of this protocol; the text says why."""


def encode_preamble(channel: Channel, connection_id: bytes) -> bytes:
    """Return the first bytes of a stream; ``connection_id`` has 16 bytes."""
    return _PREAMBLE.pack(MAGIC, VERSION, channel, 0, connection_id)


def decode_preamble(data: bytes) -> tuple[Channel, bytes]:
    """Return the channel and the connection id that ``data`` (``PREAMBLE_SIZE`` bytes) announces.

    Raises:
        FrameFault: If it is not a preamble, or one of a version that is not ours.
    """
    magic, version, channel, _, connection_id = _PREAMBLE.unpack(data)
    if magic != MAGIC:
        raise FrameFault(f"the stream does not begin with {MAGIC!r}")
    if version != VERSION:
        raise FrameFault(f"the peer speaks version {version} of the protocol, we speak {VERSION}")
    if channel >= len(_CHANNELS):
        raise FrameFault(f"unknown channel {channel}")
    return _CHANNELS[channel], connection_id


def encode_header(length: int, kind: int, lane: int = 0, count: int = 0, number: int = 0, ack: int = 0) -> bytes:
    """Return the header of a frame whose body has ``length`` bytes."""
    return _HEADER.pack(length, kind, lane, count, number, ack)


def encode(kind: int, body: bytes = b"", *, lane: int = 0, count: int = 0, number: int = 0, ack: int = 0) -> bytes:
    """Return a whole frame."""
    return _HEADER.pack(len(body), kind, lane, count, number, ack) + body


def _what_is_wrong(length: int, kind: int, lane: int, kinds: frozenset[Kind], limit: int) -> str:
    if kind not in kinds:
        return f"a frame of kind {kind} has no place here"
    if length > limit:
        return f"a frame of {length} bytes is longer than the {limit} allowed here"
    return f"there is no lane {lane}" if lane >= LANES else ""


class HandshakeReader:
    """Cuts what is due from the beginning of a stream, piece by piece: its preamble, then the frames to ``expect``.

    ``lacking`` is how many bytes may be read now: whoever reads no more than that never reads beyond the handshake, and
    never makes room for a length that was not checked. 0: nothing is due. ``kind`` is that of the latest frame.

    With ``ahead``, so many bytes of the first frame are read together with the preamble: no first frame is shorter.
    Whoever has taken the preamble in then asks ``next``, after ``expect``.
    """

    __slots__ = ("_got", "_is_opened", "_kinds", "_size", "kind", "lacking")

    def __init__(self, ahead: int = 0) -> None:
        self.lacking = PREAMBLE_SIZE + ahead
        self.kind = 0
        self._is_opened = False
        self._kinds: frozenset[Kind] = frozenset()
        self._size = 0
        self._got = b""

    def expect(self, kinds: frozenset[Kind], least: int = 0) -> None:
        """Have one frame of ``kinds`` cut next.

        No such frame has a body of less than ``least`` bytes, or nothing may follow one that has: so many can be read
        together with the header.
        """
        self._is_opened = True
        self._kinds = kinds
        self._size = 0
        self.lacking = HEADER_SIZE + least - len(self._got)

    def receive(self, data: bytes) -> bytes | None:
        """Take in at most ``lacking`` bytes; return the preamble, or the body of the frame, that they complete.

        Raises:
            EOFError: If ``data`` is empty: the stream has ended before.
            FrameFault: If the frame's kind is not the one that is due, it is too long, or something follows it.
        """
        if not data:
            raise EOFError
        self._got += data
        self.lacking -= len(data)
        if self._is_opened:
            return self.next()
        if len(self._got) < PREAMBLE_SIZE:
            return None
        preamble, self._got = self._got[:PREAMBLE_SIZE], self._got[PREAMBLE_SIZE:]
        self.lacking = 0
        return preamble

    def next(self) -> bytes | None:
        """Return the body of the frame that is due, if it came with what was received last.

        Raises:
            FrameFault: See ``receive``.
        """
        got = self._got
        if not self._size:
            if len(got) < HEADER_SIZE:
                return None
            self._size = self._measure(got)
        elif not got:
            return None
        self.lacking = self._size - len(got)
        if self.lacking > 0:
            return None
        self._got = b""
        if self.lacking < 0:
            raise FrameFault("more came than was due")
        return got[HEADER_SIZE:]

    def _measure(self, data: bytes) -> int:
        """Return the size of the frame that begins with ``data``, once its header has been checked."""
        length: int
        length, kind, lane, _, _, _ = _HEADER.unpack_from(data)
        if kind not in self._kinds or length > HANDSHAKE_LIMIT or lane >= LANES:
            raise FrameFault(_what_is_wrong(length, kind, lane, self._kinds, HANDSHAKE_LIMIT))
        self.kind = kind
        return HEADER_SIZE + length


class FrameReader:
    """Cuts the bytes of one stream into frames.

    The driver receives into a buffer of its own and passes it to ``receive``, except while ``vacancy`` returns a
    view: then the body of a large frame is under way and is to be received right there, followed by ``filled``.
    Only what a frame still lacks is ever kept here, so an idle reader holds no memory.

    A reader never raises: frames that came before a fault are returned, ``fault`` then says what was wrong, and
    whatever follows is ignored.
    """

    def __init__(self, kinds: frozenset[Kind], limit: int) -> None:
        self.fault: str | None = None
        self._kinds = kinds
        self._limit = limit
        self._rest = b""
        self._large: Frame | None = None
        self._vacancy: memoryview | None = None

    def vacancy(self) -> memoryview | None:
        """Return where the next bytes must be received, or None if anywhere will do."""
        return self._vacancy

    def filled(self, count: int) -> list[Frame]:
        """Take note that ``count`` bytes were received into ``vacancy()``, and return the frame if it is complete."""
        assert self._vacancy is not None
        assert self._large is not None
        self._vacancy = self._vacancy[count:]
        if len(self._vacancy):
            return []
        frame, self._large, self._vacancy = self._large, None, None
        return [frame]

    def receive(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """Take ``data`` in and return the frames that it completes."""
        frames: list[Frame] = []
        if self.fault is not None:
            return frames
        view = memoryview(data)
        if self._vacancy is not None:
            part = min(len(view), len(self._vacancy))
            self._vacancy[:part] = view[:part]
            frames += self.filled(part)
            view = view[part:]
        elif self._rest:
            view = memoryview(self._rest + view)
            self._rest = b""
        self._cut(view, frames)
        return frames

    def _cut(self, view: memoryview, frames: list[Frame]) -> None:
        start, end = 0, len(view)
        while end - start >= HEADER_SIZE:
            length, kind, lane, count, number, ack = _HEADER.unpack_from(view, start)
            if kind not in self._kinds or length > self._limit or lane >= LANES:
                self.fault = _what_is_wrong(length, kind, lane, self._kinds, self._limit)
                return
            body_at = start + HEADER_SIZE
            if length >= LARGE:
                start = self._begin_large(view, body_at, Frame(kind, lane, count, number, ack, bytearray(length)))
                if self._vacancy is not None:
                    return
                frames.append(self._take_large())
                continue
            if end - body_at < length:
                break
            start = body_at + length
            frames.append(Frame(kind, lane, count, number, ack, bytes(view[body_at:start])))
        if start < end:
            self._rest = bytes(view[start:])

    def _begin_large(self, view: memoryview, at: int, frame: Frame) -> int:
        """Copy what has arrived of the large body at ``at``; return where it ends in ``view``."""
        vacancy = memoryview(frame.body)
        part = min(len(vacancy), len(view) - at)
        vacancy[:part] = view[at : at + part]
        self._large = frame
        self._vacancy = vacancy[part:] if part < len(vacancy) else None
        return at + part

    def _take_large(self) -> Frame:
        assert self._large is not None
        frame, self._large = self._large, None
        return frame
