"""What one node of a mesh keeps of another one."""

from __future__ import annotations

import asyncio

from ..core.peering import Standing
from ..core.retry import Backoff
from ..core.roster import NodeRecord
from .connection import ConnectionHandle


class Peer:
    """What this node knows of another one."""

    def __init__(self, record: NodeRecord) -> None:
        self.standing = Standing(record)
        self.handle: ConnectionHandle | None = None
        self.is_doomed = False  # the process behind the handle is dead; its last words are still being read
        self.is_announced = False  # peer_up was called for the handle
        self.attached_at = 0.0  # when the latest connection was established, by whoever dialled
        self.dialled_at: float | None = None  # when our own dial established the current connection
        self.dial: asyncio.Task[None] | None = None
        self.timer: asyncio.Handle | None = None
        self.patience = 0  # how often the planned dial may still be put off, for the peer's own
        self.is_barred = False  # the timer waits for the end of a penalty
        self.backoff = Backoff(0.05, 5.0)
        self.waiters: dict[asyncio.Future[None], None] = {}  # in the order of their arrival

    @property
    def record(self) -> NodeRecord:
        """What the roster says of it."""
        return self.standing.record

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
