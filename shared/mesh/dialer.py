"""Attempts to establish a connection, from the first byte to an authenticated peer.

What is read here is read exactly, never beyond the frame that is due: whatever follows belongs to the link.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

from ..core import frames
from ..core.endpoint import Endpoint
from ..core.frames import Channel, Frame, FrameFault, HandshakeReader, Kind
from ..core.handshake import AT_ONCE, NONCE_SIZE, DiallingSide, Identity, RefusalCode, Refused
from ..core.penalties import FailureSeverity, PenaltyTable
from ..core.retry import RetryBudget
from ..errors import HandshakeError, RetryAfter
from ..transport.base import Stream, TransportAdapter, TransportConnection, TransportOptions
from ..transport.sockets import SocketStream

log = logging.getLogger("meshvisor")

ID_SIZE = 16


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the dialling side wants, once it knows who answered: a session, and what it has received in it.

    ``resumes`` if the session was established before, and must not be taken for a new one.
    """

    session: bytes
    received: tuple[int, int]
    resumes: bool = False


class BrokenOff(HandshakeError):
    """The peer closed the connection in the middle of the handshake."""

    def __init__(self) -> None:
        super().__init__("the peer closed the connection during the handshake")


@dataclass(frozen=True, slots=True)
class Dialled:
    """An established connection, and what its other end said."""

    connection: TransportConnection
    endpoint: Endpoint
    peer: Identity
    received: tuple[int, int]
    rtt: float  # seconds from HELLO to WELCOME


