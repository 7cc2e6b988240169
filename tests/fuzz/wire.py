"""Targets: what arrives on the two streams of a connection, after its handshake and in it."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import msgspec
from tests.fuzz.mutation import bytewise, framewise
from tests.fuzz.target import Draw, Target, byte_by_byte, pieces, rule

from meshvisor.shared.core import frames
from meshvisor.shared.core.frames import (
    CALLS,
    CONTROL_KINDS,
    CONTROL_LIMIT,
    DATA_KINDS,
    HANDSHAKE_LIMIT,
    HEADER_SIZE,
    LANES,
    LARGE,
    MESSAGES,
    PREAMBLE_SIZE,
    Channel,
    Frame,
    FrameFault,
    FrameReader,
    HandshakeReader,
    Kind,
)
from meshvisor.shared.core.link import Delivered, Failed, Link, LinkState
from meshvisor.shared.core.liveness import Heartbeat
from meshvisor.shared.core.session import LONGEST_BATCH, Limits, ProtocolFault

ID = bytes(range(16))

# Frames. The first byte of an input says which stream it is of, the second how it is cut into pieces.

_STREAMS = (
    (DATA_KINDS, LARGE + LONGEST_BATCH),
    (CONTROL_KINDS, CONTROL_LIMIT),
    (DATA_KINDS, 100),
    (DATA_KINDS, 3 * LARGE),
)

_SHORT = 2048  # what is longer takes too long byte by byte

_Outcome = tuple[list[Frame], str | None]


def run_frames(data: bytes) -> None:
    """Cut a stream into frames, in four ways that must agree; what was cut is, encoded, what had arrived."""
    kinds, limit = _STREAMS[data[0] % len(_STREAMS)] if data else _STREAMS[0]
    cuts, stream = Draw(data[1:9]), data[9:]
    whole = _cut([stream], kinds, limit)
    single = byte_by_byte(stream) if len(stream) < _SHORT else pieces(stream, Draw(b"\xff\1" * 100))
    rule(_cut(single, kinds, limit) == whole, "byte by byte, a stream has other frames")
    rule(_cut(pieces(stream, cuts), kinds, limit) == whole, "in pieces, a stream has other frames")
    rule(_cut_in_place(stream, cuts, kinds, limit) == whole, "received in place, a stream has other frames")
    found, fault = whole
    again = b"".join(_encoded(frame) for frame in found)
    rule(stream.startswith(again), "the frames, encoded, are not what came")
    for frame in found:
        rule(frame.kind in kinds and frame.lane < LANES and len(frame.body) <= limit, f"{frame[:5]} has no place here")
        rule(isinstance(frame.body, bytearray) == (len(frame.body) >= LARGE), "a body of the wrong kind")
    _check_remainder(stream[len(again) :], fault, kinds, limit)


def _check_remainder(rest: bytes, fault: str | None, kinds: frozenset[Kind], limit: int) -> None:
    """What is left must be an incomplete frame, or one that cannot be."""
    if len(rest) < HEADER_SIZE:
        rule(fault is None, "a fault was found in a header that is not there yet")
        return
    length, kind, lane = struct.unpack_from("<IBB", rest)
    is_good = kind in kinds and lane < LANES and length <= limit
    rule(is_good == (fault is None), "a header is good, or bad, without reason")
    rule(not is_good or len(rest) < HEADER_SIZE + length, "a whole frame was not handed out")


def _encoded(frame: Frame) -> bytes:
    kind, lane, count, number, ack, body = frame
    return frames.encode(kind, bytes(body), lane=lane, count=count, number=number, ack=ack)


def _cut(parts: Iterable[bytes], kinds: frozenset[Kind], limit: int) -> _Outcome:
    reader, found = FrameReader(kinds, limit), []
    for part in parts:
        found += reader.receive(part)
        rule(len(reader._rest) < HEADER_SIZE + LARGE, "a reader keeps more than it lacks")
    return found, reader.fault


def _cut_in_place(stream: bytes, cuts: Draw, kinds: frozenset[Kind], limit: int) -> _Outcome:
    """Receive as a channel does: into the vacancy while there is one."""
    reader, found, at = FrameReader(kinds, limit), [], 0
    for part in pieces(stream, cuts):
        end = at + len(part)
        while at < end:
            room = reader.vacancy()
            if room is None:
                found += reader.receive(stream[at:end])
                break
            count = min(len(room), end - at)
            room[:count] = stream[at : at + count]
            found += reader.filled(count)
            at += count
        at = end
    return found, reader.fault


def _frame_seeds() -> list[bytes]:
    batch = msgspec.msgpack.encode([b"one", b"two", b""])
    data = (
        frames.encode(Kind.SINGLE, b"alone", count=1, number=1)
        + frames.encode(Kind.BATCH, batch, lane=1, count=3, number=2, ack=7)
        + frames.encode(Kind.SINGLE, b"", count=1, number=2**64 - 1, ack=2**64 - 1)
    )
    control = b"".join(
        frames.encode(kind, number=number, ack=9, lane=number % 2) for number, kind in enumerate(sorted(CONTROL_KINDS))
    )
    large = frames.encode(Kind.SINGLE, bytes(LARGE), count=1, number=1)
    small = frames.encode(Kind.SINGLE, bytes(99), count=1, number=1)
    heads = (b"\0" * 9, b"\0\1\2\3\4\5\6\7\10", b"\0\x40\1\x80\1\x11\0\7\0")
    return [
        *(head + data for head in heads),
        *(b"\1" + head[1:] + control for head in heads),
        b"\2" + heads[1][1:] + small + small,
        b"\3" + heads[2][1:] + small + large + small,
        heads[0] + large,
        heads[0] + data + b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
    ]


# The first bytes of a stream, and the frames of a handshake, each read exactly.


_HASTY = "more came than was due"


def run_opening(data: bytes) -> None:
    """Read a preamble and the frames that may follow it, never beyond what is due, however it is cut."""
    draw = Draw(data[:8])
    due = [frozenset({draw.one_of(tuple(Kind))}) for _ in range(3)]
    least = [draw.one_of((0, 0, 1, 32, 60)) for _ in range(3)]
    stream = data[8:]
    whole = _hear([stream], due, least)
    heard = whole[0]
    for other in (_hear(byte_by_byte(stream), due, least), _hear(pieces(stream, draw), due, least)):
        # A frame that is shorter than it can be is told by what follows it, if that comes at the same time.
        is_hasty = whole[1] == _HASTY and other[0][: len(heard)] == heard
        rule(other == whole or is_hasty, "in pieces, a handshake is another one")
    if heard:
        rule(frames.encode_preamble(*frames.decode_preamble(heard[0]))[:6] == heard[0][:6], "a preamble is another one")


def _hear(parts: Iterable[bytes], due: list[frozenset[Kind]], least: list[int]) -> tuple[list[bytes], str]:
    reader = HandshakeReader()
    heard: list[bytes] = []
    for part in parts:
        while part:
            rule(0 <= reader.lacking <= HEADER_SIZE + HANDSHAKE_LIMIT, f"{reader.lacking} bytes are lacking")
            if not reader.lacking:
                return heard, "more came than a handshake has"
            now, part = part[: reader.lacking], part[reader.lacking :]
            try:
                piece = reader.receive(now)
                if piece is None:
                    continue
                if not heard:
                    frames.decode_preamble(piece)
            except FrameFault as fault:
                return heard, str(fault)
            rule(len(piece) <= HANDSHAKE_LIMIT, "a piece of a handshake is too long")
            if len(heard) < len(due):
                reader.expect(due[len(heard)], least[len(heard)])
            heard.append(piece)
    return heard, ""


def _opening_seeds() -> list[bytes]:
    kinds = tuple(Kind)
    seeds = []
    for kind in (Kind.HELLO, Kind.BIND, Kind.PROOF):
        for channel in Channel:
            choice = bytes([kinds.index(kind)] * 3 + [0, 2, 4, 1, 1])
            said = frames.encode_preamble(channel, ID) + frames.encode(kind, bytes(60)) * 3
            seeds.append(choice + said)
    return [*seeds, bytes(8) + b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", bytes(8) + b"\x16\x03\x01\x02\x00" * 6]


# A link. The input is a story: what the peer sends, and what happens on this side meanwhile.

_LIMITS, _PEER_LIMITS = Limits(6, 4000), Limits(8, 3000)
_OVERHEAD = 5 * _PEER_LIMITS.messages
_HEARTBEAT = Heartbeat(interval=0.25, timeout=2.0)
_SIZES = (0, 1, 10, 100, 1000, 3000, 5000)


class _Story:
    """One link, what its peer may know of it, and what must be true of it at any time."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.now = 100.0
        self.link = Link(_LIMITS, _PEER_LIMITS, heartbeat=_HEARTBEAT if draw.flag() else None)
        self.delivered = [0, 0]
        self.has_failed = False
        self._acknowledged = [0, 0]
        self.link.attach((0, 0), self.now)

    def go_on(self) -> None:
        """Let one thing happen."""
        draw, link = self.draw, self.link
        match draw.below(10):
            case 0 | 1 | 2:
                self._take(link.receive([self._frame() for _ in range(1 + draw.below(4))], self.now))
            case 3:
                lane = draw.below(2)
                body = bytes(draw.one_of(_SIZES))
                if link.has_room(lane, body):
                    link.lanes[lane].offer(body)
            case 4:
                self._write()
            case 5:
                lane = draw.below(2)
                done = min(link.lanes[lane].received, link.lanes[lane].consumed + draw.below(4))
                link.consumed(lane, done, self.now)
            case 6:
                self.now += draw.one_of((0.0, 0.001, 0.03, 0.3, 1.0, 60.0))
                self._take(link.tick(self.now))
            case 7:
                link.detach()
                self._resume()
            case 8:
                link.probe(self.now)
                link.control_to_send()
            case _:
                _check_written(link.goodbye(), CONTROL_KINDS)

    def _frame(self) -> Frame:
        draw, link = self.draw, self.link
        kind = draw.one_of((Kind.SINGLE, Kind.BATCH, Kind.ACK, Kind.PING, Kind.PONG, Kind.GOODBYE))
        number = draw.below(2)
        lane = link.lanes[number]
        if kind not in DATA_KINDS:
            figures = (lane.received, lane.sent, lane.acknowledged, 0, 1, lane.last, 2**63, 2**64 - 1)
            return Frame(kind, number, 0, draw.one_of(figures), draw.one_of(figures), b"")
        ack = draw.one_of((0, 0, lane.sent, lane.acknowledged, lane.sent + 1, 2**64 - 1))
        first = draw.one_of((lane.received + 1,) * 4 + (lane.received, lane.received + 2, 1, 0, 2**64 - 1))
        if kind == Kind.SINGLE:
            return Frame(kind, number, draw.one_of((1, 1, 1, 0, 2)), first, ack, bytes(draw.one_of(_SIZES)))
        bodies = [bytes(draw.below(30)) for _ in range(draw.below(6))]
        packed = msgspec.msgpack.encode(bodies)
        if draw.byte() > 200:
            packed = draw.chunk()
        return Frame(kind, number, draw.one_of((len(bodies),) * 6 + (0, 65_535)), first, ack, packed)

    def _take(self, events: Iterable[object]) -> None:
        for event in events:
            rule(not self.has_failed, f"{event} came after the end of the connection")
            if isinstance(event, Delivered):
                rule(event.first == self.delivered[event.lane] + 1, f"{event.first} was delivered out of turn")
                rule(event.bodies, "nothing was delivered, and said so")
                self.delivered[event.lane] += len(event.bodies)
            elif isinstance(event, Failed):
                rule(self.link.state is LinkState.DETACHED, "a connection failed, and goes on")
                self.has_failed = True
        if self.has_failed:
            rule(self.link.receive([self._frame()], self.now) == [], "a connection is over, and hears")
            self._resume()

    def _resume(self) -> None:
        received = tuple(
            self.draw.one_of((lane.sent, lane.acknowledged, lane.sent + 1, lane.last)) for lane in self.link.lanes
        )
        claimed = (received[MESSAGES], received[CALLS])
        try:
            self.link.check_resume(claimed)
        except ProtocolFault:
            rule(any(number > lane.sent for number, lane in zip(claimed, self.link.lanes, strict=True)), "a true claim")
            claimed = (self.link.lanes[MESSAGES].sent, self.link.lanes[CALLS].sent)
        self.link.attach(claimed, self.now)
        self.has_failed = False

    def _write(self) -> None:
        budget = self.draw.one_of((1, 1000, 100_000))
        written = b"".join(bytes(part) for part in self.link.data_to_send(budget))
        self.link.written += len(written)
        _check_written(written, DATA_KINDS)
        _check_written(self.link.control_to_send(), CONTROL_KINDS)

    def check(self) -> None:
        """Whatever the peer says, numbers only grow and bounds are kept."""
        for number, lane in enumerate(self.link.lanes):
            rule(lane.received == self.delivered[number], "received is not what was delivered")
            rule(self._acknowledged[number] <= lane.acknowledged <= lane.sent <= lane.last, "numbers went astray")
            rule(lane.consumed <= lane.received, "something was consumed that never came")
            rule(lane.size >= 0 and lane.unsent_size >= 0 and lane.inbound_size >= 0, "a size below 0")
            self._acknowledged[number] = lane.acknowledged
        lane = self.link.lanes[MESSAGES]
        rule(lane.received - lane.consumed <= _PEER_LIMITS.messages, "more messages than the window has")
        rule(lane.inbound_size <= _PEER_LIMITS.size + 2 * _OVERHEAD + max(_SIZES), "more bytes than the window has")
        deadline = self.link.deadline()
        rule(deadline is None or deadline < self.now + 1e6, "no deadline that can come")


