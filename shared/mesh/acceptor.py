"""The accepting half of a node: listeners, pairing of channels, and the accepting side of the handshake.

Everything that has not proved itself is bounded: how many streams there are, how long each may take in all, and how
much of it is read. Who is let in, and to which link, is decided by ``admit``.

A stream over a socket is heard by callbacks, with no task and no timer of its own; any other stream by a task. What
is heard, and what follows from it, is the same.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from ..core import frames
from ..core.endpoint import Endpoint
from ..core.frames import Channel, FrameFault, HandshakeReader, Kind
from ..core.handshake import LEAST, NONCE_SIZE, AcceptingSide, Identity, Offer, RefusalCode
from ..errors import HandshakeError
from ..transport.base import Listener, Stream, TransportAdapter, TransportConnection, TransportOptions
from ..transport.sockets import SocketListener, SocketStream
from .connection import ConnectionHandle


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


_FAILURES = (OSError, EOFError, HandshakeError, FrameFault, _Dropped)

_BLAME = {
    None: (Drop.PREAMBLE, Drop.PREAMBLE),
    Kind.HELLO: (Drop.MALFORMED, Drop.VERSION),
    Kind.PROOF: (Drop.MALFORMED, Drop.SECRET),
    Kind.BIND: (Drop.DATA_CHANNEL, Drop.DATA_CHANNEL),
}
"""What a stream is dropped for if what was due on it (None: the preamble) is wrong, and if it can never be right."""

_AHEAD = frames.HEADER_SIZE + min(LEAST[Kind.HELLO], LEAST[Kind.BIND])
"""Bytes that are read with the preamble of a stream: the first frame has as many, whichever it is."""

_JUST = {kind: frozenset({kind}) for kind in _BLAME if kind is not None}

_AT_ONCE = 32
"""How many streams are accepted in one go; others get the loop then."""


class _Guest:
    """An accepted stream on its way in, and what is due on it."""

    __slots__ = ("deadline", "due", "endpoint", "reader", "stream", "visit")

    def __init__(self, stream: Stream, endpoint: Endpoint, deadline: float) -> None:
        self.stream = stream
        self.endpoint = endpoint
        self.deadline = deadline
        self.reader = HandshakeReader(_AHEAD)
        self.due: Kind | None = None
        self.visit: _Visit | None = None  # once its preamble has said which

    def expect(self, kind: Kind) -> None:
        self.due = kind
        self.reader.expect(_JUST[kind], LEAST[kind])

    def blame(self, error: Exception) -> Drop:
        """Return why the stream is dropped, after ``error``."""
        if isinstance(error, _Dropped):
            return error.reason
        if isinstance(error, (OSError, EOFError)):
            return Drop.BROKEN_OFF
        wrong, fatal = _BLAME[self.due]
        return fatal if isinstance(error, HandshakeError) and error.fatal else wrong


class _Visit:
    """A connection on its way in: where its two streams meet, in whichever order they arrive."""

    __slots__ = ("binding", "connection_id", "control", "data", "offer", "side")

    def __init__(self, connection_id: bytes) -> None:
        self.connection_id = connection_id
        self.control: _Guest | None = None
        self.data: _Guest | None = None
        self.side: AcceptingSide | None = None  # since HELLO
        self.offer: Offer | None = None  # since PROOF
        self.binding: bytes | None = None  # since BIND


Admit = Callable[[Offer], "ConnectionHandle | Refuse"]
"""Told what an authenticated peer offers, return the link that its connection is for, or a refusal."""


class Acceptor:
    """Listens, and lets authenticated peers in; see the module.

    ``counts`` tells how many connections were accepted and refused, and how many streams were dropped before their
    connection was either; ``drops`` and ``refusals`` tell why. ``me`` is who answers, from the next handshake on.
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
        self.me = me
        self._secret = secret
        self._admit = admit
        self._adapters = adapters
        self._options = options
        self._timeout = handshake_timeout
        # Both streams of a connection count until it is established.
        self._places = 2 * max_half_open
        self._place_free = asyncio.Event()
        self._listeners: list[Listener] = []
        self._tasks: dict[asyncio.Task[None], None] = {}  # in the order of their beginning
        self._guests: dict[_Guest, None] = {}  # in the order of their deadlines
        self._visits: dict[bytes, _Visit] = {}
        self._timer: asyncio.TimerHandle | None = None  # for the first deadline

    @property
    def half_open(self) -> int:
        """How many streams are on their way in."""
        return len(self._guests)

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
            if isinstance(listener, SocketListener):
                listener.watch(partial(self._knocked, listener))
            else:
                self._own(self._accept(listener))
        return tuple(listener.endpoint for listener in self._listeners)

    async def close(self) -> None:
        """Stop listening and drop everything that is not established."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for guest in list(self._guests):
            self._leave(guest)
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    def _knocked(self, listener: SocketListener) -> None:
        """Accept all who wait. A lack of places or descriptors is waited out by a task."""
        for _ in range(_AT_ONCE):
            if not self._has_place:
                break
            try:
                stream = listener.accept_now()
            except OSError:
                break
            if stream is None:
                return
            self._meet(stream, listener.endpoint)
        else:
            return
        listener.unwatch()
        self._own(self._accept(listener))

    @property
    def _has_place(self) -> bool:
        return len(self._guests) < self._places

    async def _accept(self, listener: Listener) -> None:
        while True:
            # A place first: when all are taken, newcomers wait in the kernel's queue and not in our memory.
            while not self._has_place:
                self._place_free.clear()
                await self._place_free.wait()
            try:
                stream = await listener.accept()
            except OSError:
                return  # closed
            self._meet(stream, listener.endpoint)
            if isinstance(listener, SocketListener):
                listener.watch(partial(self._knocked, listener))
                return  # it was stuck, and is no more

    # Hearing.

    def _meet(self, stream: Stream, endpoint: Endpoint) -> None:
        """Take one accepted stream as far as it gets, in the time it has."""
        guest = _Guest(stream, endpoint, asyncio.get_running_loop().time() + self._timeout)
        self._guests[guest] = None
        if self._timer is None:
            self._arm()
        if isinstance(stream, SocketStream):
            stream.watch(partial(self._readable, guest, stream))
        else:
            self._own(self._listen(guest))

    def _readable(self, guest: _Guest, stream: SocketStream) -> None:
        """Hear what has arrived. The watch goes on: the link will want it, if the guest is let in."""
        if not guest.reader.lacking:
            # More came than was due. It stays where it is until the other stream of the connection is heard.
            stream.unwatch()
        reader, receive = guest.reader, stream.socket.recv
        try:
            while lacking := reader.lacking:
                data = receive(lacking)
                piece = reader.receive(data)
                while piece is not None:
                    if reply := self._hear(guest, piece):
                        stream.write_now(reply)
                        return  # nothing is said before it is read
                    piece = reader.next()
                if len(data) < lacking:
                    return  # that was all for now
        except (BlockingIOError, InterruptedError):
            pass
        except _FAILURES as error:
            self._drop(guest, guest.blame(error))

    async def _listen(self, guest: _Guest) -> None:
        """Hear whatever arrives on a stream that has no socket."""
        reader, stream = guest.reader, guest.stream
        try:
            while reader.lacking:
                data = await stream.read(reader.lacking)
                if guest not in self._guests:
                    return  # dropped, in this turn of the loop
                piece = reader.receive(data)
                while piece is not None:
                    if reply := self._hear(guest, piece):
                        await stream.write(reply)
                    piece = reader.next()
        except _FAILURES as error:
            self._drop(guest, guest.blame(error))

    def _hear(self, guest: _Guest, piece: bytes) -> bytes:
        """Take in what ``guest`` said, which was due; return what to answer on the same stream."""
        visit = guest.visit
        if visit is None:
            self._join(guest, piece)
        elif guest.due is Kind.HELLO:
            nonce = secrets.token_bytes(NONCE_SIZE)
            visit.side = AcceptingSide(self.me, secret=self._secret, connection_id=visit.connection_id, nonce=nonce)
            welcome = visit.side.greeted(piece)
            guest.expect(Kind.PROOF)
            return welcome
        elif guest.due is Kind.BIND:
            visit.binding = piece
            self._settle(visit)
        elif visit.side is not None:
            visit.offer = visit.side.proved(piece)
            self._settle(visit)
        return b""

    def _join(self, guest: _Guest, preamble: bytes) -> None:
        """Bring a stream to its connection; a second stream for one channel cannot disturb the first."""
        channel, connection_id = frames.decode_preamble(preamble)
        visit = self._visits.get(connection_id) or _Visit(connection_id)
        if (visit.control if channel is Channel.CONTROL else visit.data) is not None:
            raise _Dropped(Drop.DUPLICATE)
        if channel is Channel.CONTROL:
            visit.control = guest
            guest.expect(Kind.HELLO)
        else:
            visit.data = guest
            guest.expect(Kind.BIND)
        guest.visit = self._visits[connection_id] = visit

    # Deciding.

    def _settle(self, visit: _Visit) -> None:
        """Once both streams have proved themselves, decide, and attach the connection to the link of the decision.

        Nothing waits in here: the decision and its execution are one step of the loop.
        """
        side, control, data, offer, binding = visit.side, visit.control, visit.data, visit.offer, visit.binding
        if side is None or control is None or data is None or offer is None or binding is None:
            return
        try:
            side.bound(binding)
        except HandshakeError:
            raise _Dropped(Drop.DATA_CHANNEL) from None
        decision = self._admit(offer)
        if isinstance(decision, Refuse):
            self.counts["refused"] += 1
            self.refusals[decision.code] += 1
            self._refuse(control, side.refuse(decision.code, decision.reason, decision.retry_after))
            return
        greeting = side.accept(offer.session, decision.received)
        connection = TransportConnection(control.stream, data.stream)
        self._dismiss(control)
        decision.attach(connection, str(control.endpoint), offer.peer, offer.received, greeting=greeting)
        self.counts["accepted"] += 1

    def _refuse(self, control: _Guest, refusal: bytes) -> None:
        if isinstance(control.stream, SocketStream):
            with suppress(OSError):
                control.stream.write_now(refusal)
            self._leave(control)
        else:
            self._own(self._part(control, refusal))

    async def _part(self, control: _Guest, refusal: bytes) -> None:
        with suppress(OSError):
            await control.stream.write(refusal)
        self._leave(control)

    # The end, one way or the other.

    def _dismiss(self, guest: _Guest) -> list[_Guest]:
        """Give the places of a guest's connection to others; return those who had them (nobody, the second time)."""
        if guest not in self._guests:
            return []
        visit, leaving = guest.visit, [guest]
        if visit is not None:
            leaving = [each for each in (visit.control, visit.data) if each is not None]
            visit.control = visit.data = None
            del self._visits[visit.connection_id]
        for each in leaving:
            del self._guests[each]
        self._place_free.set()
        return leaving

    def _leave(self, guest: _Guest) -> None:
        for each in self._dismiss(guest):
            each.stream.close()

    def _drop(self, guest: _Guest, reason: Drop) -> None:
        """Close the guest's connection, if that is not over already, and count why."""
        if guest in self._guests:
            self.counts["dropped"] += 1
            self.drops[reason] += 1
            self._leave(guest)

    def _arm(self) -> None:
        """Set the one timer for the guest whose time is up first: all have the same time."""
        self._timer = None
        for guest in self._guests:
            self._timer = asyncio.get_running_loop().call_at(guest.deadline, self._expire, guest.deadline)
            return

    def _expire(self, now: float) -> None:
        for guest in list(self._guests):
            if guest.deadline > now:
                break
            self._drop(guest, Drop.TIMEOUT)
        self._arm()
