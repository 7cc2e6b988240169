"""Exactly once, in order, within one pair of incarnations: numbers, replay, acknowledgement and the window.

A ``Lane`` is one stream of messages in each direction. It outlives connections: what was sent and not acknowledged
stays until it is, and after a reconnect whatever the other side has not received is sent again. The unit is the
batch, not the message: one frame, one number check, one entry of the replay.

    sending      last ............ number of the latest message accepted by ``offer``
                 acknowledged .... the other side has consumed all messages up to here
                 the window ...... last - acknowledged, bounded in messages and bytes by ``Limits``
    receiving    received ........ all messages up to here were handed over, in order and without gaps
                 consumed ........ the consumer is done with all messages up to here

``received`` decides what a reconnect sends again; only ``consumed`` is acknowledged and opens the window. Numbers
start at 1 and have 64 bits: at a million messages a second they last half a million years (R6).

Rules R1-R5, R10-R14, R17, R18 and R22 of the reliability notes are kept here; their tests cite them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from .frames import BATCH, LARGE, SINGLE, Frame

BATCH_MESSAGES = 128
BATCH_BYTES = 32 * 1024
"""A batch ends with the message that makes it this long, or this many."""

LONGEST_BATCH = BATCH_BYTES + LARGE + 5 * BATCH_MESSAGES
"""No batch has a longer body, in bytes: one message below 64 KiB may come on top, and msgpack."""

Body = bytes | bytearray | memoryview


def view_of(body: object) -> memoryview:
    """Return a view of what is to be sent; raises TypeError, in words for whoever sends it, if that is no buffer."""
    try:
        return memoryview(body)  # type: ignore[arg-type]  # whether it is one is the question
    except TypeError:
        what = "a str; encode it" if isinstance(body, str) else f"a {type(body).__name__}"
        raise TypeError(f"a message must be bytes or another buffer, and not {what}") from None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be accepted and not yet acknowledged: messages, and bytes (a larger message goes alone)."""

    messages: int = 8192
    size: int = 4 * 1024 * 1024


class ProtocolFault(Exception):
    """The peer broke a rule of the protocol; the connection cannot go on. The text says which."""


class Entry(NamedTuple):
    """One batch on its way: messages ``first`` to ``last``, as the body of a frame of ``kind``."""

    first: int
    last: int
    size: int
    kind: int
    body: Body


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


