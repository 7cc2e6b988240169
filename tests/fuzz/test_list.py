"""The list of reference/reliability.md, section 5.4: what no other test covers, and that all of it is covered."""

from __future__ import annotations

import ast
import asyncio
import re
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tests.fuzz
from tests.fuzz.door import ENDPOINT, HOST, SECRET, Stream

from meshvisor.shared.control import lifeline, requests, zygote
from meshvisor.shared.control.lifeline import LifelineError
from meshvisor.shared.control.requests import RequestError
from meshvisor.shared.control.zygote import ZygoteError
from meshvisor.shared.core import frames, handshake
from meshvisor.shared.core.frames import (
    CONTROL_KINDS,
    CONTROL_LIMIT,
    DATA_KINDS,
    VERSION,
    Channel,
    FrameFault,
    FrameReader,
    HandshakeReader,
    Kind,
)
from meshvisor.shared.core.handshake import AcceptingSide, DiallingSide, Identity, Offer
from meshvisor.shared.core.link import Link
from meshvisor.shared.core.session import Limits
from meshvisor.shared.errors import HandshakeError
from meshvisor.shared.mesh.acceptor import Acceptor, Drop
from meshvisor.shared.transport.base import TransportOptions
from meshvisor.workers import lane

ROOT = Path(__file__).parents[2]
ID = bytes(range(16))
SESSION = bytes(16)
PEER = Identity("peer", 1, 11, (100, 100_000))

pack = msgspec.msgpack.encode


# The list itself.


def test_every_item_of_the_list_has_its_tests() -> None:
    assert tests.fuzz.__doc__ is not None
    items = re.findall(r"^    (\d+)  ", tests.fuzz.__doc__, re.MULTILINE)
    assert [int(item) for item in items] == list(range(1, 13))
    files = re.findall(r"(tests/\S+\.py)\n((?: +test_\w+\n)+)", tests.fuzz.__doc__)
    assert len(files) > len(items)
    for file, names in files:
        found = {node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)}
        assert set(names.split()) <= found, f"not all of these are in {file}"


# 1: a length is checked before there is room for it.


def _framewise(kinds: frozenset[Kind], limit: int, kind: Kind) -> Callable[[int], None]:
    def receive(length: int) -> None:
        reader = FrameReader(kinds, limit)
        reader.receive(frames.encode_header(length, kind, count=1, number=1))
        assert reader.fault is not None

    return receive


def _exactly(length: int) -> None:
    reader = HandshakeReader()
    reader.expect(frozenset({Kind.HELLO}), handshake.LEAST[Kind.HELLO])
    with pytest.raises(FrameFault):
        reader.receive(frames.encode_header(length, Kind.HELLO))


def _on_lifeline(make: Callable[[], lifeline.Reader[Any]]) -> Callable[[int], None]:
    def receive(length: int) -> None:
        with pytest.raises(LifelineError):
            make().receive(length.to_bytes(4, "big") + b"\x90")

    return receive


MSGPACK_LENGTHS = {"text": b"\xdb", "bytes": b"\xc6", "array": b"\xdd", "table": b"\xdf", "extension": b"\xc9"}


def _within(decode: Callable[[bytes], object], begin: bytes, error: type[Exception]) -> Callable[[int], None]:
    """Have a message announce so much of each kind of thing within itself."""

    def receive(length: int) -> None:
        for mark in MSGPACK_LENGTHS.values():
            with pytest.raises(error):
                decode(begin + mark + length.to_bytes(4, "big") + b"\1")

    return receive


def _greeted(body: bytes | bytearray) -> bytes:
    return AcceptingSide(HOST, secret=SECRET, connection_id=ID, nonce=bytes(32)).greeted(body)


