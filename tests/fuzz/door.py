"""Target: both sides of the handshake, and the acceptor with its table of half-open connections.

The input is a story of strangers at a door: they open streams, say what they like on them, and some of them know the
secret. Only who has proved that, over both channels and with nothing altered on the way, may be let in.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import cache

import msgspec
from tests.fuzz.mutation import bytewise
from tests.fuzz.target import Broken, Draw, Target, event_loop, rule

from meshvisor.shared.core import frames
from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.core.frames import LANES, Channel, Kind
from meshvisor.shared.core.handshake import (
    MAX_METADATA,
    AcceptingSide,
    DiallingSide,
    Identity,
    Offer,
    RefusalCode,
    Refused,
)
from meshvisor.shared.errors import HandshakeError
from meshvisor.shared.mesh.acceptor import Acceptor, Drop, Refuse
from meshvisor.shared.transport.base import TransportOptions

SECRET = b"a secret of the mesh"
HOST = Identity("host", 3, 33, (100, 100_000))
ENDPOINT = Endpoint.parse("memory:host")
_HALF_OPEN = 3
_MOST_STREAMS = 12
_SESSION = bytes(range(16))

_Identities = (
    Identity("peer", 1, 11, (100, 100_000)),
    Identity("host", 3, 33, (100, 100_000)),
    Identity("", 1, 11, (1, 1)),
    Identity("x" * 255, 0, 2**64 - 1, (2**20, 2**30), (("a", "b"),)),
    Identity("x" * 256, -1, 0, (0, 0)),
    Identity("p\x1b[2J", 2**63 - 1, 1, (1, 1), (("k" * 600, "v" * 600),)),
    Identity("peer", 2**63, 1, (1, 1)),
)


class Stream:
    """A stream between a stranger and the acceptor, which the test drives from one end."""

    def __init__(self) -> None:
        self.said = bytearray()  # to the stranger
        self.is_closed = False
        self._coming = bytearray()
        self.has_ended = False
        self._news = asyncio.Event()

    def say(self, data: bytes) -> None:
        self._coming += data
        self._news.set()

    def end(self) -> None:
        self.has_ended = True
        self._news.set()

    async def read(self, limit: int, /) -> bytes:
        while not self._coming:
            if self.is_closed:
                raise OSError("closed")
            if self.has_ended:
                return b""
            self._news.clear()
            await self._news.wait()
        data = bytes(self._coming[:limit])
        del self._coming[:limit]
        return data

    async def write(self, data: bytes | bytearray | memoryview, /) -> None:
        if self.is_closed:
            raise OSError("closed")
        self.said += data

    def close(self) -> None:
        self.is_closed = True
        self._news.set()


class _Visitor:
    """A stranger: two streams, and what it has said on them; ``is_genuine`` until it lies or is altered."""

    def __init__(self, draw: Draw) -> None:
        self.connection_id = bytes([draw.below(3)]) * 16
        self.control, self.data = Stream(), Stream()
        self.me = draw.one_of(_Identities[:1] * 6 + _Identities)
        self.knows = draw.byte() < 230
        secret = SECRET if self.knows else b"a guess"
        self.side = DiallingSide(self.me, secret=secret, connection_id=self.connection_id, nonce=bytes(32))
        self.is_genuine = self.knows
        self.has_passed = False  # it has said all that opens the door, whatever it does from then on
        self.done: set[str] = set()

    def stream_of(self, step: str) -> Stream:
        return self.data if step in ("data", "bind") else self.control

    def has_ended(self, stream: Stream) -> bool:
        """Return whether all that a handshake has of ``stream`` was said; what follows is the link's business."""
        return ("bind" if stream is self.data else "proof") in self.done


class _Accepted:
    """The link of whoever was let in."""

    received = (4, 2)

    def __init__(self, door: _Door) -> None:
        self._door = door

    def attach(self, *_: object, greeting: bytes, **__: object) -> None:
        self._door.greetings.append(greeting)


