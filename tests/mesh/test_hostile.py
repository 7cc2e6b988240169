"""Strangers at a host's door: each is closed for a reason that is counted, and disturbs nobody (issues of §5.4)."""

import asyncio
import secrets
import struct
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import msgspec
import pytest
from tests.mesh.way import Play, Way, now, until
from tests.mesh.way import play as play_once

from meshvisor.shared.core import frames
from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.core.frames import HANDSHAKE_LIMIT, HEADER_SIZE, VERSION, Channel, Kind
from meshvisor.shared.core.handshake import DiallingSide, Identity
from meshvisor.shared.mesh.acceptor import Drop
from meshvisor.shared.mesh.connection import ConnectionHandle
from meshvisor.shared.mesh.dialer import Dialled, Ear, Proposal, dial
from meshvisor.shared.mesh.host import ConnectionHost
from meshvisor.shared.transport.base import Stream, TransportConnection, TransportOptions

SECRET = b"between us"
ID = bytes(range(16))
NONCE = bytes(32)
STRANGER = Identity("stranger", 0, 77, (100, 100_000))
CONTROL = frames.encode_preamble(Channel.CONTROL, ID)
DATA = frames.encode_preamble(Channel.DATA, ID)


@pytest.fixture(params=["streams", "sockets"])
def play(request: pytest.FixtureRequest) -> Play:
    """Run a scenario in virtual time, over streams without sockets or with them: they are heard in different ways."""
    return partial(play_once, way=partial(Way, over_sockets=request.param == "sockets"))


def hello(version: int = VERSION, identity: Identity = STRANGER, nonce: bytes = NONCE) -> bytes:
    return frames.encode(Kind.HELLO, msgspec.msgpack.encode([version, identity, nonce]))


async def knock(way: Way) -> TransportConnection:
    return await way.there.connect(Endpoint.parse("memory:host"), TransportOptions("stranger"))


@asynccontextmanager
async def healthy(way: Way, **options: object) -> AsyncIterator[ConnectionHost]:
    """A host with a link to a friend, which must flow undisturbed beside everything that happens."""
    async with way.host(secret=SECRET, **options) as host, way.manager(secret=SECRET) as manager:
        near = await manager.connect()
        far = await host.accept()
        stop = asyncio.Event()
        flowing = asyncio.create_task(flow(near, far, stop))
        yield host
        stop.set()
        assert await flowing > 0
        assert len(way.dialled) == 1, "the friend had to reconnect"


async def flow(near: ConnectionHandle, far: ConnectionHandle, stop: asyncio.Event) -> int:
    """Send a message each way ten times a second; each must be there within 10 ms."""
    count = 0
    while not stop.is_set():
        async with asyncio.timeout(0.01):
            count = await near.send(b"ping")
            assert (await far.receive()).number == count
            await far.send(b"pong")
            assert (await near.receive()).number == count
        await asyncio.sleep(0.1)
    return count


async def at_end(stream: Stream) -> bytes:
    """Return everything that ``stream`` says before it ends; a socket is reset if not all was read at its other end."""
    said = b""
    with suppress(ConnectionResetError):
        while data := await stream.read(65536):
            said += data
    return said


def oversized(length: int) -> bytes:
    return CONTROL + frames.encode_header(length, Kind.HELLO)