LENGTHS: dict[str, Callable[[int], None]] = {
    "data": _framewise(DATA_KINDS, 2**20, Kind.SINGLE),
    "control": _framewise(CONTROL_KINDS, CONTROL_LIMIT, Kind.PING),
    "handshake": _exactly,
    "a worker's lifeline": _on_lifeline(lifeline.worker_end),
    "a supervisor's lifeline": _on_lifeline(lifeline.supervisor_end),
    "within HELLO": _within(_greeted, b"\x93\x01", HandshakeError),
    "within a call": _within(lane.decode, b"\x95\x01\x07\xa1m\xc0", ValueError),
    "within a result": _within(lane.decode, b"\x93\x02\x07", ValueError),
    "within a packet": _within(partial(zygote.decode_to_zygote, descriptors=0), b"\x94\xa7prepare", ZygoteError),
}


@pytest.mark.parametrize("length", [2**26 + 1, 2**31 - 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("where", LENGTHS)
def test_no_length_makes_room_before_it_is_checked(where: str, length: int) -> None:
    LENGTHS[where](length)
    tracemalloc.start()
    try:
        LENGTHS[where](length)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


# 2, 5, 7, 11: a whole handshake at an acceptor, as its two streams bring it.


class Let:
    """The link of whoever is let in."""

    received = (4, 2)

    def attach(self, *_: object, **__: object) -> None:
        """Nothing is carried."""


class Visit:
    """Somebody who knows the secret comes to an acceptor; what it says on each stream may be cut, or end."""

    def __init__(self) -> None:
        self.admitted: list[Offer] = []
        self.control, self.data = Stream(), Stream()
        self.side = DiallingSide(PEER, secret=SECRET, connection_id=ID, nonce=bytes(32))
        self.acceptor = Acceptor(
            HOST,
            SECRET,
            self._admit,  # type: ignore[arg-type]  # of a link no more is needed than to be attached
            adapters={},
            options=TransportOptions("host"),
        )
        for stream in (self.control, self.data):
            self.acceptor._meet(stream, ENDPOINT)

    def _admit(self, offer: Offer) -> Let:
        self.admitted.append(offer)
        return Let()

    async def say(self, stream: Stream, parts: Iterable[bytes]) -> None:
        if stream.has_ended:
            return
        for part in parts:
            stream.say(part)
            for _ in range(4):
                await asyncio.sleep(0)

    async def shake_hands(self, cut: Callable[[bytes], Iterable[bytes]]) -> None:
        """Go through all of it; each thing that is said is cut by ``cut``."""
        await self.say(self.control, cut(frames.encode_preamble(Channel.CONTROL, ID) + self.side.hello()))
        await self.say(self.data, cut(frames.encode_preamble(Channel.DATA, ID)))
        said = FrameReader(frozenset({Kind.WELCOME}), frames.HANDSHAKE_LIMIT).receive(bytes(self.control.said))
        if not said:
            return
        self.side.welcomed(said[0].body)
        await self.say(self.data, cut(self.side.bind()))
        await self.say(self.control, cut(self.side.prove(SESSION, (1, 2))))


def play(scenario: Callable[[Visit], Any]) -> Visit:
    async def run() -> Visit:
        visit = Visit()
        try:
            await scenario(visit)
        finally:
            await visit.acceptor.close()
        return visit

    return asyncio.run(run())


def at(place: int) -> Callable[[bytes], Iterator[bytes]]:
    """Cut everything at ``place``, counted round and round."""

    def cut(said: bytes) -> Iterator[bytes]:
        yield said[: place % len(said)]
        yield said[place % len(said) :]

    return cut


def into(size: int) -> Callable[[bytes], Iterator[bytes]]:
    return lambda said: (said[begin : begin + size] for begin in range(0, len(said), size))


OFFER = Offer(PEER, SESSION, (1, 2))


@pytest.mark.parametrize("cut", [*(at(place) for place in range(130)), *map(into, (1, 2, 3, 7, 50))])
def test_a_handshake_cut_anywhere_is_the_same_one(cut: Callable[[bytes], Iterable[bytes]]) -> None:
    visit = play(lambda visit: visit.shake_hands(cut))
    assert visit.admitted == [OFFER]
    assert visit.acceptor.counts == {"accepted": 1, "refused": 0, "dropped": 0}


@pytest.mark.parametrize("left", [1, 2, 24, 25, 40])
@pytest.mark.parametrize("step", range(4))
def test_a_handshake_that_ends_anywhere_lets_nobody_in(step: int, left: int) -> None:
    """So many bytes are missing of one of the four things that are said: the stream is at its end there."""

    async def scenario(visit: Visit) -> None:
        steps, streams = iter(range(4)), (visit.control, visit.data, visit.data, visit.control)

        def cut(said: bytes) -> Iterator[bytes]:
            is_last = next(steps) == step
            yield said[:-left] if is_last else said
            if is_last:
                streams[step].end()

        await visit.shake_hands(cut)
        for stream in (visit.control, visit.data):
            stream.end()
        await asyncio.sleep(0.01)

    visit = play(scenario)
    assert visit.admitted == []
    assert set(visit.acceptor.drops) == {Drop.BROKEN_OFF}
    assert visit.acceptor.half_open == 0


@pytest.mark.parametrize("version", [0, VERSION + 1, 127, 255, 2**63])
def test_no_version_but_ours_is_agreed_on(version: int) -> None:
    """Neither in the preamble nor in HELLO, and not in WELCOME either, whose proof covers it."""
    if version < 256:
        preamble = frames.encode_preamble(Channel.CONTROL, ID)
        with pytest.raises(FrameFault, match=f"speaks version {version}"):
            frames.decode_preamble(preamble[:4] + bytes([version]) + preamble[5:])
    with pytest.raises(HandshakeError, match=f"speaks version {version}") as caught:
        _greeted(pack([version, PEER, bytes(32)]))
    assert caught.value.fatal
    side = DiallingSide(PEER, secret=SECRET, connection_id=ID, nonce=bytes(32))
    hello = FrameReader(frozenset({Kind.HELLO}), 4096).receive(side.hello())[0].body
    welcome = msgspec.msgpack.decode(FrameReader(frozenset({Kind.WELCOME}), 4096).receive(_greeted(hello))[0].body)
    with pytest.raises(HandshakeError):
        side.welcomed(pack([version, *welcome[1:]]))


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.HELLO])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_frame_of_the_handshake_out_of_turn_lets_nobody_in(kind: Kind, is_first: bool) -> None:
    """Anything but HELLO at the beginning, and anything but PROOF after it."""
    if kind is Kind.PROOF and not is_first:
        return

    async def scenario(visit: Visit) -> None:
        preamble = frames.encode_preamble(Channel.CONTROL, ID)
        said = b"" if is_first else visit.side.hello()
        await visit.say(visit.control, [preamble + said, frames.encode(kind, bytes(60))])

    visit = play(scenario)
    assert visit.admitted == []
    assert visit.acceptor.drops == {Drop.MALFORMED: 1}


