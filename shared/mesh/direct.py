"""Attempts that need no task: over sockets that are connected when the call returns, and heard by callbacks.

A dial is mostly waiting. Where connecting is not (a Unix socket), what is left are two answers of the peer, and each
leads to the next step there and then. This is how a mesh dials a hundred peers in one turn of the loop. Whatever is
out of the ordinary (an endpoint that is barred, a queue that is full) is left to ``Dialer.attempt``, which waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..core.endpoint import Endpoint
from ..core.frames import FrameFault, HandshakeReader, Kind
from ..core.handshake import AT_ONCE
from ..errors import HandshakeError
from ..transport.base import ConnectsAtOnce, TransportConnection
from ..transport.sockets import SocketStream
from .dialer import OR_REFUSE, AttemptFailed, BrokenOff, Dialer, Dialled, Propose, Talk

_MOST = 256
"""How many of these attempts are under way at a time; further ones are left to ``Dialer.attempt``."""

Over = Callable[[Dialled | AttemptFailed], None]
"""Told how an attempt went, once; not of one that was cancelled."""


class DirectDial:
    """One attempt that is under way; ``cancel`` ends it."""

    __slots__ = (
        "_control",
        "_home",
        "_is_welcome",
        "_over",
        "_reader",
        "_rtt",
        "_talk",
        "began",
        "connection",
        "endpoint",
    )

    def __init__(
        self, home: DirectDialer, endpoint: Endpoint, connection: TransportConnection, talk: Talk, over: Over
    ) -> None:
        assert isinstance(connection.control, SocketStream)
        self.began = home.now()
        self.endpoint = endpoint
        self.connection = connection
        self._control = connection.control
        self._home = home
        self._talk = talk
        self._over = over
        self._reader = HandshakeReader()
        self._rtt = 0.0
        self._is_welcome = False

    def begin(self) -> None:
        """Say who we are.

        Raises:
            OSError: If nobody listens any more.
        """
        self._reader.expect(OR_REFUSE[Kind.WELCOME], AT_ONCE[Kind.WELCOME])
        self._control.write_now(self._talk.opening())
        self._control.watch(self._readable)

    def cancel(self) -> None:
        """End it; nobody is told."""
        if self._home.forget(self):
            self.connection.close()

    def _readable(self) -> None:
        reader = self._reader
        if not reader.lacking:
            # It is over, and whoever took the connection does not read yet. What comes is not for us.
            self._control.unwatch()
            return
        try:
            body = reader.receive(self._control.socket.recv(reader.lacking))
            if body is not None:
                self._hear(reader.kind, body)
        except (BlockingIOError, InterruptedError):
            pass
        except EOFError:
            self.end(BrokenOff())
        except FrameFault as fault:
            self.end(HandshakeError(str(fault)))
        except (OSError, HandshakeError) as error:
            self.end(error)

    def _hear(self, kind: int, body: bytes) -> None:
        if self._is_welcome:
            peer, received = self._talk.accepted(kind, body)
            self._succeed(Dialled(self.connection, self.endpoint, peer, received, self._rtt))
            return
        self._rtt = self._home.now() - self.began
        self._is_welcome = True
        self._talk.heard(kind, body)
        data, control = self._talk.claim()
        stream = self.connection.data
        assert isinstance(stream, SocketStream)
        stream.write_now(data)
        self._control.write_now(control)
        self._reader.expect(OR_REFUSE[Kind.ACCEPT], AT_ONCE[Kind.ACCEPT])

    def _succeed(self, dialled: Dialled) -> None:
        if self._home.forget(self):
            self._home.dialer.succeeded(self.endpoint)
            self._over(dialled)

    def end(self, error: OSError | HandshakeError) -> None:
        """End it, for this reason."""
        if self._home.forget(self):
            self.connection.close()
            self._over(self._home.dialer.failed(self.endpoint, error, self.began, self.began))


class DirectDialer:
    """Makes such attempts, all with the time limit of ``dialer``, which keeps the account of what they come to."""

    def __init__(self, dialer: Dialer) -> None:
        self.dialer = dialer
        self.now = asyncio.get_running_loop().time
        self._adapters = {key: it for key, it in dialer.adapters.items() if isinstance(it, ConnectsAtOnce)}
        self._dials: dict[DirectDial, None] = {}  # in the order of their beginning
        self._timer: asyncio.TimerHandle | None = None  # for the first that runs out of time

    def begin(self, endpoint: Endpoint, propose: Propose, over: Over) -> DirectDial | None:
        """Begin to dial ``endpoint``; None if that is nothing for us.

        Raises:
            AttemptFailed: If nobody can be reached there.
        """
        dialer, now = self.dialer, self.now()
        adapter = self._adapters.get(endpoint.transport)
        if adapter is None or len(self._dials) >= _MOST or dialer.penalties.remaining(endpoint.key, now):
            return None
        try:
            connection = adapter.connect_now(endpoint, dialer.options)
            if connection is None:
                return None
            dial = DirectDial(self, endpoint, connection, Talk(dialer.me, dialer.secret, propose), over)
            try:
                dial.begin()
            except BaseException:
                connection.close()
                raise
        except OSError as error:
            raise dialer.failed(endpoint, error, now, now) from error
        self._dials[dial] = None
        if self._timer is None:
            self._arm()
        return dial

    def forget(self, dial: DirectDial) -> bool:
        """Have nothing more to do with ``dial``; return whether it was still under way."""
        if dial not in self._dials:
            return False
        del self._dials[dial]
        return True

    def close(self) -> None:
        """End what is under way."""
        for dial in list(self._dials):
            dial.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = None
        for dial in self._dials:
            deadline = dial.began + self.dialer.timeout
            self._timer = asyncio.get_running_loop().call_at(deadline, self._expire, deadline)
            return

    def _expire(self, now: float) -> None:
        for dial in list(self._dials):
            if dial.began + self.dialer.timeout > now:
                break
            dial.end(TimeoutError())
        self._arm()
