"""Who dials whom, who is let in, and which incarnation of a peer is over: the decisions of a mesh about one peer."""

from __future__ import annotations

import hashlib

from .handshake import Identity
from .roster import NodeRecord, NodeStatus

NEWCOMER_GRACE = 0.25
"""Seconds that a node waits for the dial of a newcomer before it dials itself."""

REDIAL_LOWER = 0.02
"""Seconds until the lower node of a pair dials again after a connection broke; the higher one waits the grace."""


class Standing:
    """What the roster says of one peer, and up to which incarnation it is known to be over."""

    def __init__(self, record: NodeRecord) -> None:
        self.record = record
        self.buried = 0
        self._conclude(None)

    def update(self, record: NodeRecord) -> bool:
        """Take news in; return whether the peer has begun to listen (again)."""
        old, self.record = self.record, record
        self._conclude(old)
        return record.is_listening and not (old.is_listening and old.epoch == record.epoch)

    def bury(self, incarnation: int) -> None:
        """Take note that ``incarnation`` is over, and with it all before."""
        self.buried = max(self.buried, incarnation)

    def is_current(self, identity: Identity, linked: int) -> bool:
        """Return whether an authenticated peer is the living incarnation; ``linked`` is the latest one linked.

        The news of an incarnation can be slower than the incarnation itself, so a newer one is believed.
        """
        if identity.incarnation <= self.buried or identity.incarnation < linked:
            return False
        return identity.incarnation > self.record.incarnation or identity.epoch == self.record.epoch

    def _conclude(self, old: NodeRecord | None) -> None:
        record = self.record
        went_down = (
            old is not None
            and old.incarnation == record.incarnation
            and old.is_listening
            and record.status is NodeStatus.DOWN
        )
        is_over = went_down or record.status is NodeStatus.GONE
        self.bury(record.incarnation if is_over else record.incarnation - 1)


def courtesy(me: str, other: str, *, newcomer_is_other: bool, together: bool) -> float:
    """Return how many seconds to leave the dial to the other node, which has just been listed as listening.

    Of any two nodes the newcomer dials. If both were announced in one breath (``together``), the lower id does.
    """
    if newcomer_is_other or (together and me > other):
        return NEWCOMER_GRACE
    return 0.0


def redial_delay(me: str, other: str) -> float:
    """Return how many seconds after the loss of a connection this node dials again."""
    return REDIAL_LOWER if me < other else NEWCOMER_GRACE


def session_id(one: Identity, other: Identity) -> bytes:
    """Return the id of the session between two incarnations: a function of the pair, known to both without asking.

    Of their epochs alone, which are names that never change: a spare keeps its links when it takes a node's name.
    """
    this, that = one.epoch.to_bytes(8, "big"), other.epoch.to_bytes(8, "big")
    pair = this + that if this <= that else that + this
    return hashlib.blake2b(b"meshvisor session" + pair, digest_size=16).digest()
