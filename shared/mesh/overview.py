"""How the links of a node are, for whoever looks. Pure: what is kept of peers in, rows out."""

from __future__ import annotations

from collections.abc import Iterable

from ..control.links import MAX_FAILURE, MAX_PHI, LinkStatus, LinkTotals
from ..core.roster import NodeStatus
from ..core.states import ConnectionState
from .parties import NO_PATH
from .peer import Peer


def overview(peers: Iterable[Peer], past: LinkTotals, now: float) -> tuple[LinkTotals, tuple[LinkStatus, ...]]:
    """Return what all links carried, ``past`` being what those did that are over, and a row for each of ``peers``."""
    rows = tuple(_row(peer, now) for peer in peers)
    return past.plus(*rows), rows


def carried(peer: Peer) -> LinkTotals:
    """Return what the link to ``peer`` has carried, if there is one."""
    return LinkTotals() if peer.handle is None else LinkTotals(*peer.handle.carried(), peer.reconnects)


def state_of(peer: Peer) -> ConnectionState:
    """Return in which state the link to ``peer`` is, as far as a mesh knows such states.

    CLOSED: it is stopped, failed or parked. DISCONNECTED: it is dead, or does not listen yet, and nobody dials. A dial
    under way is CONNECTING or RECONNECTING, the pause between two of them CONNECTING or DEGRADED.
    """
    handle, record = peer.handle, peer.record
    if record.status is NodeStatus.GONE:
        return ConnectionState.CLOSED
    if peer.is_doomed:
        return ConnectionState.DISCONNECTED
    if handle is None:
        return ConnectionState.CONNECTING if record.is_listening else ConnectionState.DISCONNECTED
    if not handle.is_attached:
        return ConnectionState.RECONNECTING if peer.dial is not None else ConnectionState.DEGRADED
    return ConnectionState.DEGRADED if handle.is_suspect else ConnectionState.ESTABLISHED


def _row(peer: Peer, now: float) -> LinkStatus:
    reason, failed_at = peer.failure or ("", None)
    failed = None if failed_at is None else _ago(failed_at, now)
    name, state, age = peer.record.name, state_of(peer), _ago(peer.changed_at, now)
    handle = peer.handle
    if handle is None:
        return LinkStatus(name, 0, state, age, failure=reason[:MAX_FAILURE], failed=failed)
    path, srtt = NO_PATH, None
    if handle.is_attached:
        path = handle.path(now)
        srtt = peer.rtt if path.srtt is None else path.srtt
    return LinkStatus(
        name,
        handle.incarnation,
        state,
        age,
        None if srtt is None else round(srtt, 6),
        None if path.rttvar is None else round(path.rttvar, 6),
        round(min(path.phi, MAX_PHI), 3),
        *handle.carried(),
        handle.unacknowledged,
        peer.reconnects,
        reason[:MAX_FAILURE],
        failed,
    )


def _ago(at: float, now: float) -> float:
    return round(max(0.0, now - at), 3)
