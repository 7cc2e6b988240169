"""Where a link meets its connection and the loop's clock.

The core decides; this carries out: it writes what the core wants written, once per turn of the loop, keeps one timer
for the core's deadline, and hands the core's events to the link's owner. A message that comes alone, after others
that came alone, is written at once: waiting for company would only cost latency.

A new connection replaces the old one without a moment in which there is none. The dialling side knows that both ends
have taken the new one over, and closes the old one. The accepting side does not know until it hears something on the
new one; until then it goes on reading the old one, and goes back to it if the new one is lost first. Both may carry
the same messages for that while: each carries them in order, and what was received already is dropped.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from ..core.frames import CALLS, CONTROL_KINDS, CONTROL_LIMIT, DATA_KINDS, MESSAGES, Frame
from ..core.link import (
    ACK_DELAY,
    Delivered,
    Event,
    Failed,
    Link,
    LinkState,
    Recovered,
    RoundTrip,
    Suspected,
    WindowOpened,
)
from ..core.session import LONGEST_BATCH, Body, Limits
from ..transport.base import TransportConnection
from .channel import Channel, open_channel

_BUDGET = 256 * 1024
"""Bytes that are taken from the core for one write."""


_WORTH_A_WRITE = 32 * 1024
"""Bytes in whole batches that are not kept back until the end of the turn."""

_TOGETHER = 30e-6
"""Messages this many seconds apart, or less, go in one write."""

_SHORT = 4096
"""Bytes up to which a lone message is joined with its header in one buffer."""


class LinkOwner(Protocol):
    """Whoever owns the link and hears of what happens on it. Nothing here may raise."""

    def delivered(self, lane: int, first: int, bodies: list[bytes | bytearray]) -> None:
        """Messages ``first``, ``first + 1``... of ``lane`` arrived."""

    def settle(self) -> None:
        """Report what was consumed so far: an acknowledgement is due."""

    def window_opened(self) -> None:
        """There may be room for messages again."""

    def calls_taken(self) -> None:
        """The peer has acknowledged something on the calls lane."""

    def connection_lost(self, reason: str, *, broken: bool) -> None:
        """The connection is gone; the link waits for another one."""

    def left(self) -> None:
        """The peer said goodbye."""

    def suspected(self) -> None:
        """The peer is late, and did not answer a probe."""

    def recovered(self) -> None:
        """The suspected peer was heard."""

    def round_trip(self, rtt: float) -> None:
        """A ping was answered after ``rtt`` seconds."""


class _Connection:
    """The two channels of one connection."""

    def __init__(self, control: Channel, data: Channel) -> None:
        self.control = control
        self.data = data
        self.channels = (control, data)

    def other(self, channel: Channel) -> Channel:
        return self.data if channel is self.control else self.control

    def close(self) -> None:
        for channel in self.channels:
            channel.close()


class LinkDriver:
    """Drives one link; see the module."""

    def __init__(self, link: Link, owner: LinkOwner, *, max_message: int, scratch: memoryview) -> None:
        self.link = link
        self._owner = owner
        self._limit = max(max_message, LONGEST_BATCH)
        self._scratch = scratch
        self._loop = asyncio.get_running_loop()
        self._current: _Connection | None = None
        self._standby: _Connection | None = None  # the one before, until the current one is known to work
        self._is_resumed = False  # there was a connection before
        self._retired: list[Channel] = []
        self._bytes_in = 0  # of connections that are no more
        self._bytes_out = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when it fires; uvloop's timers need not know
        self._flush_scheduled = False
        self._offered = 0  # messages that had been accepted when the flush was scheduled
        self._lone = False  # the latest scheduled flush was for one message
        self._lone_until = 0.0  # until when the latest message that went at once may get company

    # The connection.

    def attach(
        self,
        connection: TransportConnection,
        received: tuple[int, int],
        peer_limits: Limits,
        *,
        greeting: bytes = b"",
        rtt: float | None = None,
    ) -> None:
        """Carry the link over ``connection`` from now on, in place of an older one (R26).

        The accepting side passes the ``greeting`` that completes the handshake at the other end. The core has checked
        ``received`` (``Link.check_resume``).
        """
        older, self._current = self._current, self._open(connection)
        self._take_over(received, peer_limits, rtt)
        if self._standby is not None:
            self._retire(self._standby)
            self._standby = None
        if older is not None and greeting:
            self._standby = older
        elif older is not None:
            self._retire(older)
        for channel in self._current.channels:
            channel.start()
        if greeting:
            self._current.control.write([greeting])
        elif self._is_resumed:
            # The peer may hold on to an older connection until it hears from us over this one. At first it has none,
            # unless we gave that one up in the middle of the handshake, and then it hears its end.
            self._current.control.write([self.link.confirmation()])
        self._is_resumed = True
        self._flush()

    def _open(self, connection: TransportConnection) -> _Connection:
        control = open_channel(connection.control, self, CONTROL_KINDS, CONTROL_LIMIT, self._scratch)
        return _Connection(control, open_channel(connection.data, self, DATA_KINDS, self._limit, self._scratch))

    def _take_over(
        self, received: tuple[int, int], peer_limits: Limits | None = None, rtt: float | None = None
    ) -> None:
        self.link.detach()
        self.link.attach(received, self._loop.time(), peer_limits, rtt=rtt)
        self._cancel_timer()

    def _retire(self, connection: _Connection) -> None:
        connection.close()
        for channel in connection.channels:
            self._bytes_in += channel.bytes_in
            self._bytes_out += channel.bytes_out
            if channel.is_running:
                self._retired.append(channel)

    def traffic(self) -> tuple[int, int]:
        """Return the bytes read and written over all connections."""
        bytes_in, bytes_out = self._bytes_in, self._bytes_out
        for connection in (self._current, self._standby):
            for channel in () if connection is None else connection.channels:
                bytes_in += channel.bytes_in
                bytes_out += channel.bytes_out
        return bytes_in, bytes_out

    def _drop(self) -> None:
        """Close what there is of connections; the link itself goes on."""
        for connection in (self._current, self._standby):
            if connection is not None:
                self._retire(connection)
        self._current = self._standby = None
        self.link.detach()
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """End the link for good; whatever it still held is dropped."""
        self._drop()
        self.link.end()

    def hear_out(self) -> None:
        """Take in what has arrived already, up to the end of the connection if that is there."""
        for connection in (self._standby, self._current):
            for channel in () if connection is None else connection.channels:
                channel.drain()

    async def wait_closed(self) -> None:
        """Wait until nothing of the connections that this link ever had runs any more."""
        retired, self._retired = self._retired, []
        for channel in retired:
            await channel.wait_closed()

    # Sending.

    def offer(self, lane: int, body: Body) -> int:
        """Accept ``body`` on ``lane`` and see to it that it is written; return its number."""
        stream = self.link.lanes[lane]
        if self._lone and not self._flush_scheduled and self._goes_alone(body):
            current = self._current
            assert current is not None
            assert isinstance(body, bytes)
            current.data.write([self.link.offer_alone(lane, body)])
            return stream.last
        number = stream.offer(body)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._offered = number - 1 + self.link.lanes[CALLS - lane].last
            self._loop.call_soon(self._flush_turn)
        elif stream.unsent_size >= (_WORTH_A_WRITE if lane == MESSAGES else 1):
            # The peer can begin with this; with much less, its waking up would cost more than it wins. It has more to
            # do for a call than for a message, so one batch of calls, which are fewer, will do.
            self._flush()
        return number

    def _goes_alone(self, body: Body) -> bool:
        """Whether a message is to be written this moment: it is alone, as far as one can know, and nothing waits."""
        now = self._loop.time()
        if now < self._lone_until:
            return False
        self._lone_until = now + _TOGETHER
        current = self._current
        if current is None or current.data.is_blocked or self.link.has_data:
            return False
        return type(body) is bytes and len(body) < _SHORT

    def consumed(self, lane: int, number: int) -> None:
        """The consumer is done with the messages of ``lane`` up to ``number``."""
        now = self._loop.time()
        if self.link.consumed(lane, number, now):
            self._flush_control()
        else:
            self._arm_for_ack(now)

    def settle_soon(self) -> None:
        """The consumer took messages that it has not reported as consumed: ask it when an acknowledgement is due."""
        now = self._loop.time()
        self.link.ack_soon(now)
        self._arm_for_ack(now)

    def _arm_for_ack(self, now: float) -> None:
        if self._timer is not None and self._due > now + ACK_DELAY:
            # It was set for the next ping; the acknowledgement is due earlier.
            self._cancel_timer()
        if self._timer is None:
            self._arm()

    def probe(self) -> None:
        """Ask the peer now whether it is there."""
        self.link.probe(self._loop.time())
        self._cancel_timer()
        self._flush_control()

    def say_goodbye(self) -> None:
        """Tell the peer that nothing more will come, after all that was accepted."""
        self._flush()
        if self._current is not None:
            self._current.control.write([self.link.goodbye()])

    def _flush_turn(self) -> None:
        self._flush_scheduled = False
        self._lone = self.link.lanes[MESSAGES].last + self.link.lanes[CALLS].last - self._offered <= 1
        self._flush()

    def _flush(self) -> None:
        if self._current is not None:
            data, link = self._current.data, self.link
            while link.has_data and not data.is_blocked:
                data.write(link.data_to_send(_BUDGET))
        self._flush_control()

    def _flush_control(self) -> None:
        # What waits in the core while the channel is blocked is bounded: one ACK a lane, one PING, one PONG.
        current = self._current
        if self.link.has_control and current is not None and not current.control.is_blocked:
            self.link.written, self.link.arrived = current.data.bytes_out, current.data.bytes_in
            current.control.write([self.link.control_to_send()])
        if self._timer is None:
            self._arm()

    # Time.

    def _arm(self) -> None:
        deadline = self.link.deadline()
        if deadline is not None:
            self._due = deadline
            self._timer = self._loop.call_at(deadline, self._tick, deadline)

    def _tick(self, deadline: float) -> None:
        self._timer = None
        self._owner.settle()
        # A timer may fire a little early; to the core it never does.
        self._handle(self.link.tick(max(deadline, self._loop.time())))
        self._flush_control()

    # Told by the channels.

    def frames_arrived(self, channel: Channel, frames: list[Frame]) -> None:
        """Hand what arrived to the core, and what it makes of it to the owner."""
        if self._standby is not None and channel not in self._standby.channels:
            self._release_standby()
        self._handle(self.link.receive(frames, self._loop.time()))
        if self._timer is None or self.link.has_control:
            self._flush_control()

    def bytes_arrived(self) -> None:
        """Any byte is life, also one of a message that takes long to arrive."""
        if self.link.liveness is not None:
            self._handle(self.link.receive((), self._loop.time()))
            if self.link.has_control:
                self._flush_control()

    def _release_standby(self) -> None:
        """The peer has taken the new connection over: take in what it wrote on the old one, and close that."""
        standby, self._standby = self._standby, None
        if standby is not None:
            for channel in standby.channels:
                channel.drain()
            self._retire(standby)

    def channel_writable(self, channel: Channel) -> None:
        """Write on."""
        if self._current is None:
            return
        if channel is self._current.data:
            self._flush()
        elif channel is self._current.control:
            self._flush_control()

    def channel_lost(self, channel: Channel, reason: str, *, broken: bool) -> None:
        """Take in what the other channel still holds, then do without the connection."""
        current, standby = self._current, self._standby
        connection = next((c for c in (current, standby) if c is not None and channel in c.channels), None)
        if connection is None:
            return
        channel.close()
        connection.other(channel).drain()
        if connection is self._standby:
            self._standby = None
            self._retire(connection)
        elif connection is self._current:
            self._fail(reason, broken=broken)

    def _fail(self, reason: str, *, broken: bool) -> None:
        """The current connection is lost: go back to the one before if that is still good, else tell the owner."""
        if self._current is None:
            return
        if self._standby is not None and not broken:
            self._retire(self._current)
            self._current, self._standby = self._standby, None
            self._take_over(self.link.acknowledged)
            self._flush()
            return
        self._drop()
        self._owner.connection_lost(reason, broken=broken)

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            if self.link.state is LinkState.OVER:
                return
            if type(event) is Delivered:
                self._owner.delivered(event.lane, event.first, event.bodies)
            elif type(event) is WindowOpened:
                if event.lane == MESSAGES:
                    self._owner.window_opened()
                else:
                    self._owner.calls_taken()
            elif type(event) is Failed:
                self._fail(event.reason, broken=event.broken)
            elif type(event) is RoundTrip:
                self._owner.round_trip(event.rtt)
            elif type(event) is Suspected:
                self._owner.suspected()
            elif type(event) is Recovered:
                self._owner.recovered()
            else:
                self._owner.left()
