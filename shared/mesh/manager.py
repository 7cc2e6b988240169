"""The dialling side by itself: one link to one peer, kept up over every fault of the ways to it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from ..core.choice import EndpointChoice, plan
from ..core.endpoint import Endpoint
from ..core.handshake import Identity
from ..core.penalties import FailureSeverity
from ..core.retry import Backoff, RetryBudget
from ..core.session import Limits, ProtocolFault
from ..core.states import TRANSITIONS, ConnectionCause, ConnectionState, StateChange
from ..errors import ConnectFailed, HandshakeError, LinkClosed, PeerLeft, PeerLost
from ..metrics import Account, ConnectionMetrics, DialRate
from ..transport.base import TransportAdapter
from ..transport.registry import adapters_by_name
from .callbacks import Callbacks
from .channel import SCRATCH
from .connection import ConnectionHandle
from .dialer import AttemptFailed, Dialer, Dialled, Proposal, shared_budget
from .network import NetworkMonitor
from .options import ConnectionOptions
from .race import race

_PARTING = 0.5
_RETURN_AFTER = 1.0
"""Seconds on a less preferred endpoint before a better one is tried for the first time; it doubles from try to try."""

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
        budget: RetryBudget | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.state = _State.DISCONNECTED
        self._options = options
        self._rng = rng or random.Random()
        self._budget = budget
        by_name = adapters_by_name(adapters)
        endpoints = [Endpoint.parse(item) if isinstance(item, str) else item for item in options.endpoints]
        missing = {endpoint.transport for endpoint in endpoints} - set(by_name)
        if missing:
            raise ValueError(f"endpoints: no adapter for the transport {', '.join(sorted(missing))}")
        self._me = Identity(
            options.node_id,
            0,
            secrets.randbits(64) | 1,
            (options.max_queue_messages, options.max_queue_bytes),
            tuple((options.metadata or {}).items()),
        )
        self._dialer = Dialer(
            self._me,
            options.secret or b"",
            adapters=by_name,
            attempt_timeout=options.attempt_timeout,
            penalty=options.endpoint_blacklist_duration,
        )
        self._choice = EndpointChoice(
            endpoints, self._dialer.penalties, max_per_minute=options.max_dials_per_minute_per_endpoint
        )
        self._soft_backoff = Backoff(options.soft_backoff_initial, options.soft_backoff_cap)
        self._hard_backoff = Backoff(options.hard_backoff_initial, options.hard_backoff_cap)
        self._returning = Backoff(_RETURN_AFTER, 60.0)
        self._account = Account()
        self._scratch = memoryview(bytearray(SCRATCH))
        self._link: ConnectionHandle | None = None
        self._priority = 0  # of the endpoint that the link's connection goes to
        self._was_linked = False  # since the latest connect that began anew
        self._proposed = b""  # the id of the next session
        self._keeper: asyncio.Task[None] | None = None
        self._switch: asyncio.Future[ConnectionHandle] | None = None
        self._retiring: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self._attempts: dict[str, str] = {}
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
                there was a link already, which is still being reconnected.
            HandshakeError: If the peer refused for good (a wrong secret); the state is ``failed``.
            LinkClosed: If the manager is closed.
        """
        if self.state is _State.CLOSED:
            raise LinkClosed
        if self._keeper is None:
            self._begin()
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                return await self._wait_established()
        except TimeoutError:
            if self._link is None:
                await self._stop_keeping()
                self._to(_State.DISCONNECTED, _Cause.DIAL_FAILED, "no endpoint was reached in time")
            raise self._not_reached(f"within {self._options.connect_timeout:g} s") from None

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
            ConnectFailed: If no endpoint could be reached; the old connection goes on.
            HandshakeError, LinkClosed: As ``connect``.
        """
        if self._link is None or not self._link.is_attached or self._keeper is None:
            return await self.connect()
        if self._switch is None:
            self._switch = asyncio.get_running_loop().create_future()
            self._changed.set()
        return await asyncio.shield(self._switch)

    async def disconnect(self) -> None:
        """Drain, say goodbye and end the link; ``connect`` begins a new session."""
        await self._end_link()
        self._to(_State.DISCONNECTED, _Cause.MANUAL, "disconnect was called")

    async def close(self) -> None:
        """Disconnect for good; no task and no socket is left when this returns."""
        await self._end_link()
        if self._monitor is not None:
            self._monitor.close()
        self._to(_State.CLOSED, _Cause.DISPOSAL, "close was called")

    def network_changed(self, evidence: str) -> None:
        """The machine's network changed: ask the peer at once instead of at the next heartbeat."""
        if self._link is not None and self._link.is_attached:
            if self.state is _State.ESTABLISHED:
                self._to(_State.DEGRADED, _Cause.OS_NETWORK_EVENT, evidence)
            self._link.probe()

    def metrics(self) -> ConnectionMetrics:
        """Return a snapshot of the connection's figures."""
        now = asyncio.get_running_loop().time()
        account, link = self._account, self._link
        uptime, downtime = account.times(now)
        rates = tuple(
            DialRate(
                endpoint.key,
                self._choice.tracker(endpoint).attempts(now),
                self._dialer.penalties.remaining(endpoint.key, now),
            )
            for endpoint in self._choice.endpoints
        )
        traffic = account.traffic if link is None else account.traffic + link.traffic()
        path = None if link is None else link.path(now)
        return ConnectionMetrics(
            srtt=path.srtt if path else None,
            rttvar=path.rttvar if path else None,
            phi=path.phi if path else 0.0,
            consecutive_failures=account.consecutive_failures,
            reconnect_success_ratio=account.reconnects.value,
            resume_success_ratio=account.resumes.value,
            uptime=uptime,
            downtime=downtime,
            last_switch_duration=account.last_switch_duration,
            last_heartbeat_sent=path.sent_at if path else None,
            last_heartbeat_ack=path.acked_at if path else None,
            heartbeat_p50=account.round_trips.at(0.50),
            heartbeat_p95=account.round_trips.at(0.95),
            last_data_activity=None if link is None else link.last_activity,
            dials_last_minute=sum(rate.attempts for rate in rates),
            blacklisted_endpoints=self._choice.barred(now),
            dial_rates=rates,
            last_failure_severity=self._dialer.last_severity,
            last_endpoint=account.last_endpoint,
            bytes_in=traffic.bytes_in,
            bytes_out=traffic.bytes_out,
            messages_in=traffic.messages_in,
            messages_out=traffic.messages_out,
            replayed=traffic.replayed,
            duplicates_dropped=traffic.duplicates,
            replay_depth=0 if link is None else link.replay_depth,
            detection_time=account.detection_time,
        )

    # The keeper: the one task that looks for connections.

    def _begin(self) -> None:
        now = asyncio.get_running_loop().time()
        self._failure = None
        self._was_linked = False
        self._account.consecutive_failures = 0
        self._attempts.clear()
        self._reset_backoff()
        self._budget = self._budget or shared_budget()
        self._budget.deposit(now)
        self._to(_State.CONNECTING, _Cause.DIAL_STARTED, "connect was called")
        if self._monitor is not None:
            self._monitor.start()
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        """Find a connection whenever there is none, or a better one, until the peer refuses for good."""
        try:
            while True:
                if self._link is None or not self._link.is_attached:
                    await self._reconnect()
                elif self._switch is not None:
                    await self._switch_over(self._choice.endpoints, "reconnect was called")
                elif self._is_on_fallback and not self._changed.is_set():
                    await self._return_to_preferred()
                else:
                    self._changed.clear()
                    await self._changed.wait()
        except HandshakeError as error:
            self._fail(error)

    async def _reconnect(self) -> None:
        """One round over the endpoints that may be dialled, and the pause after it if it led nowhere."""
        loop = asyncio.get_running_loop()
        self._account.wanted(loop.time())
        if self.state is _State.DEGRADED:
            is_first = not self._account.consecutive_failures
            cause = _Cause.DIAL_STARTED if is_first else _Cause.BACKOFF_ELAPSED
            self._to(_State.RECONNECTING, cause, "looking for another connection")
        dialled = await self._race(self._choice.candidates(loop.time()))
        if dialled is not None and self._take(dialled):
            return
        self._account.failed(reconnecting=self._was_linked)
        if self._was_linked:
            self._to(_State.DEGRADED, _Cause.DIAL_FAILED, "no endpoint could be reached")
        declined = self._dialer.last_severity is FailureSeverity.SOFT
        backoff = self._soft_backoff if declined else self._hard_backoff
        await asyncio.sleep(max(backoff.next(self._rng), self._choice.wait(loop.time())))

    async def _switch_over(self, candidates: Iterable[Endpoint], evidence: str) -> bool:
        """Take a new connection while the old one works; return whether there is one."""
        now = asyncio.get_running_loop().time()
        switch, link = self._switch, self._link
        self._account.wanted(now)
        if self.state is _State.ESTABLISHED:
            self._to(_State.SWITCHING, _Cause.SWITCH_STARTED, evidence)
        try:
            dialled = await self._race(list(candidates))
            taken = dialled is not None and self._take(dialled)
        finally:
            self._switch = None
        if not taken:
            self._account.failed(reconnecting=True)
        if self.state is _State.SWITCHING and link is not None and link.is_attached:
            self._to(_State.ESTABLISHED, _Cause.SWITCH_COMPLETED, "switched" if taken else "the old connection goes on")
        if switch is not None and not switch.done():
            if taken and self._link is not None:
                switch.set_result(self._link)
            else:
                switch.set_exception(self._not_reached(""))
                switch.exception()  # whoever asked may have gone
        return taken

    @property
    def _is_on_fallback(self) -> bool:
        return self._choice.endpoints[0].priority < self._priority

    async def _return_to_preferred(self) -> None:
        """Wait for the time to try a better endpoint; try it, unless something else comes first."""
        loop = asyncio.get_running_loop()
        pause = _RETURN_AFTER * 2.0 ** min(self._returning.tries, 6)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._changed.wait()
                return
        self._returning.tries += 1
        better = self._choice.candidates(loop.time(), above=self._priority)
        if better and self._link is not None and self._link.is_attached:
            await self._switch_over(better, f"back to {better[0]}")

    async def _race(self, candidates: list[Endpoint]) -> Dialled | None:
        """Dial ``candidates`` as planned and return the first that is established.

        Raises:
            HandshakeError: If one refused for good.
        """
        options = self._options
        if not candidates:
            return None
        gate = asyncio.Lock()
        scheme = plan(
            candidates,
            delay=options.happy_eyeballs_delay,
            group_delay=options.happy_eyeballs_group_delay,
            max_concurrent=options.max_concurrent_dials,
        )
        return await race(candidates, scheme, lambda endpoint: self._attempt(endpoint, gate))

    async def _attempt(self, endpoint: Endpoint, gate: asyncio.Lock) -> Dialled | None:
        now = asyncio.get_running_loop().time
        tracker = self._choice.tracker(endpoint)
        is_retry = self._account.consecutive_failures > 0
        if is_retry and self._budget is not None and not self._budget.try_withdraw(now()):
            self._attempts.setdefault(endpoint.key, "the retry budget is spent")
            return None
        tracker.record_attempt(now())
        try:
            dialled = await self._dialer.attempt(endpoint, lambda peer: self._propose(endpoint, peer), gate=gate)
        except AttemptFailed as failure:
            tracker.record_failure(now(), 0.0)
            self._attempts[endpoint.key] = str(failure)
            if failure.fatal is not None:
                raise failure.fatal from None
            if failure.is_stale and self._link is not None and not self._link.is_attached:
                # R7, R8: what was not acknowledged is reported, never sent again into another session.
                self._lose(self._link)
            self._leave_handshake(f"{endpoint}: {failure}")
            return None
        tracker.record_success()
        return dialled

    def _reset_backoff(self) -> None:
        self._soft_backoff.reset()
        self._hard_backoff.reset()

    def _leave_handshake(self, evidence: str) -> None:
        if self.state not in (_State.HANDSHAKE, _State.SWITCHING):
            return
        if not self._was_linked:
            self._to(_State.CONNECTING, _Cause.DIAL_FAILED, evidence)
        elif self._link is None or not self._link.is_attached:
            self._to(_State.DEGRADED, _Cause.DIAL_FAILED, evidence)

    def _propose(self, endpoint: Endpoint, peer: Identity) -> Proposal:
        """An endpoint answered: go on with the session there is, or begin one if the peer is another incarnation."""
        link = self._link
        resumes = link is not None and self._continues(link, peer)
        if self.state is _State.CONNECTING:
            self._to(_State.HANDSHAKE, _Cause.HANDSHAKE_STARTED, f"{peer.node} at {endpoint}")
        elif self.state in (_State.RECONNECTING, _State.DEGRADED) and (link is None or not link.is_attached):
            self._to(_State.RECONNECTING, _Cause.DIAL_STARTED, str(endpoint))
            self._to(_State.HANDSHAKE, _Cause.DIAL_SUCCEEDED, f"{peer.node} at {endpoint}")
            if resumes:
                self._to(_State.SWITCHING, _Cause.RESUME_ATTEMPT, f"session {link.session_id if link else ''}")
        if link is not None and resumes:
            return Proposal(link.session, link.received)
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
            self._attempts[dialled.endpoint.key] = str(fault)
            self._lose(link)
            return False
        if dialled.endpoint.priority <= self._priority:
            self._returning.reset()
        self._priority = dialled.endpoint.priority
        self._reset_backoff()
        resumed = before is link if self._was_linked else None
        self._was_linked = True
        now = asyncio.get_running_loop().time()
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
        link = self._link
        if link is not None and link.is_attached:
            await link.drain(self._options.drain_timeout)
            await link.part(_PARTING)
        await self._stop_keeping()
        if self._link is not None:
            self._finish(self._link, LinkClosed(self._link.node_id))
        await asyncio.gather(*self._retiring, return_exceptions=True)

    async def _stop_keeping(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        self._end_switch()

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
        return ConnectFailed(node, tuple(self._attempts.items()), within)

    # Told by the link.

    def link_up(self, handle: ConnectionHandle) -> None:
        """The link has a connection (again)."""
        cause, evidence = _Cause.HANDSHAKE_COMPLETED, f"{handle.node_id} at {handle.endpoint}"
        if self.state is _State.SWITCHING:
            cause = _Cause.RESUME_SUCCEEDED if self._switch is None else _Cause.SWITCH_COMPLETED
        elif self._account.was_rejected:
            cause = _Cause.RESUME_REJECTED
        self._to(_State.ESTABLISHED, cause, evidence)

    def link_down(self, handle: ConnectionHandle, reason: str, *, broken: bool) -> None:
        """The connection broke: the keeper looks for another one."""
        if handle.silence is not None:
            self._account.detection_time = handle.silence
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
        """A ping was answered."""
        self._account.round_trips.record(rtt)

    def link_left(self, handle: ConnectionHandle) -> None:
        """The peer said goodbye: nobody dials it until the application asks again."""
        if self._keeper is not None:
            self._keeper.cancel()
            self._retire(self._keeper)
            self._keeper = None
        self._end_switch()
        self._finish(handle, PeerLeft(handle.node_id, handle.incarnation))
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
            self._account.moved(state, at)
            self._state_changed.notify(StateChange(previous, state, cause, evidence, at))
        self._changed.set()