OPENINGS = {
    "an HTTP request": (b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", Drop.PREAMBLE),
    "a TLS client hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20), Drop.PREAMBLE),
    "zeros": (bytes(64), Drop.PREAMBLE),
    "our magic turned round": (b"VHSM" + CONTROL[4:], Drop.PREAMBLE),
    "a newer version": (b"MSHV" + bytes([VERSION + 1]) + CONTROL[5:], Drop.PREAMBLE),
    "an older version": (b"MSHV" + bytes([VERSION - 1]) + CONTROL[5:], Drop.PREAMBLE),
    "an unknown channel": (CONTROL[:5] + b"\x07" + CONTROL[6:], Drop.PREAMBLE),
    "a body one too long": (oversized(HANDSHAKE_LIMIT + 1), Drop.MALFORMED),
    "a body of 2 GiB": (oversized(2**31 - 1), Drop.MALFORMED),
    "a body of 4 GiB": (oversized(2**32 - 1), Drop.MALFORMED),
    "an empty HELLO": (oversized(0), Drop.MALFORMED),
    "a HELLO of noise": (CONTROL + frames.encode(Kind.HELLO, bytes(range(200))), Drop.MALFORMED),
    "nested arrays": (CONTROL + frames.encode(Kind.HELLO, b"\x91" * 4000), Drop.MALFORMED),
    "a HELLO of another version": (CONTROL + hello(version=VERSION + 1), Drop.VERSION),
    "a short nonce": (CONTROL + hello(nonce=b"x"), Drop.MALFORMED),
    "an epoch of 0": (CONTROL + hello(identity=Identity("s", 0, 0, (1, 1))), Drop.MALFORMED),
    "an empty node id": (CONTROL + hello(identity=Identity("", 0, 1, (1, 1))), Drop.MALFORMED),
    "data before HELLO": (CONTROL + frames.encode(Kind.SINGLE, b"x", number=1, count=1), Drop.MALFORMED),
    "an unknown kind": (CONTROL + frames.encode(200), Drop.MALFORMED),
    "an acknowledgement": (CONTROL + frames.encode(Kind.ACK, ack=2**64 - 1), Drop.MALFORMED),
    "HELLO twice": (CONTROL + hello() + hello(), Drop.MALFORMED),
}


@pytest.mark.parametrize("opening", OPENINGS)
def test_an_opening_that_is_none_is_closed_and_counted(play: Play, opening: str) -> None:
    said, reason = OPENINGS[opening]

    async def scenario(way: Way) -> None:
        async with healthy(way) as host:
            stranger = await knock(way)
            await stranger.control.write(said)
            answer = await at_end(stranger.control)
            if not said.startswith(CONTROL + hello()):
                assert answer == b"", "a scanner is told nothing"
            assert host.statistics().dropped == {reason: 1}
            assert now() == 0.0
            stranger.close()
            await until(lambda: host.statistics().half_open == 0)

    play(scenario)


def test_a_huge_length_allocates_nothing(play: Play) -> None:
    async def scenario(way: Way) -> None:
        async with way.host() as host:
            stranger = await knock(way)
            tracemalloc.start()
            await stranger.control.write(oversized(2**32 - 1))
            await at_end(stranger.control)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 200_000
            assert host.statistics().dropped == {Drop.MALFORMED: 1}
            stranger.close()

    play(scenario)


@pytest.mark.parametrize("said", [CONTROL[:10], CONTROL + hello()[: HEADER_SIZE - 1], CONTROL + hello()[:-1]])
def test_an_opening_that_breaks_off_is_counted_as_that(play: Play, said: bytes) -> None:
    async def scenario(way: Way) -> None:
        async with healthy(way) as host:
            stranger = await knock(way)
            await stranger.control.write(said)
            stranger.control.close()
            await until(lambda: host.statistics().dropped == {Drop.BROKEN_OFF: 1})
            stranger.data.close()
            await until(lambda: host.statistics().dropped == {Drop.BROKEN_OFF: 2})

    play(scenario)


def test_a_byte_a_second_runs_into_the_deadline_of_the_whole_handshake(play: Play) -> None:
    async def scenario(way: Way) -> None:
        async with healthy(way, handshake_timeout=5.0) as host:
            stranger = await knock(way)
            dripping = asyncio.create_task(drip(stranger.control, CONTROL + hello()))
            await at_end(stranger.control)
            assert now() == pytest.approx(5.0)
            assert host.statistics().dropped[Drop.TIMEOUT] >= 1
            stranger.close()
            await asyncio.gather(dripping, return_exceptions=True)

    async def drip(stream: Stream, data: bytes) -> None:
        for byte in data:
            await stream.write(bytes([byte]))
            await asyncio.sleep(1)

    play(scenario)


def test_a_proof_without_the_secret_is_counted_as_that(play: Play) -> None:
    async def scenario(way: Way) -> None:
        async with healthy(way) as host:
            stranger = await knock(way)
            side = DiallingSide(STRANGER, secret=b"a guess", connection_id=ID, nonce=NONCE)
            await stranger.control.write(CONTROL + side.hello())
            await Ear(stranger.control).hear(Kind.WELCOME)
            await stranger.control.write(side.prove(ID, (0, 0)))
            assert await at_end(stranger.control) == b""
            assert host.statistics().dropped == {Drop.SECRET: 1}
            stranger.close()

    play(scenario)


def test_our_own_proof_reflected_at_us_proves_nothing(play: Play) -> None:
    async def scenario(way: Way) -> None:
        async with healthy(way) as host:
            stranger = await knock(way)
            await stranger.control.write(CONTROL + hello())
            welcome = msgspec.msgpack.decode((await Ear(stranger.control).hear(Kind.WELCOME)).body)
            claim = msgspec.msgpack.encode([ID, (0, 0), False])
            reflected = msgspec.msgpack.encode([claim, welcome[-1]])
            await stranger.control.write(frames.encode(Kind.PROOF, reflected))
            assert await at_end(stranger.control) == b""
            assert host.statistics().dropped == {Drop.SECRET: 1}
            stranger.close()

    play(scenario)


class Tap:
    """A stream that keeps what is written to it."""

    def __init__(self, inner: Stream) -> None:
        self.written = b""
        self.read = inner.read
        self.close = inner.close
        self._write = inner.write

    async def write(self, data: bytes | bytearray | memoryview, /) -> None:
        self.written += bytes(data)
        await self._write(data)


def test_a_recorded_handshake_replayed_is_refused_and_the_session_undisturbed(play: Play) -> None:
    """R27: nothing that a third party heard opens the session once more, in whatever state it is."""

    async def scenario(way: Way) -> None:
        async with healthy(way) as host:
            taps: list[Tap] = []
            peer = await establish(way, SECRET, taps=taps)
            friend = await host.accept()
            for tap in taps:
                assert tap.written.startswith(b"MSHV")
            again = await knock(way)
            await again.data.write(taps[1].written)
            await again.control.write(taps[0].written)
            await at_end(again.control)
            assert host.statistics().dropped == {Drop.SECRET: 1}
            assert friend.is_attached
            again.close()
            peer.connection.close()

    play(scenario)


async def establish(
    way: Way, secret: bytes, *, proposal: Proposal | None = None, taps: list[Tap] | None = None
) -> Dialled:
    """Dial as a peer that knows the secret, and then says what it likes."""

    class Tapped:
        transport = "memory"

        async def connect(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection:
            opened = await way.there.connect(endpoint, options)
            if taps is None:
                return opened
            taps[:] = [Tap(opened.control), Tap(opened.data)]
            return TransportConnection(*taps)

        async def listen(self, endpoint: Endpoint, options: TransportOptions, /) -> None:
            raise NotImplementedError

    proposal = proposal or Proposal(secrets.token_bytes(16), (0, 0))
    endpoint, options = Endpoint.parse("memory:host"), TransportOptions("stranger")
    return await dial(Tapped(), endpoint, options, STRANGER, secret, lambda peer: proposal)  # type: ignore[arg-type]  # nobody listens with it


def test_a_data_channel_that_cannot_prove_itself_is_not_bound(play: Play) -> None:
    async def scenario(way: Way) -> None:
        async with healthy(way) as host:
            stranger = await knock(way)
            side = DiallingSide(STRANGER, secret=SECRET, connection_id=ID, nonce=NONCE)
            await stranger.data.write(DATA + frames.encode(Kind.BIND, bytes(32)))
            await stranger.control.write(CONTROL + side.hello())
            side.welcomed((await Ear(stranger.control).hear(Kind.WELCOME)).body)
            await stranger.control.write(side.prove(ID, (0, 0)))
            assert await at_end(stranger.control) == b""
            assert await at_end(stranger.data) == b""
            assert host.statistics().dropped == {Drop.DATA_CHANNEL: 1}
            stranger.close()

    play(scenario)


def test_a_second_channel_for_a_connection_is_closed_and_the_first_goes_on(play: Play) -> None:
    async def scenario(way: Way) -> None:
        async with healthy(way) as host:
            genuine, intruder = await knock(way), await knock(way)
            side = DiallingSide(STRANGER, secret=SECRET, connection_id=ID, nonce=NONCE)
            await genuine.data.write(DATA)
            await asyncio.sleep(0.01)
            await intruder.data.write(DATA)
            await at_end(intruder.data)
            assert host.statistics().dropped == {Drop.DUPLICATE: 1}
            await genuine.control.write(CONTROL + side.hello())
            side.welcomed((await Ear(genuine.control).hear(Kind.WELCOME)).body)
            await genuine.data.write(side.bind())
            await genuine.control.write(side.prove(ID, (0, 0)))
            side.accepted((await Ear(genuine.control).hear(Kind.ACCEPT)).body, ID)
            assert (await host.accept()).is_attached
            intruder.close()
            genuine.close()

    play(scenario)


def test_what_follows_the_handshake_belongs_to_the_link_however_early_it_comes(play: Play) -> None:
    async def scenario(way: Way) -> None:
        async with healthy(way) as host:
            peer = await knock(way)
            side = DiallingSide(STRANGER, secret=SECRET, connection_id=ID, nonce=NONCE)
            await peer.control.write(CONTROL + side.hello())
            side.welcomed((await Ear(peer.control).hear(Kind.WELCOME)).body)
            early = frames.encode(Kind.SINGLE, b"early", number=1, count=1)
            await peer.data.write(DATA + side.bind() + early)
            await asyncio.sleep(0.01)
            await peer.control.write(side.prove(ID, (0, 0)))
            assert (await (await host.accept()).receive()).body == b"early"
            peer.close()

    play(scenario)


VIOLATIONS = {
    "ack beyond sent": ("control", frames.encode(Kind.ACK, ack=1)),
    "data on the control channel": ("control", frames.encode(Kind.SINGLE, b"x", number=1, count=1)),
    "a huge body on the control channel": ("control", frames.encode_header(2**32 - 1, Kind.PING)),
    "a huge body on the data channel": ("data", frames.encode_header(2**32 - 1, Kind.SINGLE, 0, 1, 1)),
    "number 0": ("data", frames.encode(Kind.SINGLE, b"x", number=0, count=1)),
    "a gap": ("data", frames.encode(Kind.SINGLE, b"x", number=5, count=1)),
    "a batch of noise": ("data", frames.encode(Kind.BATCH, b"\xc1\xff", number=1, count=2)),
    "a batch that lies": ("data", frames.encode(Kind.BATCH, b"\x91\xc4\x01x", number=1, count=60_000)),
    "an unknown lane": ("data", frames.encode(Kind.SINGLE, b"x", number=1, count=1, lane=9)),
    "a piggybacked ack beyond sent": ("data", frames.encode(Kind.SINGLE, b"x", number=1, count=1, ack=2**63)),
    "HELLO again": ("control", hello()),
    "noise": ("data", struct.pack("<24s", b"\xff" * 24)),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_a_peer_that_breaks_a_rule_loses_its_connection_and_not_its_session(play: Play, violation: str) -> None:
    """R4, R17, R18: the connection is closed and counted; the session may go on over another one."""
    channel, said = VIOLATIONS[violation]

    async def scenario(way: Way) -> None:
        async with healthy(way) as host:
            session = secrets.token_bytes(16)
            peer = await establish(way, SECRET, proposal=Proposal(session, (0, 0)))
            link = await host.accept()
            await getattr(peer.connection, channel).write(said)
            await at_end(peer.connection.control)
            await at_end(peer.connection.data)
            assert host.statistics().broken == 1
            assert not link.is_over
            peer.connection.close()
            again = await establish(way, SECRET, proposal=Proposal(session, (0, 0), resumes=True))
            assert link.is_attached
            again.connection.close()

    play(scenario)


def test_a_flood_of_half_open_connections_is_bounded_and_passes(play: Play) -> None:
    async def scenario(way: Way) -> None:
        async with healthy(way, max_half_open=8, handshake_timeout=1.0) as host:
            flood = [await knock(way) for _ in range(100)]
            await asyncio.sleep(0.5)
            assert host.statistics().half_open == 16
            newcomer = asyncio.create_task(establish(way, SECRET))
            await asyncio.sleep(20)
            assert host.statistics().dropped == {Drop.TIMEOUT: 200}
            (await newcomer).connection.close()
            for stranger in flood:
                stranger.close()

    play(scenario)


def test_a_flood_of_pings_is_answered_once_a_turn(play: Play) -> None:
    async def scenario(way: Way) -> None:
        async with healthy(way):
            peer = await establish(way, SECRET)
            await peer.connection.control.write(b"".join(frames.encode(Kind.PING, number=n) for n in range(10_000)))
            await asyncio.sleep(0.1)
            answer = await peer.connection.control.read(10**6)
            assert len(answer) < 10_000 * HEADER_SIZE / 100
            peer.connection.close()

    play(scenario)


def test_another_message_under_a_number_that_was_delivered_is_never_delivered(play: Play) -> None:
    """R15: same session, same number, other bytes. The first one counts, and only it is acknowledged."""

    async def scenario(way: Way) -> None:
        async with healthy(way) as host:
            peer = await establish(way, SECRET)
            link = await host.accept()
            for body in (b"the first", b"another", b"one more"):
                await peer.connection.data.write(frames.encode(Kind.SINGLE, body, number=1, count=1))
            await peer.connection.data.write(frames.encode(Kind.SINGLE, b"the second", number=2, count=1))
            assert [(await link.receive()).body for _ in range(2)] == [b"the first", b"the second"]
            assert link.traffic().duplicates == 2
            assert host.statistics().broken == 0
            peer.connection.close()

    play(scenario)
