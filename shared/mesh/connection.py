"""The handle of one link: what an application, a manager, a host or a mesh holds of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count, repeat

from ..core.frames import CALLS, MESSAGES
from ..core.handshake import Identity
from ..core.link import Link
from ..core.liveness import Health, Heartbeat
from ..core.message import Message
from ..core.retry import Dice
from ..core.session import Body, Limits, view_of
from ..errors import LinkClosed, PeerLeft, PeerLost, QueueFull, SendTimeout
from ..metrics import Traffic
from ..transport.base import TransportConnection
from .driver import LinkDriver
from .parties import NO_PATH, HandleOwner, Lost, Path
from .parties import Receiver as Receiver

_EMPTY: deque[Message] = deque(maxlen=0)
"""The inbox of every link whose messages go to a receiver: an empty one of its own would take 600 bytes."""


class _Place:
    """A place in the line of those who wait for room."""

    def __init__(self) -> None:
        self.is_over = False  # there will be no turn
        self._turn: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        if not self.is_over:
            self._turn = asyncio.get_running_loop().create_future()
            await self._turn

    def wake(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)


class ConnectionHandle:
    """One link to one incarnation of a peer. It stays valid over every reconnect, until it is closed or the peer lost.

    ``node_id``, ``incarnation`` (0 outside a mesh) and ``epoch`` name the peer; ``session_id`` the session;
    ``endpoint`` is where the latest connection went to or came from; ``metadata`` what the peer says of itself.
    ``is_attached`` tells whether a connection carries the link now.
    """

    def __init__(
        self,
        peer: Identity,
        session: bytes,
        owner: HandleOwner,
        *,
        limits: Limits,
        max_message: int,
        scratch: memoryview,
        heartbeat: Heartbeat | None = None,
        dice: Dice | None = None,
        receiver: Receiver | None = None,
    ) -> None:
        self.node_id = peer.node
        self.incarnation = peer.incarnation
        self.epoch = peer.epoch
        self.session = session
        self.metadata: dict[str, str] = dict(peer.metadata)
        self.endpoint = ""
        self.is_attached = False  # no property: it is asked for all links of a mesh whenever one comes or goes
        self.last_activity: float | None = None  # when a message last came or was acknowledged (loop time)
        self._owner = owner
        self._receiver = receiver
        self._max_message = max_message
        self._link = Link(limits, Limits(*peer.window), heartbeat=heartbeat, dice=dice)
        self._lane = self._link.lanes[MESSAGES]
        self._calls = self._link.lanes[CALLS]
        self._driver = LinkDriver(self._link, self, max_message=max_message, scratch=scratch)
        self._over: Callable[[], Lost] | None = None
        self._is_parting = False  # goodbye was said: what were accepted now would never be delivered
        self._senders: deque[_Place] = deque()
        self._on_calls_taken: Callable[[], None] | None = None
        self._inbox: deque[Message] = deque() if receiver is None else _EMPTY
        self._is_loss_told = False  # by an iteration, which raises it once
        self._is_unsettled = False  # messages were taken and are not yet reported as consumed
        self._arrival: asyncio.Future[None] | None = None
        self._changed: asyncio.Event | None = None  # once somebody waits for the end, or for acknowledgements

    def __repr__(self) -> str:
        state = "over" if self._over else "attached" if self.is_attached else "detached"
        return f"<ConnectionHandle to {self.node_id} ({state})>"

    @property
    def session_id(self) -> str:
        """The session's random id, as 32 hexadecimal digits."""
        return self.session.hex()

    @property
    def is_over(self) -> bool:
        """Whether the link has ended for good."""
        return self._over is not None

    # Sending.

    async def send(self, body: Body, timeout: float | None = None) -> int:
        """Accept ``body`` for delivery, exactly once and in order, and return its number in the session (from 1).

        Waits while the window towards the peer is closed; what was accepted survives any number of reconnects. Any
        contiguous buffer will do; one of 64 KiB or more is not copied and must not change until it is acknowledged.

        Raises:
            SendTimeout: If there was no room within ``timeout`` seconds; the message was not accepted.
            PeerLost, PeerLeft, LinkClosed: If the link is over, or ends while this waits.
            ValueError: If ``body`` is longer than the link's ``max_message``.
        """
        if type(body) is bytes:
            # The usual case, in as few steps as there can be; see ``Lane._allow_fast``.
            lane = self._lane
            number = lane.last + 1
            size = lane.size + len(body)
            if number <= lane.fast_last and size <= lane.fast_size:
                lane.last = number
                lane.size = size
                lane.open.append(body)
                return number
        body = self._checked(body)
        self._check_may_send()
        if not self._senders and self._lane.has_room(len(body)):
            return self._driver.offer(MESSAGES, body)
        return await self._send_when_possible(body, timeout)

    def send_nowait(self, body: Body) -> int:
        """Accept ``body`` as ``send`` does, or raise ``QueueFull`` if it would have to wait."""
        body = self._checked(body)
        self._check_may_send()
        if self._senders or not self._lane.has_room(len(body)):
            raise QueueFull(self.node_id, self._lane.last - self._lane.acknowledged, self._lane.size)
        return self._driver.offer(MESSAGES, body)

    def post(self, body: Body) -> int:
        """Accept ``body`` on the calls lane, which has no window: whoever posts bounds what is under way.

        Raises:
            PeerLost, PeerLeft, LinkClosed: If the link is over.
            ValueError: If ``body`` is longer than the link's ``max_message``.
        """
        if type(body) is bytes:
            # As in ``send``.
            lane = self._calls
            number = lane.last + 1
            size = lane.size + len(body)
            if number <= lane.fast_last and size <= lane.fast_size:
                lane.last = number
                lane.size = size
                lane.open.append(body)
                return number
        body = self._checked(body)
        self._check_may_send()
        return self._driver.offer(CALLS, body)

    def post_together(self, bodies: Sequence[Body]) -> None:
        """Accept ``bodies`` on the calls lane, one after the other, or none of them; see ``post``."""
        checked = [self._checked(body) for body in bodies]
        self._check_may_send()
        for body in checked:
            self._driver.offer(CALLS, body)

    @property
    def calls_behind(self) -> int:
        """How many bytes of what was posted wait for the peer's acknowledgement."""
        return self._calls.size

    def when_calls_taken(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called, once, when the peer next acknowledges something that was posted."""
        self._on_calls_taken = callback

    def turn_away(self) -> None:
        """Have those who wait for room raise ``PeerLeft``: the peer is about to leave. Nothing of theirs was sent."""
        for place in self._senders:
            place.is_over = True
            place.wake()

    def consumed(self, number: int) -> None:
        """The messages up to ``number`` are handled: acknowledge them and open the sender's window."""
        if self._over is None:
            self._driver.consumed(MESSAGES, number)

    def _checked(self, body: Body) -> Body:
        if not isinstance(body, (bytes, bytearray)):
            view = view_of(body)
            body = view if view.ndim == 1 and view.itemsize == 1 else view.cast("B")
        if len(body) > self._max_message:
            limit = f"max_message ({self._max_message} bytes)"
            raise ValueError(f"a message of {len(body)} bytes is longer than {limit}; send it in parts")
        return body

    def _check_may_send(self) -> None:
        self._check_open()
        if self._is_parting:
            raise LinkClosed(self.node_id)

    def _check_open(self) -> None:
        if self._over is not None:
            raise self._over()

    async def _send_when_possible(self, body: Body, timeout: float | None) -> int:
        """Wait in line; the first in it goes as soon as its message fits."""
        place = _Place()
        self._senders.append(place)
        self._lane.fast_last = -1
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self._check_may_send()
                    if place.is_over:
                        raise self.departed()
                    if self._senders[0] is place and self._lane.has_room(len(body)):
                        return self._driver.offer(MESSAGES, body)
                    await place.wait()
        except TimeoutError:
            assert timeout is not None
            raise SendTimeout(self.node_id, timeout) from None
        finally:
            self._senders.remove(place)
            if self._senders:
                self._lane.fast_last = -1
                self.window_opened()

    # Receiving.

    async def receive(self) -> Message:
        """Wait for the next message; taking it acknowledges it.

        Raises:
            PeerLost, PeerLeft, LinkClosed: If the link is over and everything that had arrived was taken.
        """
        while not self._inbox:
            self.settle()
            self._check_open()
            if self._arrival is not None:
                raise RuntimeError("another task is already waiting for the next message of this link")
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        if not self._is_unsettled and self._over is None:
            self._is_unsettled = True
            self._driver.settle_soon()
        return self._inbox.popleft()

    def settle(self) -> None:
        """Report what was taken. Not for each message: when there is no more, or after a while."""
        if self._is_unsettled:
            self._is_unsettled = False
            inbox = self._inbox
            self.consumed(inbox[0].number - 1 if inbox else self._lane.received)

    def __aiter__(self) -> AsyncIterator[Message]:
        """Yield messages until the link is closed on this side or the peer leaves; ``PeerLost`` is raised, once."""
        return _Messages(self)

    # The end.

    async def close(self) -> None:
        """Drain what was accepted, say goodbye and end the link."""
        await self._owner.close_link(self)

    @property
    def is_drained(self) -> bool:
        """Whether the peer has acknowledged everything."""
        return self._link.is_drained

    async def drain(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until the peer has acknowledged everything; return whether it has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not (self._link.is_drained or self._over):
                    await self._change()
        return self._link.is_drained

    async def part(self, timeout: float) -> None:
        """Say goodbye and wait up to ``timeout`` seconds for the peer to take it in and close the connection."""
        if not self.is_attached:
            return
        self.settle()
        self._is_parting = True
        self._lane.fast_last = self._calls.fast_last = -1
        for place in self._senders:
            place.wake()
        self._driver.say_goodbye()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.is_attached and not self._over:
                    await self._change()

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = asyncio.Event()
        self._changed.clear()
        await self._changed.wait()

    def _note_change(self) -> None:
        if self._changed is not None:
            self._changed.set()

    def finish(self, over: Callable[[], Lost]) -> None:
        """End the link for good; ``over`` makes the error that everyone who still uses it gets."""
        if self._over is not None:
            return
        self._over = over
        self._on_calls_taken = None
        self._driver.end()
        self.is_attached = False
        self._note_change()
        for place in self._senders:
            place.wake()
        self._wake_receiver()

    def lost(self) -> PeerLost:
        """Return the report on this link's unacknowledged messages, as of now."""
        return PeerLost(self.node_id, self.incarnation, *self._lane.tail())

    def departed(self) -> PeerLeft:
        """Return the report on a link whose peer said goodbye, with what it had not acknowledged by then."""
        return PeerLeft(self.node_id, self.incarnation, *self._lane.tail())

    def farewell(self) -> PeerLost | PeerLeft:
        """Return that report where the end of a link is the end of the peer: what it left behind is lost."""
        report = self.lost()
        return report if report.count else self.departed()

    async def wait_closed(self) -> None:
        """Wait until nothing of this link runs any more."""
        await self._driver.wait_closed()

    # Figures.

    @property
    def silence(self) -> float | None:
        """For how many seconds the peer had been silent when a connection was given up for that; None: never."""
        return self._link.silence

    @property
    def replay_depth(self) -> int:
        """How many messages wait for their acknowledgement."""
        return self._lane.last - self._lane.acknowledged

    def traffic(self) -> Traffic:
        """Return what this link has carried so far."""
        bytes_in, bytes_out = self._driver.traffic()
        lane = self._lane
        return Traffic(bytes_in, bytes_out, lane.received, lane.last, lane.replayed, lane.duplicates)

    def message_counts(self) -> tuple[int, int]:
        """Return how many messages this link has received and sent."""
        return self._lane.received, self._lane.last

    def carried(self) -> tuple[int, int, int, int, int, int]:
        """Return the bytes, messages and frames of calls that came in and went out, in this order."""
        messages, calls = self._link.lanes
        return *self._driver.traffic(), messages.received, messages.last, calls.received, calls.last

    @property
    def unacknowledged(self) -> int:
        """How many messages and frames of calls wait for their acknowledgement."""
        messages, calls = self._link.lanes
        return messages.last - messages.acknowledged + calls.last - calls.acknowledged

    @property
    def is_suspect(self) -> bool:
        """Whether the peer is late, and did not answer a probe."""
        liveness = self._link.liveness
        return liveness is not None and liveness.health is Health.SUSPECT

    def path(self, now: float) -> Path:
        """Return what is known of the current connection."""
        liveness = self._link.liveness
        if liveness is None or not self.is_attached:
            return NO_PATH
        rtt = liveness.rtt
        return Path(rtt.srtt, rtt.rttvar, liveness.phi(now), liveness.sent_at, liveness.acked_at)

    def probe(self) -> None:
        """Ask the peer now whether it is there, instead of at the next heartbeat."""
        self._driver.probe()

    # For whoever connects it.

    def rename(self, node: str, incarnation: int) -> None:
        """The peer was a spare and has taken a node's place; the session is the same."""
        self.node_id, self.incarnation = node, incarnation

    def hand_to(self, receiver: Receiver) -> None:
        """Let ``receiver`` take what arrives from now on."""
        self._receiver = receiver

    def hear_out(self) -> None:
        """Take in what a peer that is dead has still said; ``connection_lost`` may be told in here."""
        self._driver.hear_out()

    @property
    def received(self) -> tuple[int, int]:
        """What was received in the session, by lane."""
        return self._link.received

    def check_resume(self, received: tuple[int, int]) -> None:
        """Check what the peer says that it has received.

        Raises:
            ProtocolFault: If it cannot be true.
        """
        self._link.check_resume(received)

    def attach(
        self,
        connection: TransportConnection,
        endpoint: str,
        peer: Identity,
        received: tuple[int, int],
        *,
        greeting: bytes = b"",
        rtt: float | None = None,
    ) -> None:
        """Carry the link over ``connection`` from now on; see ``LinkDriver.attach``."""
        self.endpoint = endpoint
        self.is_attached = True
        self._driver.attach(connection, received, Limits(*peer.window), greeting=greeting, rtt=rtt)
        self._owner.link_up(self)

    # Told by the driver.

    def delivered(self, lane: int, first: int, bodies: list[bytes | bytearray]) -> None:
        """Pass messages on to the receiver, or keep them for ``receive``."""
        if lane == CALLS:
            if self._receiver is not None:
                self._receiver.calls_received(self, bodies)
            if self._over is None:
                self._driver.consumed(CALLS, first + len(bodies) - 1)
        elif self._receiver is not None:
            self._receiver.messages_received(self, first, bodies)
        else:
            self.last_activity = asyncio.get_running_loop().time()
            self._inbox.extend(map(Message, repeat(self.node_id), bodies, count(first)))
            self._wake_receiver()

    def window_opened(self) -> None:
        """Let the first of those who wait for room try."""
        if self._receiver is None:
            self.last_activity = asyncio.get_running_loop().time()
        self._note_change()
        if self._senders:
            self._senders[0].wake()

    def calls_taken(self) -> None:
        """Call back who waits for that, and let ``drain`` look again."""
        self._note_change()
        callback, self._on_calls_taken = self._on_calls_taken, None
        if callback is not None:
            callback()

    def connection_lost(self, reason: str, *, broken: bool) -> None:
        """Tell the owner, who finds another connection."""
        self.is_attached = False
        self._note_change()
        self._owner.link_down(self, reason, broken=broken)

    def left(self) -> None:
        """Tell the owner, who ends the link."""
        self._owner.link_left(self)

    def suspected(self) -> None:
        """Tell the owner."""
        self._owner.link_suspected(self)

    def recovered(self) -> None:
        """Tell the owner."""
        self._owner.link_recovered(self)

    def round_trip(self, rtt: float) -> None:
        """Tell the owner."""
        self._owner.round_trip(rtt)

    def _wake_receiver(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


class _Messages:
    """The iteration over a link's messages: an object, because a generator costs twice as much per message."""

    def __init__(self, link: ConnectionHandle) -> None:
        self._link = link
        self._inbox = link._inbox
        self._is_finished = False

    def __aiter__(self) -> _Messages:
        return self

    async def __anext__(self) -> Message:
        link = self._link
        if self._inbox and link._is_unsettled:
            return self._inbox.popleft()
        if self._is_finished:
            raise StopAsyncIteration
        try:
            return await link.receive()
        except (LinkClosed, PeerLeft):
            self._is_finished = True
            raise StopAsyncIteration from None
        except PeerLost:
            self._is_finished = True
            if link._is_loss_told:
                raise StopAsyncIteration from None
            link._is_loss_told = True
            raise