# 6: what follows.

MESSAGES: dict[str, tuple[Callable[[bytes], object], bytes, type[Exception]]] = {
    "HELLO": (_greeted, pack([VERSION, PEER, bytes(32)]), HandshakeError),
    "a call": (lane.decode, lane.encode((lane.REQUEST, 7, "m", None, ())), ValueError),
    "a cancel": (lane.decode, lane.encode((lane.CANCEL, 7)), ValueError),
    "an order to a zygote": (
        partial(zygote.decode_to_zygote, descriptors=0),
        zygote.encode(zygote.Check()),
        ZygoteError,
    ),
    "the word of a zygote": (zygote.decode_from_zygote, zygote.encode(zygote.Forked(1, 7)), ZygoteError),
    "a request": (
        partial(requests.decode_request, now=1.0),
        requests.encode_request(1, requests.GetStatus(), 2.0),
        RequestError,
    ),
    "a reply": (requests.decode_reply, requests.encode_reply(1, requests.Accepted()), RequestError),
}


@pytest.mark.parametrize("what", MESSAGES)
def test_what_follows_a_message_within_its_length_is_refused(what: str) -> None:
    decode, message, error = MESSAGES[what]
    decode(message)
    with pytest.raises(error):
        decode(message + b"\0")


# 9: what is nested, and values that are odd.


