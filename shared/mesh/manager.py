"""The dialling side by itself: one link to one peer, kept up over every fault of the ways to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from ..core.dialplan import DialPlan
from ..core.endpoint import Endpoint
from ..core.handshake import Identity
from ..core.link import Heartbeat
from ..core.retry import Backoff
from ..core.session import Limits, ProtocolFault
from ..core.states import TRANSITIONS, ConnectionCause, ConnectionState, StateChange
from ..errors import ConnectFailed, HandshakeError, LinkClosed, PeerLeft, PeerLost
from ..transport.base import TransportAdapter
from ..transport.registry import adapters_by_name
from .channel import SCRATCH
from .connection import ConnectionHandle
from .dialer import AttemptFailed, Dialer, Dialled, Proposal
from .options import ConnectionOptions

log = logging.getLogger("meshvisor.manager")

_PARTING = 0.5

T = TypeVar("T")

Attempts = dict[str, str]
"""Why each endpoint was not reached, by its key."""


class ConnectionManager:
    """Keeps one link to one peer up::

        async with ConnectionManager(ConnectionOptions(node_id="client", endpoints=["tcp:127.0.0.1:4500"])) as manager:
            connection = await manager.connect()
            await connection.send(b"hello")

    ``connect`` returns a handle that survives every reconnect. When the peer was restarted, that handle ends with
    ``PeerLost``, the manager goes on dialling, and ``connect`` returns the handle of the new link.
    """

    def __init__(
        self,
        options: ConnectionOptions,
        *,
        adapters: Iterable[TransportAdapter] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.state = ConnectionState.DISCONNECTED
        self._options = options
        self._rng = rng or random.Random()
        by_name = adapters_by_name(adapters)
        parsed = (Endpoint.parse(item) if isinstance(item, str) else item for item in options.endpoints)
        self._endpoints = sorted(parsed, key=lambda endpoint: endpoint.priority)
        missing = {endpoint.transport for endpoint in self._endpoints} - set(by_name)
        if missing:
            raise ValueError(f"endpoints: no adapter for the transport {', '.join(sorted(missing))}")
        self._me = Identity(
            options.node_id, 0, secrets.randbits(64) | 1, (options.max_queue_messages, options.max_queue_bytes)
        )
        self._dialer = Dialer(
            self._me,
            options.secret or b"",
            adapters=by_name,
            attempt_timeout=options.attempt_timeout,
            penalty=options.endpoint_blacklist_duration,
        )
        self._backoff = Backoff(0.15, 5.0)
        self._scratch = memoryview(bytearray(SCRATCH))
        self._link: ConnectionHandle | None = None
        self._proposed = b""  # the id of the next session
        self._keeper: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self._attempts: Attempts = {}
        self._failure: HandshakeError | None = None
        self._on_state_changed: list[Callable[[StateChange], None]] = []
        self._on_peer_lost: list[Callable[[PeerLost], None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def on_state_changed(self, callback: Callable[[StateChange], None]) -> Callable[[], None]:
        """Call ``callback`` with each change of state; return what ends that. One that raises is logged."""
        return _subscribe(self._on_state_changed, callback)

    def on_peer_lost(self, callback: Callable[[PeerLost], None]) -> Callable[[], None]:
        """Call ``callback`` when the peer's incarnation is lost; return what ends that. One that raises is logged."""
        return _subscribe(self._on_peer_lost, callback)

    # Asked by the application.

    async def connect(self) -> ConnectionHandle:
        """Connect, or return the link there is.

        Raises:
            ConnectFailed: If no endpoint could be reached within ``connect_timeout``; nothing goes on then.
            HandshakeError: If the peer refused for good (a wrong secret); the state is ``failed``.
            LinkClosed: If the manager is closed.
        """
        if self.state is ConnectionState.CLOSED:
            raise LinkClosed
        if self._keeper is None:
            self._begin()
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                return await self._wait_established()
        except TimeoutError:
            if self._link is None:
                await self._stop_keeping()
                self._to(ConnectionState.DISCONNECTED, ConnectionCause.DIAL_FAILED, "no endpoint was reached in time")
            reason = f"within {self._options.connect_timeout:g} s"
            raise ConnectFailed("", tuple(self._attempts.items()), reason) from None

    async def _wait_established(self) -> ConnectionHandle:
        while True:
            if self.state is ConnectionState.ESTABLISHED and self._link is not None:
                return self._link
            if self._failure is not None:
                raise self._failure
            if self._keeper is None:
                raise LinkClosed
            self._changed.clear()
            await self._changed.wait()

    async def disconnect(self) -> None:
        """Drain, say goodbye and end the link; ``connect`` begins a new session."""
        await self._end_link()
        self._to(ConnectionState.DISCONNECTED, ConnectionCause.MANUAL, "disconnect was called")

    async def close(self) -> None:
        """Disconnect for good; no task and no socket is left when this returns."""
        await self._end_link()
        self._to(ConnectionState.CLOSED, ConnectionCause.DISPOSAL, "close was called")

    async def _end_link(self) -> None:
        link = self._link
        if link is not None and link.is_attached:
            await link.drain(self._options.drain_timeout)
            await link.part(_PARTING)
        await self._stop_keeping()
        if self._link is not None:
            self._finish(self._link, LinkClosed(self._link.node_id))
        await asyncio.gather(*self._retiring, return_exceptions=True)

    # The keeper: the one task that looks for connections.

    def _begin(self) -> None:
        self._failure = None
        self._attempts.clear()
        self._backoff.reset()
        self._to(ConnectionState.CONNECTING, ConnectionCause.DIAL_STARTED, "connect was called")
        self._keeper = asyncio.create_task(self._keep())

    async def _stop_keeping(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper

    async def _keep(self) -> None:
        """Find a connection whenever there is none, until the peer refuses for good."""
        while True:
            if self._link is None or not self._link.is_attached:
                try:
                    dialled = await self._race()
                except HandshakeError as error:
                    self._fail(error)
                    return
                if dialled is None or not self._take(dialled):
                    await asyncio.sleep(self._pause())
                    continue
            self._changed.clear()
            await self._changed.wait()

    def _pause(self) -> float:
        """Return how long to wait before the next round: back-off, and the first endpoint that is allowed again."""
        now = asyncio.get_running_loop().time()
        barred = min(self._dialer.penalties.remaining(endpoint.key, now) for endpoint in self._endpoints)
        wait = self._backoff.next(self._rng)
        return max(wait, 0.0 if self._candidates(now) else barred)

    def _candidates(self, now: float) -> list[Endpoint]:
        """Return the endpoints that may be dialled now, in order.

        A barred endpoint is left out, unless so many are that nothing much would be left (more than half of them and
        at least two): then all are tried, those that come free first in front.
        """
        remaining = {endpoint.key: self._dialer.penalties.remaining(endpoint.key, now) for endpoint in self._endpoints}
        barred = [endpoint for endpoint in self._endpoints if remaining[endpoint.key]]
        if len(barred) >= 2 and 2 * len(barred) > len(self._endpoints):
            return sorted(self._endpoints, key=lambda endpoint: remaining[endpoint.key])
        return [endpoint for endpoint in self._endpoints if not remaining[endpoint.key]]

    async def _race(self) -> Dialled | None:
        """Dial the candidates as planned; return the first that is established, with all others ended.

        Raises:
            HandshakeError: If one refused for good.
        """
        now = asyncio.get_running_loop().time
        candidates = self._candidates(now())
        options = self._options
        plan = DialPlan(
            len(candidates), delay=options.happy_eyeballs_delay, max_concurrent=options.max_concurrent_dials
        )
        gate = asyncio.Lock()
        running: dict[asyncio.Task[Dialled | None], int] = {}
        try:
            while not plan.is_exhausted:
                for index in plan.start(now()):
                    running[asyncio.create_task(self._attempt(candidates[index], gate))] = index
                deadline = plan.deadline()
                timeout = None if deadline is None else max(0.0, deadline - now())
                done, _ = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                winner = self._settle(done, running, plan, now())
                if winner is not None:
                    return winner
            return None
        finally:
            await _end(running)

    def _settle(
        self,
        done: set[asyncio.Task[Dialled | None]],
        running: dict[asyncio.Task[Dialled | None], int],
        plan: DialPlan,
        now: float,
    ) -> Dialled | None:
        """Take the results of finished attempts; return the winner, if there is one."""
        winner = None
        for task in done:
            index = running.pop(task)
            dialled = task.result()
            if dialled is None:
                plan.failed(index, now)
            elif winner is None:
                winner = dialled
            else:
                dialled.connection.close()
        return winner

    async def _attempt(self, endpoint: Endpoint, gate: asyncio.Lock) -> Dialled | None:
        """Try one endpoint.

        Raises:
            HandshakeError: If the peer refused for good.
        """
        try:
            return await self._dialer.attempt(endpoint, self._propose, gate=gate)
        except AttemptFailed as failure:
            self._attempts[endpoint.key] = str(failure)
            if failure.fatal is not None:
                raise failure.fatal from None
        if self.state is ConnectionState.HANDSHAKE:
            back = ConnectionState.CONNECTING if self._link is None else ConnectionState.RECONNECTING
            self._to(back, ConnectionCause.DIAL_FAILED, f"{endpoint}: {self._attempts[endpoint.key]}")
        return None

    def _propose(self, peer: Identity) -> Proposal:
        """An endpoint answered: go on with the session there is, or begin one if the peer is another incarnation."""
        self._to(ConnectionState.HANDSHAKE, ConnectionCause.HANDSHAKE_STARTED, peer.node)
        link = self._link
        if link is not None and (link.node_id, link.epoch) == (peer.node, peer.epoch):
            return Proposal(link.session, link.received)
        self._proposed = self._proposed or secrets.token_bytes(16)
        return Proposal(self._proposed, (0, 0))

    def _take(self, dialled: Dialled) -> bool:
        """Carry the link over the connection that won; return whether that is possible."""
        peer = dialled.peer
        link = self._link
        if link is not None and (link.node_id, link.epoch) != (peer.node, peer.epoch):
            self._lose(link)
            link = None
        if link is None:
            link = self._link = self._new_link(peer)
        try:
            link.check_resume(dialled.received)
        except ProtocolFault as fault:
            dialled.connection.close()
            self._attempts[str(dialled.endpoint)] = str(fault)
            self._lose(link)
            return False
        self._backoff.reset()
        link.attach(dialled.connection, str(dialled.endpoint), peer, dialled.received)
        return True

    def _new_link(self, peer: Identity) -> ConnectionHandle:
        options = self._options
        session, self._proposed = self._proposed, b""
        return ConnectionHandle(
            peer,
            session,
            self,
            limits=Limits(options.max_queue_messages, options.max_queue_bytes),
            max_message=options.max_message,
            scratch=self._scratch,
            heartbeat=Heartbeat(options.heartbeat_interval, options.heartbeat_timeout),
        )

    def _fail(self, error: HandshakeError) -> None:
        self._failure = error
        self._keeper = None
        if self._link is not None:
            self._lose(self._link)
        self._to(ConnectionState.FAILED, ConnectionCause.DIAL_FAILED, str(error))

    def _lose(self, link: ConnectionHandle) -> None:
        report = link.lost()
        self._finish(link, report)
        _notify(self._on_peer_lost, report)

    def _finish(self, link: ConnectionHandle, report: PeerLost | PeerLeft | LinkClosed) -> None:
        self._link = None
        link.finish(lambda: type(report)(*report.args))
        task = asyncio.get_running_loop().create_task(link.wait_closed())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    # Told by the link.

    def link_up(self, handle: ConnectionHandle) -> None:
        """The link has a connection (again)."""
        self._to(ConnectionState.ESTABLISHED, ConnectionCause.HANDSHAKE_COMPLETED, handle.node_id)

    def link_down(self, handle: ConnectionHandle, reason: str, *, broken: bool) -> None:
        """The connection broke: the keeper looks for another one."""
        self._to(ConnectionState.DEGRADED, ConnectionCause.TRANSPORT_ERROR, reason)
        self._to(ConnectionState.RECONNECTING, ConnectionCause.DIAL_STARTED, reason)

    def link_left(self, handle: ConnectionHandle) -> None:
        """The peer said goodbye: nobody dials it until the application asks again."""
        if self._keeper is not None:
            self._keeper.cancel()
            self._retiring.add(self._keeper)
            self._keeper.add_done_callback(self._retiring.discard)
            self._keeper = None
        self._finish(handle, PeerLeft(handle.node_id, handle.incarnation))
        self._to(ConnectionState.DISCONNECTED, ConnectionCause.PEER_LEFT, f"{handle.node_id} left")

    async def close_link(self, handle: ConnectionHandle) -> None:
        """The application closed the handle: the same as ``disconnect``."""
        if handle is self._link:
            await self.disconnect()

    def _to(self, state: ConnectionState, cause: ConnectionCause, evidence: str) -> None:
        """Change the state, and say so; the one place where it changes."""
        previous = self.state
        if state is not previous:
            assert state in TRANSITIONS[previous], f"{previous} does not become {state}"
            self.state = state
            at = asyncio.get_running_loop().time()
            _notify(self._on_state_changed, StateChange(previous, state, cause, evidence, at))
        self._changed.set()


async def _end(running: Iterable[asyncio.Task[Dialled | None]]) -> None:
    """Cancel attempts, wait for their ends, and close what one of them established in the last moment."""
    tasks = list(running)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Dialled):
            result.connection.close()


def _subscribe(callbacks: list[Callable[[T], None]], callback: Callable[[T], None]) -> Callable[[], None]:
    callbacks.append(callback)

    def unsubscribe() -> None:
        with contextlib.suppress(ValueError):
            callbacks.remove(callback)

    return unsubscribe


def _notify(callbacks: list[Callable[[T], None]], news: T) -> None:
    for callback in list(callbacks):
        try:
            callback(news)
        except Exception:
            log.exception("a callback raised")
