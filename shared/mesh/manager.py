"""The dialling side by itself: one link to one peer, kept up over every fault of the ways to it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from ..core.endpoint import Endpoint
from ..core.handshake import Identity
from ..core.retry import RetryBudget
from ..core.session import Limits, ProtocolFault
from ..core.states import TRANSITIONS, ConnectionCause, ConnectionState, StateChange
from ..errors import ConnectFailed, HandshakeError, LinkClosed, PeerLeft, PeerLost
from ..metrics import Account, ConnectionMetrics
from ..transport.base import TransportAdapter
from .callbacks import Callbacks
from .channel import SCRATCH
from .connection import ConnectionHandle
from .dialer import AttemptFailed, Dialled, Proposal
from .network import NetworkMonitor
from .options import ConnectionOptions
from .penalties import Blacklist
from .snapshot import snapshot
from .ways import Ways

_PARTING = 0.5
_RETURN_AFTER = 1.0
"""Seconds on a less preferred endpoint before a better one is tried for the first time; it doubles from try to try."""
_RETURN_CAP = 60.0

_State = ConnectionState
_Cause = ConnectionCause


class ConnectionManager:
    """Keeps one link to one peer up::

        async with ConnectionManager(ConnectionOptions(node_id="client", endpoints=["tcp:127.0.0.1:4500"])) as manager:
            connection = await manager.connect()
            await connection.send(b"hello")

    ``connect`` returns a handle that survives every reconnect. When the peer was restarted, that handle ends with
    ``PeerLost``, the manager goes on dialling, and ``connect`` returns the handle of the new link.

    Args:
        options: Where to connect to, and how.
        adapters: The ways to travel; those that come with meshvisor if none are given.
        blacklist: Where endpoints that failed are listed, for all who share it; a private one if none is given. It
            stays the caller's to close.
        budget: What retries are paid from; one that all managers on the same loop share if none is given.
        rng: Where jitter comes from.

    Raises:
        ValueError: If no adapter serves one of the endpoints.
    """

    def __init__(
        self,
        options: ConnectionOptions,
        *,
        adapters: Iterable[TransportAdapter] | None = None,
        blacklist: Blacklist | None = None,
        budget: RetryBudget | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.state = _State.DISCONNECTED
        self._options = options
        self._rng = rng or random.Random()
        me = Identity(
            options.node_id,
            0,
            secrets.randbits(64) | 1,
            (options.max_queue_messages, options.max_queue_bytes),
            tuple((options.metadata or {}).items()),
        )
        self._ways = Ways(me, options, adapters, budget, self._rng, blacklist)
        self._account = Account()
        self._scratch = memoryview(bytearray(SCRATCH))
        self._link: ConnectionHandle | None = None
        self._priority = 0  # of the endpoint that the link's connection goes to
        self._return_at = 0.0  # when a better one is tried next
        self._returns = 0  # how often that was planned since the best one was left
        self._was_linked = False  # since the latest connect that began anew
        self._proposed = b""  # the id of the next session
        self._keeper: asyncio.Task[None] | None = None
        self._callers = 0  # of connect, that wait
        self._ending = asyncio.Lock()
        self._news = asyncio.Event()  # what could not be reached may be reachable now
        self._unsubscribe: Callable[[], None] | None = None  # from what happens to penalties
        self._switch: asyncio.Future[ConnectionHandle] | None = None  # what callers of reconnect wait for
        self._is_switching = False
        self._answering: Endpoint | None = None  # the handshake that the state speaks of
        self._retiring: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self._attached_at = 0.0  # when the latest connection was taken
        self._failure: HandshakeError | None = None
        self._monitor = NetworkMonitor(self.network_changed) if options.enable_network_monitoring else None
        self._state_changed: Callbacks[StateChange] = Callbacks()
        self._peer_lost: Callbacks[PeerLost] = Callbacks()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def on_state_changed(self, callback: Callable[[StateChange], None]) -> Callable[[], None]:
        """Call ``callback`` with each change of state; return what ends that. One that raises is logged."""
        return self._state_changed.add(callback)

    def on_peer_lost(self, callback: Callable[[PeerLost], None]) -> Callable[[], None]:
        """Call ``callback`` when the peer's incarnation is lost; return what ends that. One that raises is logged."""
        return self._peer_lost.add(callback)

    # Asked by the application.

    async def connect(self) -> ConnectionHandle:
        """Connect, or return the link there is.

        Raises:
            ConnectFailed: If no endpoint could be reached within ``connect_timeout``; nothing goes on then, unless
                there was a link already, which is still being reconnected, or another caller still waits.
            HandshakeError: If the peer refused for good (a wrong secret); the state is ``failed``.
            LinkClosed: If the manager is closed.
        """
        async with self._ending:
            pass  # a disconnect under way comes first
        if self.state is _State.CLOSED:
            raise LinkClosed
        if self._keeper is None:
            self._begin()
        self._callers += 1
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                return await self._wait_established()
        except TimeoutError:
            raise self._not_reached(f"within {self._options.connect_timeout:g} s") from None
        finally:
            self._callers -= 1
            await self._give_up()

    async def _give_up(self) -> None:
        """Stop looking for a link that never was, if nobody waits for it any more."""
        async with self._ending:  # who connects meanwhile begins anew, and not beside a keeper that is on its way out
            if not (self._callers or self._was_linked) and self._keeper is not None:
                await self._stop_keeping()
                self._to(_State.DISCONNECTED, _Cause.DIAL_FAILED, "no endpoint was reached in time")

    async def _wait_established(self) -> ConnectionHandle:
        while True:
            if self._link is not None and self._link.is_attached:
                return self._link
            if self._failure is not None:
                raise self._failure
            if self._keeper is None:
                raise LinkClosed
            self._changed.clear()
            await self._changed.wait()

    async def reconnect(self) -> ConnectionHandle:
        """Replace the connection by a new one, make before break; connect if there is none.

        The old connection works until both ends have taken the new one over; nothing is lost or doubled. Calls at the
        same time share one replacement.

        Raises:
            ConnectFailed: If no endpoint could be reached, or all are barred; the old connection goes on.
            HandshakeError: If the peer refused for good; the old connection goes on as well, if it still works.
            LinkClosed: If the link is ended meanwhile.
        """
        if self._link is None or not self._link.is_attached or self._keeper is None:
            return await self.connect()
        if self._switch is None:
            self._switch = asyncio.get_running_loop().create_future()
            self._changed.set()
        return await asyncio.shield(self._switch)

    async def disconnect(self) -> None:
        """Drain, say goodbye and end the link; ``connect`` begins a new session."""
        async with self._ending:
            try:
                await self._end_link()
            finally:  # whoever cancels this once it has begun to part gets no half of a link
                if self._keeper is None and self.state is not _State.CLOSED:
                    self._drop_link()
                    self._to(_State.DISCONNECTED, _Cause.MANUAL, "disconnect was called")

    async def close(self) -> None:
        """Disconnect for good; no task and no socket is left when this returns."""
        async with self._ending:
            try:
                await self._end_link()
            finally:
                self._dismiss_keeper()
                self._drop_link()
                if self._monitor is not None:
                    self._monitor.close()
                if self._unsubscribe is not None:
                    self._unsubscribe()
                    self._unsubscribe = None
                self._to(_State.CLOSED, _Cause.DISPOSAL, "close was called")

    def network_changed(self, evidence: str) -> None:
        """The machine's network changed: ask the peer, or dial it, at once instead of at the next heartbeat or try."""
        self._news.set()
        if self._link is not None and self._link.is_attached:
            if self.state is _State.ESTABLISHED:
                self._to(_State.DEGRADED, _Cause.OS_NETWORK_EVENT, evidence)
            self._link.probe()

    def metrics(self) -> ConnectionMetrics:
        """Return a snapshot of the connection's figures."""
        now = asyncio.get_running_loop().time()
        return snapshot(self._account, self._ways.choice, self._ways.dialer, self._link, now)

    # The keeper: the one task that looks for connections.

    def _begin(self) -> None:
        now = asyncio.get_running_loop().time()
        self._failure = None
        self._was_linked = False
        self._account.consecutive_failures = 0
        self._ways.begin(now)
        self._to(_State.CONNECTING, _Cause.DIAL_STARTED, "connect was called")
        if self._monitor is not None:
            self._monitor.start()
        if self._unsubscribe is None:
            self._unsubscribe = self._ways.dialer.penalties.subscribe(self._freed)
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        """Find a connection whenever there is none, or a better one, until the peer refuses for good."""
        try:
            while True:
                if not self._is_attached:
                    await self._reconnect()
                elif self._switch is not None:
                    candidates = self._ways.choice.candidates(asyncio.get_running_loop().time())
                    await self._switch_over(candidates, "reconnect was called")
                else:
                    await self._rest()
        except HandshakeError as error:
            self._fail(error)

    async def _reconnect(self) -> None:
        """Rounds over the endpoints that may be dialled, with a pause after each that led nowhere."""
        now = asyncio.get_running_loop().time
        cause = _Cause.DIAL_STARTED
        self._account.wanted(now())
        if self._was_linked:
            await self._pause(self._ways.pause_after_loss(now() - self._attached_at))
        while True:
            while not (candidates := self._ways.choice.candidates(now())):
                await self._pause(self._ways.wait(now()))
            if self.state is _State.DEGRADED:
                self._to(_State.RECONNECTING, cause, "looking for another connection")
            dialled = await self._race(candidates)
            if dialled is not None and self._take(dialled):
                return
            self._account.failed(reconnecting=self._was_linked)
            if self._was_linked:
                self._to(_State.DEGRADED, _Cause.DIAL_FAILED, "no endpoint could be reached")
            await self._pause(self._ways.pause_after_round())
            cause = _Cause.BACKOFF_ELAPSED

    async def _pause(self, seconds: float) -> None:
        """Wait for ``seconds``, or until there are good news: the network changed, or an endpoint is free again."""
        self._news.clear()
        if not seconds:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    def _freed(self, key: str) -> None:
        """Somebody reached the endpoint, or an operator lifted its penalty."""
        if any(endpoint.key == key for endpoint in self._ways.choice.endpoints):
            self._news.set()

    async def _switch_over(self, candidates: list[Endpoint], evidence: str) -> None:
        """Take a new connection while the old one works; without one the old one goes on.

        Raises:
            HandshakeError: If the peer refused for good, and the old connection is gone as well.
        """
        switch = self._switch
        self._account.wanted(asyncio.get_running_loop().time())
        if self.state is _State.ESTABLISHED:
            self._to(_State.SWITCHING, _Cause.SWITCH_STARTED, evidence)
        error: HandshakeError | None = None
        self._is_switching = True
        try:
            dialled = await self._race(candidates)
            taken = dialled is not None and self._take(dialled)
        except HandshakeError as refusal:
            taken, error = False, refusal
        finally:
            self._is_switching = False
        if self._switch is switch:
            self._switch = None
        if not taken:
            self._stay(error)
        if switch is not None and not switch.done():
            if taken and self._link is not None:
                switch.set_result(self._link)
            else:
                switch.set_exception(error or self._not_reached(""))
                switch.exception()  # whoever asked may have gone
        if error is not None and not self._is_attached:
            raise error

    def _stay(self, error: HandshakeError | None) -> None:
        """Go on with the old connection, if it still is one, after a switch that led nowhere."""
        self._account.failed(reconnecting=True)
        evidence = str(error) if error else "no endpoint could be reached"
        if self._is_attached:
            self._account.content()
            if self.state is _State.SWITCHING:
                self._to(_State.ESTABLISHED, _Cause.DIAL_FAILED, f"{evidence}; the old connection goes on")
        elif self.state is _State.SWITCHING:
            self._to(_State.DEGRADED, _Cause.DIAL_FAILED, evidence)

    @property
    def _is_attached(self) -> bool:
        return self._link is not None and self._link.is_attached

    async def _rest(self) -> None:
        """Wait until there is something to do. On a fallback, that is also to try a better endpoint now and then."""
        now = asyncio.get_running_loop().time
        is_on_fallback = self._ways.choice.endpoints[0].priority < self._priority
        self._changed.clear()
        try:
            async with asyncio.timeout(max(0.0, self._return_at - now()) if is_on_fallback else None):
                await self._changed.wait()
        except TimeoutError:
            self._plan_return(now())
            better = self._ways.choice.candidates(now(), above=self._priority)
            if better:
                await self._switch_over(better, f"back to {better[0]}")

    def _plan_return(self, now: float) -> None:
        self._return_at = now + min(_RETURN_AFTER * 2.0 ** min(self._returns, 30), _RETURN_CAP)
        self._returns += 1

    async def _race(self, candidates: list[Endpoint]) -> Dialled | None:
        return await self._ways.race(candidates, self._propose, self._attempt_failed)

    def _attempt_failed(self, endpoint: Endpoint, failure: AttemptFailed) -> None:
        if failure.is_stale and self._link is not None and not self._is_attached:
            # R7, R8: what was not acknowledged is reported, never sent again into another session.
            self._lose(self._link)
        self._leave_handshake(endpoint, str(failure))

    def _leave_handshake(self, endpoint: Endpoint, why: str) -> None:
        """Take the state back, if it was the handshake with ``endpoint`` that it spoke of."""
        if self._answering is not endpoint or self.state not in (_State.HANDSHAKE, _State.SWITCHING):
            return
        if not self._was_linked:
            self._to(_State.CONNECTING, _Cause.DIAL_FAILED, f"{endpoint}: {why}")
        elif not self._is_attached:
            self._to(_State.DEGRADED, _Cause.DIAL_FAILED, f"{endpoint}: {why}")

    def _propose(self, endpoint: Endpoint, peer: Identity) -> Proposal:
        """An endpoint answered: go on with the session there is, or begin one if the peer is another incarnation."""
        link = self._link
        resumes = link is not None and self._continues(link, peer)
        self._answering = endpoint
        if self.state is _State.CONNECTING:
            self._to(_State.HANDSHAKE, _Cause.HANDSHAKE_STARTED, f"{peer.node} at {endpoint}")
        elif self.state in (_State.RECONNECTING, _State.DEGRADED) and not self._is_attached:
            self._to(_State.RECONNECTING, _Cause.DIAL_STARTED, str(endpoint))
            self._to(_State.HANDSHAKE, _Cause.DIAL_SUCCEEDED, f"{peer.node} at {endpoint}")
            if resumes:
                self._to(_State.SWITCHING, _Cause.RESUME_ATTEMPT, f"session {link.session_id if link else ''}")
        if link is not None and resumes:
            return Proposal(link.session, link.received, resumes=True)
        self._proposed = self._proposed or secrets.token_bytes(16)
        return Proposal(self._proposed, (0, 0))

    def _continues(self, link: ConnectionHandle, peer: Identity) -> bool:
        """Return whether the session of ``link`` goes on with ``peer``."""
        same = (link.node_id, link.epoch) == (peer.node, peer.epoch)
        return same and (self._options.enable_session_resume or link.is_attached)

    def _take(self, dialled: Dialled) -> bool:
        """Carry the link over the connection that won; return whether that is possible."""
        peer = dialled.peer
        before = self._link
        if before is not None and not self._continues(before, peer):
            self._lose(before)
        link = self._link or self._new_link(peer)
        self._link = link
        try:
            link.check_resume(dialled.received)
        except ProtocolFault as fault:
            dialled.connection.close()
            self._ways.attempts[dialled.endpoint.key] = str(fault)
            self._lose(link)
            return False
        now = asyncio.get_running_loop().time()
        self._priority = dialled.endpoint.priority
        if self._priority == self._ways.choice.endpoints[0].priority:
            self._returns = 0
        self._plan_return(now)
        self._attached_at = now
        resumed = before is link if self._was_linked else None
        self._was_linked = True
        self._account.connected(str(dialled.endpoint), now, resumed=resumed)
        self._account.round_trips.record(dialled.rtt)
        link.attach(dialled.connection, str(dialled.endpoint), peer, dialled.received, rtt=dialled.rtt)
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
            heartbeat=options.heartbeat,
            dice=self._rng,
        )

    # The end.

    async def _end_link(self) -> None:
        if self._link is not None and self._link.is_attached:
            await self._link.drain(self._options.drain_timeout)
        # Before the goodbye: the peer closes the connection upon it, and that is no reason to dial again.
        await self._stop_keeping()
        if self._link is not None:
            await self._link.part(_PARTING)
        self._drop_link()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _drop_link(self) -> None:
        if self._link is not None:
            self._finish(self._link, LinkClosed(self._link.node_id))

    def _dismiss_keeper(self) -> None:
        """Let the keeper look for nothing any more, and end by itself."""
        self._end_switch()
        if self._keeper is not None:
            self._keeper.cancel()
            self._retire(self._keeper)
            self._keeper = None

    async def _stop_keeping(self) -> None:
        keeper, self._keeper = self._keeper, None
        self._end_switch()
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    def _end_switch(self) -> None:
        switch, self._switch = self._switch, None
        if switch is not None and not switch.done():
            switch.set_exception(LinkClosed())
            switch.exception()  # whoever asked may have gone

    def _fail(self, error: HandshakeError) -> None:
        self._failure = error
        self._keeper = None
        self._end_switch()
        if self._link is not None:
            self._lose(self._link)
        self._to(_State.FAILED, _Cause.DIAL_FAILED, str(error))

    def _lose(self, link: ConnectionHandle) -> None:
        report = link.lost()
        self._finish(link, report)
        self._peer_lost.notify(report)

    def _finish(self, link: ConnectionHandle, report: PeerLost | PeerLeft | LinkClosed) -> None:
        self._link = None
        self._account.traffic += link.traffic()
        link.finish(lambda: type(report)(*report.args))
        self._retire(asyncio.get_running_loop().create_task(link.wait_closed()))

    def _retire(self, task: asyncio.Task[Any]) -> None:
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _not_reached(self, within: str) -> ConnectFailed:
        node = self._link.node_id if self._link is not None else ""
        return self._ways.not_reached(node, within)

    # Told by the link.

    def link_up(self, handle: ConnectionHandle) -> None:
        """The link has a connection (again)."""
        cause = _Cause.HANDSHAKE_COMPLETED
        if self._account.was_rejected:
            cause = _Cause.RESUME_REJECTED
        elif self._is_switching:
            cause = _Cause.SWITCH_COMPLETED
        elif self.state is _State.SWITCHING:
            cause = _Cause.RESUME_SUCCEEDED
        self._to(_State.ESTABLISHED, cause, f"{handle.node_id} at {handle.endpoint}")

    def link_down(self, handle: ConnectionHandle, reason: str, *, broken: bool) -> None:
        """The connection broke: the keeper looks for another one."""
        if handle.silence is not None:
            self._account.detection_time = handle.silence
        if self._keeper is None:
            return  # it is being ended
        self._account.wanted(asyncio.get_running_loop().time())
        self._to(_State.DEGRADED, _Cause.TRANSPORT_ERROR, reason)

    def link_suspected(self, handle: ConnectionHandle) -> None:
        """The peer is late, and did not answer a probe."""
        if self.state is _State.ESTABLISHED:
            self._to(_State.DEGRADED, _Cause.HEARTBEAT_MISS, f"{handle.node_id} did not answer a probe")

    def link_recovered(self, handle: ConnectionHandle) -> None:
        """The peer was heard again."""
        if self.state is _State.DEGRADED:
            self._to(_State.ESTABLISHED, _Cause.HEARTBEAT_RECOVERED, f"{handle.node_id} was heard again")

    def round_trip(self, rtt: float) -> None:
        """A ping was answered, which also answers the question that a change of the network raised."""
        self._account.round_trips.record(rtt)
        if self.state is _State.DEGRADED and self._is_attached:
            self._to(_State.ESTABLISHED, _Cause.HEARTBEAT_RECOVERED, "the peer answered")

    def link_left(self, handle: ConnectionHandle) -> None:
        """The peer said goodbye: nobody dials it until the application asks again."""
        self._dismiss_keeper()
        self._finish(handle, handle.departed())
        self._to(_State.DISCONNECTED, _Cause.PEER_LEFT, f"{handle.node_id} left")

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
            self._account.moved(state, at, carried=self._is_attached)
            self._state_changed.notify(StateChange(previous, state, cause, evidence, at))
        self._changed.set()