def _lifeline_message(body: bytes) -> object:
    return lifeline.worker_end().receive(len(body).to_bytes(4, "big") + body)


def _request(body: bytes) -> object:
    return requests.decode_request(body, 1.0)


JSON_ODDITIES = {
    "nested arrays": b'{"version":1,"id":1,"deadline":2,"body":' + b"[" * 60_000,
    "nested objects": b'{"version":1,"id":1,"deadline":2,"body":' + b'{"a":' * 10_000,
    "a number of many digits": b'{"version":1,"id":' + b"9" * 60_000 + b',"deadline":2,"body":{}}',
    "a number with a large exponent": b'{"version":1e999,"id":1,"deadline":2,"body":{"type":"status"}}',
    "not a number": b'{"version":1,"id":1,"deadline":NaN,"body":{"type":"status"}}',
    "infinity": b'{"version":1,"id":1,"deadline":Infinity,"body":{"type":"status"}}',
    "half a surrogate": b'{"version":1,"id":1,"deadline":2,"body":{"type":"why","slot":"\\ud800"}}',
    "text that is no UTF-8": b'{"version":1,"id":1,"deadline":2,"body":{"type":"why","slot":"\xff"}}',
    "a key twice, the last one of another type": b'{"version":1,"id":1,"id":"x","deadline":2,"body":{"type":"status"}}',
}
MSGPACK_ODDITIES = {
    "nested arrays": b"\x91" * 100_000,
    "nested tables": b"\x81\xa1a" * 100_000,
    "an extension": b"\xd4\x05\x00",
    "a time": b"\xd6\xff\0\0\0\0",
    "no type at all": b"\xc1",
    "text that is no UTF-8": b"\xa1\xff",
    "a number of 64 bits": b"\xcf" + b"\xff" * 8,
    "not a number": b"\xcb\x7f\xf8" + bytes(6),
}
ODD: list[tuple[Callable[[bytes], object], type[Exception], bytes]] = [
    *((_request, RequestError, text) for text in JSON_ODDITIES.values()),
    *(
        (decode, error, begin + text)
        for text in MSGPACK_ODDITIES.values()
        for decode, error, begin in (
            (_greeted, HandshakeError, b"\x93\x01"),
            (_lifeline_message, LifelineError, b"\x93\xa5links"),
            (partial(zygote.decode_to_zygote, descriptors=0), ZygoteError, b"\x94\xa7prepare"),
            (lane.decode, ValueError, b"\x95\x01\x07"),
        )
    ),
]


@pytest.mark.parametrize(("decode", "error", "said"), ODD)
def test_what_is_nested_or_odd_is_refused_in_words(
    decode: Callable[[bytes], object], error: type[Exception], said: bytes
) -> None:
    with pytest.raises(error) as caught:
        decode(said)
    assert 10 < len(str(caught.value)) < 500


# 10: floods.


def test_a_flood_of_acknowledgements_is_not_answered() -> None:
    link = Link(Limits(8, 1000))
    link.attach((0, 0), 0.0)
    acks = FrameReader(CONTROL_KINDS, CONTROL_LIMIT).receive(frames.encode(Kind.ACK) * 10_000)
    assert len(acks) == 10_000
    assert link.receive(acks, 0.0) == []
    assert (link.control_to_send(), link.data_to_send(10**6), link.deadline()) == (b"", [], None)


def test_tiny_frames_cost_in_proportion_to_their_number() -> None:
    """In CPU time, the best of a few tries; in the square of their number, it would be sixteen times as much."""

    def cost(count: int) -> float:
        data = frames.encode(Kind.SINGLE, count=1, number=1) * count
        spent = []
        for _ in range(5):
            reader, began = FrameReader(DATA_KINDS, 100), time.process_time()
            for begin in range(0, len(data), 65_536):
                reader.receive(data[begin : begin + 65_536])
            spent.append(time.process_time() - began)
        return min(spent)

    assert cost(40_000) < 10 * cost(10_000)