class Lane:
    """One stream of messages in each direction; see the module for the meaning of the numbers."""

    __slots__ = (
        "_inbound",
        "_open_from",
        "_replay",
        "_unsent",
        "ack_due",
        "acknowledged",
        "batch_messages",
        "consumed",
        "duplicates",
        "fast_last",
        "fast_size",
        "inbound_size",
        "last",
        "limits",
        "open",
        "peer_limits",
        "received",
        "replayed",
        "sent",
        "size",
        "told",
        "unsent_size",
        "untold_size",
    )

    def __init__(
        self, limits: Limits, peer_limits: Limits | None = None, *, batch_messages: int = BATCH_MESSAGES
    ) -> None:
        self.batch_messages = batch_messages
        self.limits = limits
        self.peer_limits = peer_limits or limits
        self.last = 0
        self.acknowledged = 0
        self.size = 0  # bytes in the window
        self.open: list[bytes] = []  # messages of the batch being made: the last len(open) numbers
        self._open_from = 0  # ``size`` without them
        self.fast_last = -1
        self.fast_size = -1
        self._unsent: deque[Entry] = deque()  # made, and not yet on the current connection
        self.unsent_size = 0  # bytes in it
        self._replay: deque[Entry] = deque()  # on the current or an earlier connection, not acknowledged
        self.sent = 0  # number of the latest message that was ever written to a connection
        self.received = 0
        self.consumed = 0
        self.inbound_size = 0  # bytes received and not consumed
        self._inbound: deque[tuple[int, int]] = deque()  # (last number, bytes) of each batch not consumed
        self.told = 0  # the latest ``consumed`` that went out as an ACK frame
        self.untold_size = 0  # bytes consumed since then
        self.replayed = 0  # messages that were sent again
        self.duplicates = 0  # messages that came again and were dropped
        self.ack_due = False  # an ACK should go out now, not some time soon

    # Sending.

    def has_room(self, size: int) -> bool:
        """Return whether a message of ``size`` bytes fits into the window now."""
        if self.last - self.acknowledged >= self.limits.messages:
            return False
        return self.size + size <= self.limits.size or not self.size

    def offer(self, body: Body) -> int:
        """Accept ``body`` and return its number. The caller has asked ``has_room``.

        A body below 64 KiB is copied; a larger one is held as it is until it is acknowledged, and must not change.
        """
        size = len(body)
        self.last += 1
        if size >= LARGE:
            self.seal(self.last - 1)
            self._unsent.append(Entry(self.last, self.last, size, SINGLE, body))
            self.unsent_size += size
            self.size += size
            return self.last
        if not self.open:
            self._open_from = self.size
        self.open.append(body if type(body) is bytes else bytes(body))
        self.size += size
        if len(self.open) >= self.batch_messages or self.size - self._open_from >= BATCH_BYTES:
            self.seal()
        elif self.fast_last < 0:
            self._allow_fast()
        return self.last

    def offer_alone(self, body: bytes) -> Entry:
        """Accept ``body`` and take it in one step. The caller has asked ``has_room``, and nothing is unsent."""
        self.last = self.sent = number = self.last + 1
        size = len(body)
        self.size += size
        entry = Entry(number, number, size, SINGLE, body)
        self._replay.append(entry)
        return entry

    def _allow_fast(self) -> None:
        """Say how far the batch being made may be filled without asking anything else.

        Whoever adds a message numbered ``last + 1`` <= ``fast_last`` that makes ``size`` <= ``fast_size`` may append it
        to ``open`` and update ``last`` and ``size`` by itself. Everything unusual hides behind these two numbers: the
        window, the limits of a batch, and whatever sets ``fast_last`` to -1.
        """
        full_at = self.last - len(self.open) + self.batch_messages - 1
        self.fast_last = min(full_at, self.acknowledged + self.limits.messages)
        self.fast_size = min(self._open_from + BATCH_BYTES - 1, self.limits.size)

    def seal(self, last: int | None = None) -> None:
        """End the batch being made; ``last`` is its last number (the latest, unless one was given out since)."""
        bodies = self.open
        if not bodies:
            return
        last = self.last if last is None else last
        size = self.size - self._open_from
        if len(bodies) == 1:
            entry = Entry(last, last, size, SINGLE, bodies[0])
        else:
            entry = Entry(last - len(bodies) + 1, last, size, BATCH, _encode(bodies))
        self._unsent.append(entry)
        self.unsent_size += size
        self.open = []
        self.fast_last = -1

    @property
    def has_unsent(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._unsent or self.open)

    def take(self) -> Entry | None:
        """Return the next entry to write to the connection, or None; it stays here until it is acknowledged."""
        if not self._unsent:
            if not self.open:
                return None
            self.seal()
        entry = self._unsent.popleft()
        self.unsent_size -= entry.size
        self._replay.append(entry)
        if entry.last > self.sent:
            self.sent = entry.last
        return entry

    def acknowledge(self, number: int) -> bool:
        """Take note that the peer has consumed all up to ``number``; return whether the window opened.

        An acknowledgement lower than an earlier one is ignored (R5).

        Raises:
            ProtocolFault: If ``number`` was never sent (R4).
        """
        if number <= self.acknowledged:
            return False
        if number > self.sent:
            raise ProtocolFault(f"message {number} was acknowledged, but only {self.sent} were sent")
        self.acknowledged = number
        freed = 0
        while self._replay and self._replay[0].last <= number:
            freed += self._replay.popleft().size
        while self._unsent and self._unsent[0].last <= number:
            size = self._unsent.popleft().size
            self.unsent_size -= size
            freed += size
        self.size -= freed
        self._open_from -= freed
        self.fast_last = -1
        return True

    def check_resume(self, received: int) -> None:
        """Check what the peer says that it has received.

        Raises:
            ProtocolFault: If it claims more than was sent (R4).
        """
        if received > self.sent:
            raise ProtocolFault(f"the peer claims to have received message {received}, but only {self.sent} were sent")

    def resume(self, received: int) -> None:
        """Begin a new connection on which the peer says that it has received all messages up to ``received``.

        What it has not received is sent again, in order, before anything new (R1-R3). What it says may be older than
        an acknowledgement that came over another connection meanwhile; that one counts. The caller has asked
        ``check_resume``.
        """
        replay = self._replay
        while replay and replay[-1].last > received:
            entry = replay.pop()
            self.replayed += entry.last - entry.first + 1
            self.unsent_size += entry.size
            self._unsent.appendleft(entry)
        self.ack_due = self.ack_due or self.consumed > 0

    # Receiving.

    def accept(self, frame: Frame) -> tuple[int, list[bytes | bytearray]] | None:
        """Take a BATCH or SINGLE frame in; return its new messages and the number of the first, if there are any.

        What was received before is dropped, and acknowledged again (R12).

        Raises:
            ProtocolFault: If numbers are missing before it (R17, R18), if it is malformed, or if it exceeds the
                window that the sender announced (R22).
        """
        first = frame.number
        if frame.kind == SINGLE:
            bodies: list[bytes | bytearray] = [frame.body]
        else:
            try:
                bodies = _decode(frame.body)  # type: ignore[assignment]  # list is invariant, this one is not shared
            except msgspec.MsgspecError as error:
                raise ProtocolFault(f"a batch is malformed: {error}") from None
        if len(bodies) != frame.messages or not bodies:
            raise ProtocolFault(f"a batch of {len(bodies)} messages says that it has {frame.messages}")
        if not 0 < first <= self.received + 1:
            raise ProtocolFault(f"message {first} came, {self.received + 1} was expected")
        last = first + len(bodies) - 1
        if last <= self.received:
            self.duplicates += len(bodies)
            self.ack_due = True
            return None
        if first <= self.received:
            self.duplicates += self.received + 1 - first
            del bodies[: self.received + 1 - first]
            first = self.received + 1
        limits = self.peer_limits
        if last - self.consumed > limits.messages:
            raise ProtocolFault(f"the peer sent more than the {limits.messages} messages of its window")
        # Each message of a batch adds up to five bytes of msgpack to what the sender counted. What is nothing but that,
        # as of messages that are empty, leaves a window in which the sender may still send one message of any size.
        size = len(frame.body)
        overhead = 5 * limits.messages
        if self.inbound_size > overhead and self.inbound_size + size > limits.size + overhead:
            raise ProtocolFault(f"the peer sent more than the {limits.size} bytes of its window")
        self.received = last
        self.inbound_size += size
        self._inbound.append((last, size))
        return first, bodies

    def consume(self, number: int) -> None:
        """Take note that the consumer is done with all messages up to ``number``.

        An acknowledgement is due at once at a quarter of the sender's window, in messages or in bytes; it may wait a
        little otherwise.
        """
        if number <= self.consumed:
            return
        self.consumed = number
        inbound = self._inbound
        while inbound and inbound[0][0] <= number:
            size = inbound.popleft()[1]
            self.inbound_size -= size
            self.untold_size += size
        limits = self.peer_limits
        if number - self.told >= limits.messages >> 2 or self.untold_size >= limits.size >> 2:
            self.ack_due = True

    @property
    def owes_ack(self) -> bool:
        """Whether the peer has not yet been told of everything that was consumed."""
        return self.ack_due or self.consumed > self.told

    def tell(self) -> int:
        """Return the number to acknowledge, and take it as told."""
        self.told = self.consumed
        self.untold_size = 0
        self.ack_due = False
        return self.consumed

    # The end.

    def tail(self) -> tuple[int, int, int]:
        """Return the first, the last and the count of the messages that were accepted and never acknowledged."""
        return self.acknowledged + 1, self.last, self.last - self.acknowledged

    def forget(self) -> None:
        """Drop everything that waits to be sent or acknowledged: the session is over."""
        self.open.clear()
        self._unsent.clear()
        self._replay.clear()
        self.size = self._open_from = self.unsent_size = 0
        self.fast_last = -1
