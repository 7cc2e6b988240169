"""What one node of a mesh keeps of another one."""

from __future__ import annotations

import asyncio

import msgspec

from ..core.handshake import Identity
from ..core.peering import Standing
from ..core.retry import Backoff
from ..core.roster import NodeRecord
from .connection import ConnectionHandle
from .direct import DirectDial
from .shelf import Shelf


class Peer:
    """What this node knows of another one."""

    def __init__(self, record: NodeRecord, now: float) -> None:
        self.standing = Standing(record)
        self.handle: ConnectionHandle | None = None
        self.is_doomed = False  # the process behind the handle is dead; its last words are still being read
        self.is_announced = False  # peer_up was called for the handle
        self.counted = (0, 0)  # what it adds to how many are linked, and to how many could be, as last counted
        self.shelf: Shelf | None = None  # what came on the handle, while it must not be announced
        self.attached_at = 0.0  # when the latest connection was established, by whoever dialled
        self.changed_at = now  # when the link came up, or went
        self.has_lost = False  # the handle's connection, and has had no other since
        self.reconnects = 0  # of the handle
        self.rtt: float | None = None  # of the handshake, if it was we who dialled the latest connection
        self.failure: tuple[str, float] | None = None  # why a connection was lost or not to be had, and when
        self.dialled_at: float | None = None  # when our own dial established the current connection
        self.dial: asyncio.Task[None] | DirectDial | None = None
        self.timer: asyncio.Handle | None = None
        self.patience = 0  # how often the planned dial may still be put off, for the peer's own
        self.is_barred = False  # the timer waits for the end of a penalty
        self.backoff = Backoff(0.05, 5.0)
        self.waiters: dict[asyncio.Future[None], None] = {}  # in the order of their arrival

    @property
    def record(self) -> NodeRecord:
        """What the roster says of it."""
        return self.standing.record

    @property
    def epochs(self) -> tuple[int, int]:
        """The names of its process: the one that the roster has, and the one that is linked."""
        return self.record.epoch, (self.record if self.handle is None else self.handle).epoch

    def identify(self, claimed: Identity) -> Identity:
        """Return who ``claimed`` is by the roster: a spare learns later than others that it has taken a place."""
        record = self.record
        if claimed.epoch != record.epoch:
            return claimed
        return msgspec.structs.replace(claimed, node=record.name, incarnation=record.incarnation)

    def take_link(self, spare: Peer, incarnation: int) -> None:
        """Have the link that ``spare`` has: it has become that ``incarnation`` of this peer."""
        assert spare.handle is not None
        spare.handle.rename(self.record.name, incarnation)
        self.handle, self.shelf = spare.handle, spare.shelf
        self.attached_at, self.dialled_at = spare.attached_at, spare.dialled_at
        self.changed_at, self.has_lost, self.reconnects = spare.changed_at, spare.has_lost, spare.reconnects
        self.rtt = spare.rtt
        spare.handle = spare.shelf = None

    def attached(self, now: float) -> None:
        """A connection carries the link (again)."""
        self.attached_at = self.changed_at = now
        self.reconnects += self.has_lost
        self.has_lost = False

    def lost(self, reason: str, now: float) -> None:
        """The link has lost its connection."""
        self.has_lost, self.changed_at = True, now
        self.failed(reason, now)

    def failed(self, reason: str, now: float) -> None:
        """A connection was lost, or not to be had."""
        self.failure = (reason, now)

    def left_alone(self, reason: str, now: float) -> None:
        """It was not even dialled; if something is known against it since it went, that tells more."""
        if self.failure is None or self.failure[1] < self.changed_at:
            self.failed(reason, now)

    def forget_link(self, now: float) -> None:
        """Have no link any more: that incarnation of it is over."""
        self.handle, self.is_doomed, self.is_announced, self.dialled_at = None, False, False, None
        self.shelf = self.rtt = None
        self.has_lost, self.reconnects, self.changed_at = False, 0, now

    def cancel_dial(self) -> None:
        """Dial it neither now nor later, until that is planned again."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
            self.is_barred = False
        if self.dial is not None:
            self.dial.cancel()
            self.dial = None

    def wake(self) -> None:
        """Let those who wait for a link look again."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
