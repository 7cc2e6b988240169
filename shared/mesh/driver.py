"""Where a link meets its connection and the loop's clock.

The core decides; this carries out: it writes what the core wants written, once per turn of the loop, keeps one timer
for the core's deadline, and hands the core's events to the link's owner. A message that comes alone, after others
that came alone, is written at once: waiting for company would only cost latency.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from ..core.frames import CALLS, CONTROL_KINDS, CONTROL_LIMIT, DATA_KINDS, MESSAGES, Frame
from ..core.link import Delivered, Event, Failed, Link, LinkState, WindowOpened
from ..core.session import Body, Limits
from ..transport.base import TransportConnection
from .channel import Channel, open_channel

_BUDGET = 256 * 1024
"""Bytes that are taken from the core for one write."""


class LinkOwner(Protocol):
    """Whoever owns the link and hears of what happens on it. Nothing here may raise."""

    def delivered(self, lane: int, first: int, bodies: list[bytes | bytearray]) -> None:
        """Messages ``first``, ``first + 1``... of ``lane`` arrived."""

    def window_opened(self) -> None:
        """There may be room for messages again."""

    def connection_lost(self, reason: str, *, broken: bool) -> None:
        """The connection is gone; the link waits for another one."""

    def left(self) -> None:
        """The peer said goodbye."""


class LinkDriver:
    """Drives one link; see the module."""

    def __init__(self, link: Link, owner: LinkOwner, *, max_message: int, scratch: memoryview) -> None:
        self.link = link
        self._owner = owner
        self._limit = max_message
        self._scratch = scratch
        self._loop = asyncio.get_running_loop()
        self._control: Channel | None = None
        self._data: Channel | None = None
        self._retired: list[Channel] = []
        self._timer: asyncio.TimerHandle | None = None
        self._flush_scheduled = False
        self._offered = 0  # messages since the latest flush
        self._lone = False  # the latest flush carried one message

    @property
    def is_attached(self) -> bool:
        """Whether a connection carries the link now."""
        return self._control is not None

    # The connection.

    def attach(
        self,
        connection: TransportConnection,
        received: tuple[int, int],
        peer_limits: Limits,
        *,
        greeting: bytes = b"",
    ) -> None:
        """Carry the link over ``connection`` from now on; an older one is closed (R26).

        ``greeting`` is written first. The core has checked ``received`` (``Link.check_resume``).
        """
        self._drop()
        self.link.attach(received, self._loop.time(), peer_limits)
        self._control = open_channel(connection.control, self, CONTROL_KINDS, CONTROL_LIMIT, self._scratch)
        self._data = open_channel(connection.data, self, DATA_KINDS, self._limit, self._scratch)
        self._control.start()
        self._data.start()
        if greeting:
            self._control.write([greeting])
        self._flush()

    def _drop(self) -> None:
        """Close the connection, if there is one; the link itself goes on."""
        for channel in (self._control, self._data):
            if channel is not None:
                channel.close()
                self._retired.append(channel)
        self._control = self._data = None
        self.link.detach()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """End the link for good; whatever it still held is dropped."""
        self._drop()
        self.link.end()

    async def wait_closed(self) -> None:
        """Wait until nothing of the connections that this link ever had runs any more."""
        for channel in self._retired:
            await channel.wait_closed()
        self._retired.clear()

    # Sending.

    def offer(self, lane: int, body: Body) -> int:
        """Accept ``body`` on ``lane`` and see to it that it is written; return its number."""
        number = self.link.lanes[lane].offer(body)
        self._offered += 1
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_turn)
            if self._lone and self._offered == 1:
                self._flush()
        return number

    def consumed(self, lane: int, number: int) -> None:
        """The consumer is done with the messages of ``lane`` up to ``number``."""
        if self.link.consumed(lane, number, self._loop.time()):
            self._flush_control()
        elif self._timer is None:
            self._arm()

    def say_goodbye(self) -> None:
        """Tell the peer that nothing more will come, after all that was accepted."""
        self._flush()
        if self._control is not None:
            self._control.write([self.link.goodbye()])

    @property
    def is_flushed(self) -> bool:
        """Whether everything to be written was handed over to the transport."""
        channels = (self._control, self._data)
        return not self.link.has_data and not any(channel is not None and channel.is_blocked for channel in channels)

    def _flush_turn(self) -> None:
        self._flush_scheduled = False
        self._lone = self._offered <= 1
        self._offered = 0
        self._flush()

    def _flush(self) -> None:
        data = self._data
        while data is not None and not data.is_blocked:
            buffers = self.link.data_to_send(_BUDGET)
            if not buffers:
                break
            data.write(buffers)
        self._flush_control()

    def _flush_control(self) -> None:
        # What waits in the core while the channel is blocked is bounded: one ACK a lane, one PING, one PONG.
        if self._control is not None and not self._control.is_blocked:
            out = self.link.control_to_send()
            if out:
                self._control.write([out])
        if self._timer is None:
            self._arm()

    # Time.

    def _arm(self) -> None:
        deadline = self.link.deadline()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._tick, deadline)

    def _tick(self, deadline: float) -> None:
        self._timer = None
        # A timer may fire a little early; to the core it never does.
        self._handle(self.link.tick(max(deadline, self._loop.time())))
        self._flush_control()

    # Told by the channels.

    def frames_arrived(self, channel: Channel, frames: list[Frame]) -> None:
        """Hand what arrived to the core, and what it makes of it to the owner."""
        self._handle(self.link.receive(frames, self._loop.time()))
        if self._data is not None and self.link.has_data and not self._flush_scheduled:
            self._flush()
        else:
            self._flush_control()

    def channel_writable(self, channel: Channel) -> None:
        """Write on."""
        if channel is self._data:
            self._flush()
        elif channel is self._control:
            self._flush_control()

    def channel_lost(self, channel: Channel, reason: str, *, broken: bool) -> None:
        """Take in what the other channel still holds, then do without the connection."""
        if channel is not self._control and channel is not self._data:
            return
        other = self._data if channel is self._control else self._control
        channel.close()
        if other is not None:
            other.drain()
        self._fail(reason, broken=broken)

    def _fail(self, reason: str, *, broken: bool) -> None:
        if self.is_attached:
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
            elif type(event) is Failed:
                self._fail(event.reason, broken=event.broken)
            else:
                self._owner.left()


__all__ = ["CALLS", "MESSAGES", "LinkDriver", "LinkOwner"]