class Ear:
    """Hears the frames of a handshake from one stream, one at a time, and nothing beyond.

    A socket is watched once for all of them. Nobody need end that: the link takes it over, or the stream is closed.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._reader = HandshakeReader()
        # Errors are results: whoever waited may have been cancelled, and then nobody asks for an exception.
        self._arrival: asyncio.Future[bytes | Exception] | None = None

    async def hear(self, kind: Kind) -> Frame:
        """Return the next frame, which must be of ``kind``, or REFUSE.

        Raises:
            HandshakeError: If it is not, is too long, or the stream ends (``BrokenOff``).
            OSError: If the stream breaks.
        """
        reader, stream = self._reader, self._stream
        reader.expect(OR_REFUSE[kind], AT_ONCE[kind])
        try:
            if isinstance(stream, SocketStream):
                is_watched, self._arrival = self._arrival is not None, asyncio.get_running_loop().create_future()
                if not is_watched:
                    stream.watch(partial(self._arrive, stream))
                heard = await self._arrival
                if isinstance(heard, Exception):
                    raise heard
                return Frame(reader.kind, 0, 0, 0, 0, heard)
            body = None
            while body is None:
                body = reader.receive(await stream.read(reader.lacking))
        except EOFError:
            raise BrokenOff from None
        except FrameFault as fault:
            raise HandshakeError(str(fault)) from None
        return Frame(reader.kind, 0, 0, 0, 0, body)

    def _arrive(self, stream: SocketStream) -> None:
        arrival, reader = self._arrival, self._reader
        if arrival is None or arrival.done():
            stream.unwatch()
            self._arrival = None
            return
        try:
            body = None
            while body is None:
                body = reader.receive(stream.socket.recv(reader.lacking))
            arrival.set_result(body)
        except (BlockingIOError, InterruptedError):
            pass  # for now that was all
        except (OSError, EOFError, FrameFault) as error:
            arrival.set_result(error)


OR_REFUSE = {kind: frozenset({kind, Kind.REFUSE}) for kind in (Kind.WELCOME, Kind.ACCEPT)}

Propose = Callable[[Identity], Proposal]
"""Told who answered, say what is wanted of it, or raise HandshakeError."""


class Talk:
    """What the dialling side says, and makes of what it hears, whoever carries it. Kind and body in, bytes out.

    Raises:
        HandshakeError: If the two sides cannot agree (``Refused`` with its code when the other side said so).
    """

    __slots__ = ("_id", "_peer", "_propose", "_session", "_side")

    def __init__(self, me: Identity, secret: bytes, propose: Propose) -> None:
        chance = secrets.token_bytes(ID_SIZE + NONCE_SIZE)
        self._id = chance[:ID_SIZE]
        self._side = DiallingSide(me, secret=secret, connection_id=self._id, nonce=chance[ID_SIZE:])
        self._propose = propose

    def opening(self) -> bytes:
        """Return what comes first on the control channel."""
        return frames.encode_preamble(Channel.CONTROL, self._id) + self._side.hello()

    def heard(self, kind: int, body: bytes | bytearray) -> Identity:
        """Take in the answer to that, and return whose it is."""
        if kind == Kind.REFUSE:
            raise self._side.refused(body)
        self._peer = self._side.welcomed(body)
        return self._peer

    def claim(self) -> tuple[bytes, bytes]:
        """Return what comes first on the data channel, and next on the control channel.

        The former is not written earlier: it has nothing else to say, and would have to be heard twice.
        """
        side, proposal = self._side, self._propose(self._peer)
        self._session = proposal.session
        bind = frames.encode_preamble(Channel.DATA, self._id) + side.bind()
        return bind, side.prove(proposal.session, proposal.received, resumes=proposal.resumes)

    def accepted(self, kind: int, body: bytes | bytearray) -> tuple[Identity, tuple[int, int]]:
        """Take in the answer to that; return who it is, and what it has received of the session."""
        if kind == Kind.REFUSE:
            raise self._side.refused(body)
        return self._peer, self._side.accepted(body, self._session)


async def dial(
    adapter: TransportAdapter,
    endpoint: Endpoint,
    options: TransportOptions,
    me: Identity,
    secret: bytes,
    propose: Propose,
    *,
    gate: asyncio.Lock | None = None,
) -> Dialled:
    """Connect to ``endpoint`` and establish the session that ``propose`` asks for. On failure nothing stays open.

    There is no time limit in here: the caller sets one. Of several attempts that share a ``gate``, one at a time
    goes on from "somebody answers" to "the connection is established": two established at once would fight for the
    one session. The one that is established keeps the gate, so that the others wait there until they are ended.

    Raises:
        OSError: If the endpoint cannot be reached, or the connection breaks.
        HandshakeError: If the two sides cannot agree (``Refused`` with its code when the other side said so).
        RetryAfter: If the adapter asks for a pause.
    """
    connection = await _connect(adapter, endpoint, options)
    try:
        peer, received, rtt = await _shake_hands(connection, me, secret, propose, gate or asyncio.Lock())
    except BaseException:
        connection.close()
        raise
    return Dialled(connection, endpoint, peer, received, rtt)


async def _connect(adapter: TransportAdapter, endpoint: Endpoint, options: TransportOptions) -> TransportConnection:
    """Have ``adapter`` connect. What it may not raise is logged, and is a failed attempt like any other."""
    try:
        return await adapter.connect(endpoint, options)
    except (OSError, RetryAfter):
        raise
    except Exception as error:
        log.exception("the adapter for %s raised", endpoint)
        raise OSError(f"the adapter raised {error!r}") from error


async def _shake_hands(
    connection: TransportConnection,
    me: Identity,
    secret: bytes,
    propose: Propose,
    gate: asyncio.Lock,
) -> tuple[Identity, tuple[int, int], float]:
    now = asyncio.get_running_loop().time
    talk = Talk(me, secret, propose)
    ear = Ear(connection.control)
    said_at = now()
    await connection.control.write(talk.opening())
    frame = await ear.hear(Kind.WELCOME)
    rtt = now() - said_at
    talk.heard(frame.kind, frame.body)
    await gate.acquire()
    try:
        data, control = talk.claim()
        await connection.data.write(data)
        await connection.control.write(control)
        frame = await ear.hear(Kind.ACCEPT)
        return *talk.accepted(frame.kind, frame.body), rtt
    except BaseException:
        gate.release()
        raise


_budgets: WeakKeyDictionary[asyncio.AbstractEventLoop, RetryBudget] = WeakKeyDictionary()


def shared_budget() -> RetryBudget:
    """Return what all retries on the running loop are paid from, unless a manager has a budget of its own.

    One for the loop and not for the process, because the times in it are those of the loop's clock.
    """
    return _budgets.setdefault(asyncio.get_running_loop(), RetryBudget())


class Dialer:
    """Dials for one node, and bars the endpoints that fail. ``me`` is who it says that it is, from its next dial on."""

    def __init__(
        self,
        me: Identity,
        secret: bytes,
        *,
        adapters: Mapping[str, TransportAdapter],
        attempt_timeout: float,
        penalties: PenaltyTable,
    ) -> None:
        self.penalties = penalties
        self.last_severity: FailureSeverity | None = None
        self.me = me
        self.secret = secret
        self.adapters = adapters
        self.options = TransportOptions(node_id=me.node)
        self.timeout = attempt_timeout

    async def attempt(self, endpoint: Endpoint, propose: Propose, *, gate: asyncio.Lock | None = None) -> Dialled:
        """Try one endpoint, for at most ``attempt_timeout`` seconds.

        Success clears its penalty. Failure bars it, for as long as it asks or else by the rules of ``PenaltyTable``;
        that another connection of the same pair wins is no failure.

        Raises:
            AttemptFailed: With the reason for people, whatever it was.
        """
        adapter = self.adapters[endpoint.transport]
        began = asyncio.get_running_loop().time()
        known = began + self.penalties.remaining(endpoint.key, began)
        try:
            async with asyncio.timeout(self.timeout):
                dialled = await dial(adapter, endpoint, self.options, self.me, self.secret, propose, gate=gate)
        except (OSError, HandshakeError, RetryAfter) as error:
            raise self.failed(endpoint, error, began, known) from error
        self.succeeded(endpoint)
        return dialled

    def succeeded(self, endpoint: Endpoint) -> None:
        """Take note that ``endpoint`` is as it should be."""
        self.penalties.clear(endpoint.key)

    def failed(
        self, endpoint: Endpoint, error: OSError | HandshakeError | RetryAfter, began: float, known: float
    ) -> AttemptFailed:
        """Take note that an attempt, made since ``began``, has failed, and return what to tell of it.

        ``known`` is until when ``endpoint`` was barred when it began.
        """
        key, now = endpoint.key, asyncio.get_running_loop().time()
        if isinstance(error, Refused):
            self._declined(key, error, known)
            is_stale = error.authenticated and error.code == RefusalCode.STALE
            return AttemptFailed(str(error), error if error.fatal else None, is_stale=is_stale)
        if isinstance(error, RetryAfter):
            self.last_severity = FailureSeverity.SOFT
            self.penalties.bar(key, error.seconds, now)
            return AttemptFailed(str(error))
        fatal = error if isinstance(error, HandshakeError) and error.fatal else None
        self.last_severity = FailureSeverity.HARD if fatal is None else FailureSeverity.FATAL
        ours = _is_our_fault(error) or now > began + self.timeout + _STANDSTILL
        self.penalties.fail(key, now, self.last_severity, known=known, personal=ours)
        return AttemptFailed(self._why(error), fatal)

    def _declined(self, key: str, refusal: Refused, known: float) -> None:
        """Somebody answered at ``key``, and does not want us, or not now."""
        now = asyncio.get_running_loop().time()
        self.last_severity = FailureSeverity.FATAL if refusal.fatal else FailureSeverity.SOFT
        personal = refusal.code in _PERSONAL
        if refusal.retry_after:
            self.penalties.bar(key, refusal.retry_after, now, personal=personal)
        elif refusal.code not in _NO_FAILURE:
            self.penalties.fail(key, now, self.last_severity, known=known, personal=personal)

    def _why(self, error: Exception) -> str:
        if isinstance(error, TimeoutError) and not error.args:
            return f"no answer within {self.timeout:g} s"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return reason or type(error).__name__


class AttemptFailed(Exception):
    """An attempt led nowhere.

    ``fatal`` is the reason why trying again cannot help either, if that is so; ``is_stale`` tells that the peer, which
    has proved itself, does not know the session (any more).
    """

    def __init__(self, why: str, fatal: HandshakeError | None = None, *, is_stale: bool = False) -> None:
        self.fatal = fatal
        self.is_stale = is_stale
        super().__init__(why)


_NO_FAILURE = frozenset({RefusalCode.DUPLICATE, RefusalCode.STALE, RefusalCode.UNKNOWN, RefusalCode.CLOSING})
"""Refusals that say nothing against the endpoint."""

_PERSONAL = _NO_FAILURE - {RefusalCode.CLOSING} | {RefusalCode.MISMATCH}
"""Refusals that are about the pair of us: to others the endpoint may be open."""

_OUR_FAULTS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})

_STANDSTILL = 0.5
"""An attempt that ended so many seconds after its time limit says that our own loop stood still."""


def _is_our_fault(error: Exception) -> bool:
    """Return whether an attempt failed for want of something in this process."""
    return isinstance(error, OSError) and error.errno in _OUR_FAULTS