class _Door:
    """An acceptor, those who stand before it, and what it must not do."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.greetings: list[bytes] = []
        self.visitors: list[_Visitor] = []
        self.admitted = 0
        self._broken: Broken | None = None
        self.acceptor = Acceptor(
            HOST,
            SECRET,
            self._admit,  # type: ignore[arg-type]  # of a link no more is needed than to be attached
            adapters={},
            options=TransportOptions("host"),
            max_half_open=_HALF_OPEN,
        )

    def _admit(self, offer: Offer) -> _Accepted | Refuse:
        self.admitted += 1
        try:
            self._check_offer(offer)
        except Broken as broken:  # raised to a task of the acceptor, it would be heard of too late
            self._broken = broken
        if self.draw.byte() < 60:
            return Refuse(self.draw.one_of(tuple(RefusalCode)), "not now", float(self.draw.below(9)))
        return _Accepted(self)

    def _check_offer(self, offer: Offer) -> None:
        rule(any(one.has_passed for one in self.visitors), "a liar was let in")
        rule(0 < len(offer.peer.node.encode()) <= 255 and 0 < offer.peer.epoch < 2**64, "a node that cannot be")
        rule(len(offer.session) == 16 and len(offer.received) == LANES, "an offer that cannot be")
        rule(sum(len(item.encode()) for pair in offer.peer.metadata for item in pair) <= MAX_METADATA, "metadata")

    async def go_on(self) -> None:
        draw = self.draw
        if not self.visitors or (draw.byte() < 40 and len(self.visitors) < _MOST_STREAMS // 2):
            self._open(_Visitor(draw))
        visitor = draw.one_of(self.visitors)
        match draw.below(8):
            case 0:
                self._say(visitor, "control", frames.encode_preamble(Channel.CONTROL, visitor.connection_id))
            case 1:
                self._say(visitor, "data", frames.encode_preamble(Channel.DATA, visitor.connection_id))
            case 2:
                self._say(visitor, "hello", visitor.side.hello())
            case 3:
                self._answer(visitor)
            case 4:
                self._say(visitor, "bind", visitor.side.bind())
            case 5:
                self._noise(draw.one_of((visitor.control, visitor.data)), visitor)
            case 6:
                draw.one_of((visitor.control, visitor.data)).end()
            case _:
                pass  # time passes
        for _ in range(draw.below(4)):
            await asyncio.sleep(0)
        self.check()

    def _open(self, visitor: _Visitor) -> None:
        """Have the acceptor take the streams of a visitor in, as its loop does: never more than it has places for."""
        self.visitors.append(visitor)
        for stream in (visitor.control, visitor.data):
            if self.acceptor._has_place:
                self.acceptor._meet(stream, ENDPOINT)
            else:
                stream.close()

    def _say(self, visitor: _Visitor, step: str, said: bytes) -> None:
        """Say what belongs to a ``step`` of the handshake: as it is, altered, in part, or in two parts."""
        draw, stream = self.draw, visitor.stream_of(step)
        how, meaning = draw.byte(), _meaning(said)
        if how < 40:
            at, mask = draw.below(len(said)), 1 << draw.below(8)
            said = said[:at] + bytes([said[at] ^ mask]) + said[at + 1 :]
        elif how < 60:
            said = said[: draw.below(len(said))]
        is_again = step in visitor.done
        if not visitor.has_ended(stream):
            visitor.is_genuine &= _meaning(said) == meaning and not is_again
        elif step in ("hello", "proof"):  # its own side of the handshake is confused by that
            visitor.is_genuine &= not is_again
        visitor.done.add(step)
        if 60 <= how < 100:
            half = draw.below(len(said))
            stream.say(said[:half])
            said = said[half:]
        stream.say(said)
        visitor.has_passed |= visitor.is_genuine and {"proof", "bind"} <= visitor.done

    def _noise(self, stream: Stream, visitor: _Visitor) -> None:
        draw = self.draw
        if draw.flag():
            noise = draw.chunk()
        else:
            body = draw.chunk()
            length = draw.one_of((len(body),) * 3 + (0, 4096, 4097, 2**31 - 1, 2**32 - 1))
            noise = frames.encode_header(length, draw.one_of((*Kind, 0, 255)), draw.below(3)) + body
        visitor.is_genuine &= visitor.has_ended(stream) or not noise
        stream.say(noise)

    def _answer(self, visitor: _Visitor) -> None:
        """Go on from WELCOME, if it is there: check it, and prove ourselves."""
        body = _body_of(visitor.control.said, Kind.WELCOME)
        session, received = self.draw.one_of((_SESSION, _SESSION, b"", bytes(17))), (self.draw.number(1), 0)
        if body is not None:
            try:
                rule(visitor.side.welcomed(body) == HOST, "somebody else answered")
            except HandshakeError:
                rule(not visitor.is_genuine or "proof" in visitor.done, "a genuine WELCOME was refused")
        self._say(visitor, "proof", visitor.side.prove(session, received, resumes=self.draw.flag()))

    def check(self) -> None:
        if self._broken is not None:
            raise self._broken
        acceptor = self.acceptor
        rule(acceptor.half_open <= 2 * _HALF_OPEN, "more half-open streams than there may be")
        rule(len(acceptor._visits) <= acceptor.half_open, "a visit without streams")
        for visit in acceptor._visits.values():
            mine = [one for one in (visit.control, visit.data) if one is not None]
            rule(mine and all(one in acceptor._guests for one in mine), "a visit of streams that have gone")
        rule(self.admitted == acceptor.counts["accepted"] + acceptor.counts["refused"], "somebody is not counted")
        rule(sum(acceptor.drops.values()) == acceptor.counts["dropped"], "a reason is missing")
        rule(all(isinstance(reason, Drop) for reason in acceptor.drops), "a reason that is none")

    def settle(self) -> None:
        """Check what those heard who were let in or refused: it proves itself."""
        for visitor in self.visitors:
            refusal = _body_of(visitor.control.said, Kind.REFUSE)
            if refusal is not None and visitor.is_genuine:
                rule(visitor.side.refused(refusal).authenticated, "a refusal without proof")
        for greeting in self.greetings:
            body = _body_of(greeting, Kind.ACCEPT)
            rule(body is not None, "whoever was let in is not told")


def _meaning(said: bytes) -> bytes:
    """Return what counts of a preamble, or of a frame of the handshake: the rest is as well zero."""
    return said[:6] + said[8:] if said.startswith(frames.MAGIC) else said[:5] + said[frames.HEADER_SIZE :]


def _body_of(said: bytes | bytearray, kind: Kind) -> bytes | None:
    """Return the body of the first frame of ``kind`` in what the acceptor said."""
    reader = frames.FrameReader(frozenset(Kind), frames.HANDSHAKE_LIMIT)
    found = reader.receive(bytes(said))
    rule(reader.fault is None, "the acceptor says what is no frame")
    return next((bytes(frame.body) for frame in found if frame.kind == kind), None)


async def _play(draw: Draw) -> None:
    door = _Door(draw)
    try:
        while not draw.is_empty:
            await door.go_on()
        for _ in range(5):
            await asyncio.sleep(0)
        door.check()
        door.settle()
    finally:
        await door.acceptor.close()
    rule(door.acceptor.half_open == 0 and not door.acceptor._visits, "something is left at the end")
    rule(len(asyncio.all_tasks()) == 1, "a task is left at the end")


def run_door(data: bytes) -> None:
    """Play the story that ``data`` tells."""
    complaints: list[BaseException] = []
    loop = event_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context.get("exception") or Exception(context)))
    loop.run_until_complete(_play(Draw(data)))
    if complaints:
        raise complaints[0]


def _door_seeds() -> list[bytes]:
    def step(kind: int, *more: int) -> bytes:
        return bytes([255, 0, kind, *more])

    whole = bytes([200])
    arrival = bytes([0, 0, 0])  # connection 0, the first identity, which knows
    polite = arrival + bytes([0, 0]) + whole + bytes([3])
    story = polite + step(1, 200, 3) + step(2, 200, 3) + step(3, 0, 0, 0, 200, 3) + step(4, 200, 3, 255, 3)
    return [story, story * 2, story[:-4] + step(5, 1, 0, 3), bytes(range(256)), story + bytes(range(250, 0, -1))]


# The dialling side, and what an acceptor that is not what it seems may answer.

_NONCE = bytes(32)


def run_dialling(data: bytes) -> None:
    """Answer a dialling side with anything: it believes nothing that is not proved."""
    draw = Draw(data)
    me = _Identities[0]
    side = DiallingSide(me, secret=SECRET, connection_id=_SESSION, nonce=_NONCE)
    side.hello()
    is_welcome = False
    if draw.flag():
        welcome = _true_welcome(me)
        said = _altered(welcome, draw)
        try:
            rule(side.welcomed(said) == HOST, "somebody else was believed")
            is_welcome = True
        except HandshakeError:
            rule(said != welcome, "a genuine WELCOME was refused")
    else:
        with suppress(HandshakeError):
            side.welcomed(draw.chunk())
            rule(False, "an answer without proof was believed")
    side.prove(_SESSION, (1, 2))
    rest = draw.rest()
    with suppress(HandshakeError):
        side.accepted(rest, _SESSION)
        rule(False, "an ACCEPT without proof was believed")
    with suppress(HandshakeError):
        refused = side.refused(rest)
        rule(isinstance(refused, Refused) and not refused.authenticated and not refused.fatal, "a refusal of anybody's")
        rule(refused.retry_after == 0.0, "a pause that nobody has proved")
    rule(is_welcome == side._authenticated, "proved, or not")


@cache
def _true_welcome(me: Identity) -> bytes:
    one = DiallingSide(me, secret=SECRET, connection_id=_SESSION, nonce=_NONCE)
    other = AcceptingSide(HOST, secret=SECRET, connection_id=_SESSION, nonce=_NONCE)
    body = _body_of(one.hello(), Kind.HELLO)
    assert body is not None
    welcome = _body_of(other.greeted(body), Kind.WELCOME)
    assert welcome is not None
    return welcome


def _altered(said: bytes, draw: Draw) -> bytes:
    """Return ``said`` as it is, or with something in it changed; not only in how it is written."""
    if draw.flag():
        return said
    value = msgspec.msgpack.decode(said)
    at = draw.below(len(value))
    value[at] = draw.one_of((None, 0, -1, 2**64 - 1, "", b"", [], bytes(32), "x" * 5000, {"a": [1]}))
    return msgspec.msgpack.encode(value)


def _dialling_seeds() -> list[bytes]:
    accept = msgspec.msgpack.encode([msgspec.msgpack.encode([_SESSION, (1, 2), False]), bytes(32)])
    refusals = [
        msgspec.msgpack.encode([code, "why", pause, proof])
        for code in RefusalCode
        for pause, proof in ((0.0, b""), (float("inf"), bytes(32)), (float("nan"), b""), (2.5, bytes(32)))
    ]
    seeds = [b"\1\1" + body for body in (accept, *refusals)]
    return [*seeds, b"\1\0\3\4" + accept, b"\0\x20" + bytes(32) + refusals[0]]


TARGETS = (
    Target("handshake", "an acceptor, its half-open connections, and strangers", run_door, _door_seeds, None, 1500),
    Target("dialling", "a dialling side, and what may answer it", run_dialling, _dialling_seeds, bytewise),
)
