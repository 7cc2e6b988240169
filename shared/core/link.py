"""A link as bytes and time: the session, and the connection that carries it at the moment.

The driver attaches a connection after its handshake, feeds what arrives, writes what ``control_to_send`` and
``data_to_send`` return, and calls ``tick`` at ``deadline``. Detaching loses nothing: the next connection resumes.

                 attach                    detach
    DETACHED ───────────▶ ATTACHED ─────────────────▶ DETACHED        (any number of times)
        │                     │
        └──────── end ────────┴──────▶ OVER                           (for good)
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from . import frames
from .frames import BATCH, CALLS, MESSAGES, SINGLE, Frame, Kind
from .liveness import Health, Heartbeat, Liveness
from .passage import Passage
from .retry import Dice
from .session import Body, Lane, Limits, ProtocolFault

ACK_DELAY = 0.02
"""How long, in seconds, an acknowledgement may wait for more to acknowledge."""

CALLS_LIMITS = Limits(size=128 * 1024 * 1024)
"""What may arrive on the calls lane between two acknowledgements, whatever the window of the messages is.

That lane has no window at its sender: whoever posts bounds what is under way. What is read at once must have room here:
one body of any length, and whatever comes right behind it.
"""

CALLS_BATCH = 32
"""Calls, or replies, in a batch: the other side can begin with these while further ones are made."""

_MAX_ENTRIES = 256
"""How many entries go out in one write: each takes two of the at most 1,024 buffers of a ``sendmsg``."""


class LinkState(StrEnum):
    """Whether a connection carries the link."""

    DETACHED = "detached"
    ATTACHED = "attached"
    OVER = "over"


class Delivered(NamedTuple):
    """Messages ``first``, ``first + 1``... of ``lane`` arrived, new and in order."""

    lane: int
    first: int
    bodies: list[bytes | bytearray]


class WindowOpened(NamedTuple):
    """There may be room again for messages on ``lane``."""

    lane: int


class Failed(NamedTuple):
    """The connection cannot go on, and the link is detached from it; the driver closes it.

    ``broken`` if the peer broke a rule. There is one of these per connection at the most, after all that was good.
    """

    reason: str
    broken: bool


class Left(NamedTuple):
    """The peer said goodbye, and everything it ever sent has been delivered."""


class Suspected(NamedTuple):
    """The peer is late, and did not answer a probe in time."""


class Recovered(NamedTuple):
    """A suspected peer was heard again."""


class RoundTrip(NamedTuple):
    """A ping was answered after ``rtt`` seconds."""

    rtt: float


Event = Delivered | WindowOpened | Failed | Left | Suspected | Recovered | RoundTrip


class Link:
    """One link between two incarnations; see the module for how it is driven."""

    def __init__(
        self,
        limits: Limits,
        peer_limits: Limits | None = None,
        *,
        heartbeat: Heartbeat | None = None,
        dice: Dice | None = None,
    ) -> None:
        self.lanes = (Lane(limits, peer_limits), Lane(CALLS_LIMITS, batch_messages=CALLS_BATCH))
        self.state = LinkState.DETACHED
        self.liveness: Liveness | None = None  # of the current path, or the latest
        self.written = 0  # bytes written to the data channel of the current connection: the driver tells
        self.arrived = 0  # bytes that arrived on it: the driver tells
        self._passage: Passage | None = None
        self.silence: float | None = None  # how long the peer had been silent when a connection was given up for it
        self._heartbeat = heartbeat
        self._dice = dice
        self._ack_at: float | None = None
        self._told = 0  # writes to the control channel
        self._said = 0  # how much had been said on either channel when that was last looked at
        self._speak_at = 0.0  # when it is looked at next
        self._half_interval = 0.0 if heartbeat is None else heartbeat.interval / 2
        self._pongs: list[int] = []
        self._parting: tuple[int, int] | None = None  # the last number of each lane, once the peer said goodbye

    @property
    def received(self) -> tuple[int, int]:
        """What has been received on each lane: the handshake tells it to the peer."""
        return self.lanes[MESSAGES].received, self.lanes[CALLS].received

    @property
    def acknowledged(self) -> tuple[int, int]:
        """What the peer has acknowledged on each lane."""
        return self.lanes[MESSAGES].acknowledged, self.lanes[CALLS].acknowledged

    def check_resume(self, received: tuple[int, int]) -> None:
        """Check what a peer that wants to resume says that it has received.

        Raises:
            ProtocolFault: If it cannot be true.
        """
        for lane, number in zip(self.lanes, received, strict=True):
            lane.check_resume(number)

    def attach(
        self,
        received: tuple[int, int],
        now: float,
        peer_limits: Limits | None = None,
        *,
        rtt: float | None = None,
    ) -> None:
        """Begin with a new connection; ``received`` is what the peer said that it has, and ``check_resume`` passed.

        What is known of the old path says nothing about the new one; ``rtt`` is the handshake's round trip.

        Raises:
            RuntimeError: If the link is over; nothing brings it back.
        """
        if self.state is LinkState.OVER:
            raise RuntimeError("the link is over: a new connection needs a new one")
        for lane, number in zip(self.lanes, received, strict=True):
            lane.resume(number)
        if peer_limits is not None:
            self.lanes[MESSAGES].peer_limits = peer_limits
        self.state = LinkState.ATTACHED
        if self._heartbeat is not None:
            self.liveness = Liveness(self._heartbeat, now, self._dice, first_rtt=rtt)
            self._passage = Passage(self._heartbeat.interval, self._heartbeat.timeout, now)
            self._speak_at = now + self._half_interval
        self.written = self.arrived = 0
        self._pongs.clear()
        self._ack_at = None

    def detach(self) -> None:
        """The connection is gone; the session waits for another one."""
        if self.state is LinkState.ATTACHED:
            self.state = LinkState.DETACHED

    def end(self) -> None:
        """The session is over; nothing more is sent or received."""
        self.state = LinkState.OVER
        for lane in self.lanes:
            lane.forget()

    # Fed by the driver.

    def receive(self, arrived: Iterable[Frame], now: float) -> list[Event]:
        """Take frames from either channel in and return what they mean."""
        events: list[Event] = []
        if self.state is not LinkState.ATTACHED:
            return events
        if self.liveness is not None and self.liveness.heard(now):
            events.append(Recovered())
        try:
            for frame in arrived:
                if frame.kind == SINGLE or frame.kind == BATCH:
                    self._receive_messages(frame, events, now)
                else:
                    self._receive_control(frame, events, now)
        except ProtocolFault as fault:
            events.append(self._fail(str(fault), broken=True))
        if now >= self._speak_at and self.liveness is not None:
            self._speak_up(self.liveness, now)
        return events

    def _speak_up(self, liveness: Liveness, now: float) -> None:
        """Ask the peer something if nothing was said to it for half an interval, though it speaks.

        It may hear nothing else: while it sends a long message there is nothing to acknowledge, and where the way is
        narrow, what it asks waits behind that message, though the way back is free.
        """
        said = self._told + sum(lane.sent for lane in self.lanes)
        if said == self._said and not self.has_control:
            liveness.ask(now)
            said += 1  # what is asked here is no reason to be silent the next time
        self._said = said
        self._speak_at = now + self._half_interval

    def _fail(self, reason: str, *, broken: bool) -> Failed:
        self.detach()
        return Failed(reason, broken=broken)

    def _receive_messages(self, frame: Frame, events: list[Event], now: float) -> None:
        lane = self.lanes[frame.lane]
        news = lane.accept(frame)
        if news is not None:
            events.append(Delivered(frame.lane, *news))
        if frame.ack > lane.acknowledged:
            self._acknowledged(frame, events, now)
        if self._parting is not None:
            self._check_parting(events)

    def _acknowledged(self, frame: Frame, events: list[Event], now: float) -> None:
        if self.lanes[frame.lane].acknowledge(frame.ack):
            events.append(WindowOpened(frame.lane))
            if self._passage is not None:
                self._passage.moved(now)

    def _receive_control(self, frame: Frame, events: list[Event], now: float) -> None:
        if frame.kind == Kind.ACK:
            self._acknowledged(frame, events, now)
        elif frame.kind == Kind.PING:
            # One answer for all pings of one batch of frames: a flood of pings is not answered by a flood.
            self._pongs = [frame.number]
        elif frame.kind == Kind.PONG:
            self._receive_pong(frame, events, now)
        else:
            assert frame.kind == Kind.GOODBYE, frame.kind
            self._parting = (frame.number, frame.ack)
            self._check_parting(events)

    def _receive_pong(self, frame: Frame, events: list[Event], now: float) -> None:
        if self.liveness is None or self._passage is None:
            return
        rtt = self.liveness.ponged(frame.number, now)
        if rtt is not None:
            events.append(RoundTrip(rtt))
            self._passage.answered(frame.number, frame.ack, now, rtt)

    def _check_parting(self, events: list[Event]) -> None:
        parting = self._parting
        if parting is not None and all(lane.received >= last for lane, last in zip(self.lanes, parting, strict=True)):
            self._parting = None
            events.append(Left())

    def consumed(self, lane: int, number: int, now: float) -> bool:
        """The consumer is done with all messages of ``lane`` up to ``number``; return whether an ACK is due now."""
        stream = self.lanes[lane]
        stream.consume(number)
        if stream.ack_due:
            return True
        if self._ack_at is None and stream.owes_ack:
            self._ack_at = now + ACK_DELAY
        return False

    def ack_soon(self, now: float) -> None:
        """Something is being consumed: have ``tick`` called when an acknowledgement of it may be due."""
        if self._ack_at is None and self.state is LinkState.ATTACHED:
            self._ack_at = now + ACK_DELAY

    def tick(self, now: float) -> list[Event]:
        """Do what is due at ``now``; calling it early or twice changes nothing."""
        if self.state is not LinkState.ATTACHED:
            return []
        if self._ack_at is not None and now >= self._ack_at:
            # From here on it is due and has no deadline: while nothing can be written, there is nothing to wake for.
            self._ack_at = None
            for lane in self.lanes:
                lane.ack_due = lane.owes_ack
        if self.liveness is None or self._passage is None:
            return []
        return self._check_passage(self._passage, self.liveness, now) or self._check_health(self.liveness, now)

    def _check_passage(self, passage: Passage, liveness: Liveness, now: float) -> list[Event]:
        if passage.is_stuck:
            return [self._fail("what is written to the data channel does not arrive", broken=False)]
        if now >= passage.ask_at:
            if self._is_under_way:
                liveness.ask(now)
                passage.ask_later(now)
            else:
                passage.moved(now)
        return []

    @property
    def _is_under_way(self) -> bool:
        return any(lane.sent > lane.acknowledged for lane in self.lanes)

    def _check_health(self, liveness: Liveness, now: float) -> list[Event]:
        before = liveness.health
        health = liveness.tick(now)
        if health is Health.LOST:
            self.silence = liveness.silence(now)
            return [self._fail(f"nothing was heard for {self.silence:.3f} s", broken=False)]
        if health is Health.SUSPECT and before is not health:
            return [Suspected()]
        return [Recovered()] if before is Health.SUSPECT and health is Health.HEALTHY else []

    def probe(self, now: float) -> None:
        """Ask the peer now, whatever the time."""
        if self.liveness is not None and self.state is LinkState.ATTACHED:
            self.liveness.ask(now)

    # Asked by the driver.

    def deadline(self) -> float | None:
        """Return when ``tick`` wants to be called next."""
        if self.state is not LinkState.ATTACHED:
            return None
        if self.liveness is None or self._passage is None:
            return self._ack_at
        at = self.liveness.deadline()
        if self._is_under_way:
            at = min(at, self._passage.ask_at)
        return at if self._ack_at is None else min(at, self._ack_at)

    @property
    def has_control(self) -> bool:
        """Whether there is anything to write to the control channel."""
        messages, calls = self.lanes
        liveness = self.liveness
        return messages.ack_due or calls.ack_due or bool(self._pongs) or (liveness is not None and liveness.is_ping_due)

    def control_to_send(self) -> bytes:
        """Return what is to be written to the control channel now."""
        out = b""
        for number, lane in enumerate(self.lanes):
            if lane.ack_due:
                out += frames.encode(Kind.ACK, lane=number, ack=lane.tell())
        if self._ack_at is not None and not any(lane.owes_ack for lane in self.lanes):
            self._ack_at = None
        for answer in self._pongs:
            out += frames.encode(Kind.PONG, number=answer, ack=self.arrived)
        self._pongs.clear()
        if self.liveness is None or self._passage is None:
            return out
        nonce = self.liveness.ping_to_send()
        if nonce is not None:
            out += frames.encode(Kind.PING, number=nonce)
            self._passage.asked(nonce, self.written)
        self._told += bool(out)
        return out

    @property
    def has_data(self) -> bool:
        """Whether there is anything to write to the data channel."""
        messages, calls = self.lanes
        return messages.has_unsent or calls.has_unsent

    def data_to_send(self, budget: int) -> list[Body]:
        """Return buffers for the data channel, calls before messages, until they pass ``budget`` bytes."""
        out: list[Body] = []
        for number in (CALLS, MESSAGES):
            lane = self.lanes[number]
            while lane.has_unsent and budget > 0 and len(out) < 2 * _MAX_ENTRIES:
                entry = lane.take()
                assert entry is not None
                size = len(entry.body)
                count = entry.last - entry.first + 1
                out.append(frames.encode_header(size, entry.kind, number, count, entry.first, lane.consumed))
                out.append(entry.body)
                budget -= size + frames.HEADER_SIZE
        return out

    def offer_alone(self, number: int, body: bytes) -> bytes:
        """Accept ``body`` on lane ``number`` and return the frame to write; nothing else waits to be written.

        The same as ``offer`` and ``data_to_send``, for the message that has no company, in a quarter of the time.
        """
        lane = self.lanes[number]
        entry = lane.offer_alone(body)
        return frames.encode_header(entry.size, SINGLE, number, 1, entry.last, lane.consumed) + body

    def confirmation(self) -> bytes:
        """Return what the dialling side writes first: it tells the accepting side that the connection is taken."""
        return frames.encode(Kind.ACK, lane=MESSAGES, ack=self.lanes[MESSAGES].tell())

    def goodbye(self) -> bytes:
        """Return the frame that tells the peer what the last numbers are, after the last acknowledgements (R25)."""
        owed = [(number, lane) for number, lane in enumerate(self.lanes) if lane.owes_ack]
        acks = b"".join(frames.encode(Kind.ACK, lane=number, ack=lane.tell()) for number, lane in owed)
        return acks + frames.encode(Kind.GOODBYE, number=self.lanes[MESSAGES].last, ack=self.lanes[CALLS].last)

    @property
    def is_drained(self) -> bool:
        """Whether everything accepted has been acknowledged."""
        return all(lane.acknowledged == lane.last for lane in self.lanes)

    def has_room(self, lane: int, body: Body) -> bool:
        """Return whether ``body`` fits into the window of ``lane``."""
        return self.lanes[lane].has_room(len(body))