def _check_written(data: bytes, kinds: frozenset[Kind]) -> None:
    found, fault = _cut([data], kinds, LARGE + LONGEST_BATCH)
    rule(fault is None and b"".join(map(_encoded, found)) == data, f"we wrote what nobody can read: {fault}")


def run_link(data: bytes) -> None:
    """Tell a link a story of a hostile peer: exactly once, in order, within the window, whatever it sends."""
    draw = Draw(data)
    story = _Story(draw)
    while not draw.is_empty:
        story.go_on()
        story.check()


def _link_seeds() -> list[bytes]:
    ordinary = bytes([0, 0, 3, 0, 1, 0, 0, 1, 4, 0, 2, 0, 0, 0, 0, 3, 5, 0, 1, 6, 2])
    return [ordinary, ordinary * 4, bytes(range(256)), bytes(range(255, 0, -1)), b"\1" + ordinary[1:] * 10]


TARGETS = (
    Target("frames", "the frames of a control and of a data channel", run_frames, _frame_seeds, framewise(9), 200_000),
    Target("opening", "preambles, and frames read exactly", run_opening, _opening_seeds, framewise(8 + PREAMBLE_SIZE)),
    Target("link", "a session fed with frames that are well-formed and hostile", run_link, _link_seeds, bytewise),
)
