"""The accepting half of a node: listeners, pairing of channels, and the accepting side of the handshake.

Everything that has not proved itself is bounded: how many streams there are, how long each may take in all, and how
much of it is read. Who is let in, and to which link, is decided by ``admit``.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..core import frames
from ..core.endpoint import Endpoint
from ..core.frames import PREAMBLE_SIZE, Channel, FrameFault, Kind
from ..core.handshake import NONCE_SIZE, AcceptingSide, Identity, Offer, RefusalCode
from ..errors import HandshakeError
from ..transport.base import Listener, Stream, TransportAdapter, TransportConnection, TransportOptions
from .connection import ConnectionHandle
from .dialer import BrokenOff, read_exactly, read_frame


@dataclass(frozen=True, slots=True)
class Refuse:
    """A decision of ``admit``: no."""

    code: RefusalCode
    reason: str = ""
    retry_after: float = 0.0


class Drop(StrEnum):
    """Why a stream was closed before its connection was accepted or refused. Nobody is told: it may be a scanner."""

    TIMEOUT = "timeout"  # the handshake's time was up
    BROKEN_OFF = "broken-off"  # it ended, or broke
    PREAMBLE = "preamble"  # it does not begin as a stream of this protocol and version
    DUPLICATE = "duplicate"  # a second stream for one channel of one connection
    VERSION = "version"  # HELLO is of another version
    MALFORMED = "malformed"  # not the frame that was due, too long, or nonsense
    SECRET = "secret"  # PROOF does not prove the secret: another one, a replayed or a reflected proof
    DATA_CHANNEL = "data-channel"  # BIND does not prove that the data channel belongs to the connection


class _Dropped(Exception):
    def __init__(self, reason: Drop) -> None:
        self.reason = reason
        super().__init__(reason)


@contextmanager
def _blaming(reason: Drop, *, fatal: Drop | None = None) -> Iterator[None]:
    """Make ``_Dropped`` of the errors of the handshake: ``fatal`` of what trying again cannot change."""
    try:
        yield
    except BrokenOff:
        raise
    except FrameFault:
        raise _Dropped(reason) from None
    except HandshakeError as error:
        raise _Dropped(fatal if fatal and error.fatal else reason) from None


Admit = Callable[[Offer], "ConnectionHandle | Refuse"]
"""Told what an authenticated peer offers, return the link that its connection is for, or a refusal."""


class Acceptor:
    """Listens, and lets authenticated peers in; see the module.

    ``counts`` tells how many connections were accepted and refused, and how many streams were dropped before their
    connection was either; ``drops`` and ``refusals`` tell why, ``half_open`` how many streams are on their way.
    ``me`` is who answers, from the next handshake on.
    """

    def __init__(
        self,
        me: Identity,
        secret: bytes,
        admit: Admit,
        *,
        adapters: dict[str, TransportAdapter],
        options: TransportOptions,
        handshake_timeout: float = 5.0,
        max_half_open: int = 64,
    ) -> None:
        self.counts = {"accepted": 0, "refused": 0, "dropped": 0}
        self.drops: Counter[Drop] = Counter()
        self.refusals: Counter[RefusalCode] = Counter()
        self.half_open = 0
        self.me = me
        self._secret = secret
        self._admit = admit
        self._adapters = adapters
        self._options = options
        self._timeout = handshake_timeout
        # Both streams of a connection count until it is established.
        self._places = asyncio.Semaphore(2 * max_half_open)
        self._listeners: list[Listener] = []
        self._tasks: dict[asyncio.Task[None], None] = {}  # in the order of their beginning
        self._pairs: dict[bytes, _Pair] = {}

    async def start(self, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        """Bind ``endpoints`` and begin to accept; return them as bound.

        Raises:
            OSError: If one cannot be bound; none is left bound then.
        """
        try:
            for endpoint in endpoints:
                self._listeners.append(await self._adapters[endpoint.transport].listen(endpoint, self._options))
        except BaseException:
            await self.close()
            raise
        for listener in self._listeners:
            self._own(self._accept(listener))
        return tuple(listener.endpoint for listener in self._listeners)

    async def close(self) -> None:
        """Stop listening and drop everything that is not established."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _accept(self, listener: Listener) -> None:
        while True:
            # A place first: when all are taken, newcomers wait in the kernel's queue and not in our memory.
            await self._places.acquire()
            try:
                stream = await listener.accept()
            except OSError:
                return  # closed
            self._own(self._serve(stream, listener.endpoint))

    async def _serve(self, stream: Stream, endpoint: Endpoint) -> None:
        """Take one accepted stream as far as it gets."""
        established = False
        self.half_open += 1
        try:
            async with asyncio.timeout(self._timeout):
                preamble = await read_exactly(stream, PREAMBLE_SIZE)
                with _blaming(Drop.PREAMBLE):
                    channel, connection_id = frames.decode_preamble(preamble)
                pair = self._join(connection_id, channel)
                try:
                    if channel is Channel.DATA:
                        await pair.offer_data(stream)
                    else:
                        await self._establish(stream, connection_id, pair, endpoint)
                finally:
                    established = pair.is_established
                    self._pairs.pop(connection_id, None)
                    pair.give_up()
        except _Dropped as dropped:
            self._count(dropped.reason)
        except TimeoutError:
            self._count(Drop.TIMEOUT)
        except (OSError, BrokenOff):
            self._count(Drop.BROKEN_OFF)
        finally:
            if not established:
                stream.close()
            self.half_open -= 1
            self._places.release()

    def _count(self, reason: Drop) -> None:
        self.counts["dropped"] += 1
        self.drops[reason] += 1

    def _join(self, connection_id: bytes, channel: Channel) -> _Pair:
        """Return the pair that a new stream belongs to; a second stream for one channel cannot disturb the first."""
        pair = self._pairs.setdefault(connection_id, _Pair())
        if channel in pair.channels:
            raise _Dropped(Drop.DUPLICATE)
        pair.channels.add(channel)
        return pair

    async def _establish(self, control: Stream, connection_id: bytes, pair: _Pair, endpoint: Endpoint) -> None:
        """Shake hands, and attach the connection to the link that ``admit`` names."""
        side = AcceptingSide(
            self.me, secret=self._secret, connection_id=connection_id, nonce=secrets.token_bytes(NONCE_SIZE)
        )
        with _blaming(Drop.MALFORMED, fatal=Drop.VERSION):
            welcome = side.greeted((await read_frame(control, Kind.HELLO)).body)
        await control.write(welcome)
        with _blaming(Drop.MALFORMED, fatal=Drop.SECRET):
            offer = side.proved((await read_frame(control, Kind.PROOF)).body)
        data = await pair.wait_data()
        with _blaming(Drop.DATA_CHANNEL):
            side.bound((await read_frame(data, Kind.BIND)).body)
        # From here to the end nothing waits: the decision and its execution are one step of the loop.
        decision = self._admit(offer)
        if isinstance(decision, Refuse):
            self.counts["refused"] += 1
            self.refusals[decision.code] += 1
            await control.write(side.refuse(decision.code, decision.reason, decision.retry_after))
            return
        greeting = side.accept(offer.session, decision.received)
        connection = TransportConnection(control, data)
        decision.attach(connection, str(endpoint), offer.peer, offer.received, greeting=greeting)
        pair.establish()
        self.counts["accepted"] += 1


class _Pair:
    """Where the two streams of a connection meet, in whichever order they arrive."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._data: asyncio.Future[Stream] = loop.create_future()
        self._settled: asyncio.Future[None] = loop.create_future()
        self.channels: set[Channel] = set()
        self.is_established = False

    async def offer_data(self, stream: Stream) -> None:
        """Bring the data channel, and wait until the control channel's side has settled what becomes of it."""
        self._data.set_result(stream)
        await asyncio.shield(self._settled)

    async def wait_data(self) -> Stream:
        """Wait for the data channel; it comes, or the handshake's time is up."""
        return await asyncio.shield(self._data)

    def establish(self) -> None:
        """The connection is established: neither stream is the acceptor's any more."""
        self.is_established = True
        self._settle()

    def give_up(self) -> None:
        """One of the two is done, one way or the other, and so is the other one."""
        self._settle()

    def _settle(self) -> None:
        if not self._settled.done():
            self._settled.set_result(None)
