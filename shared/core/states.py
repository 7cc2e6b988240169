"""The states of a managed connection, why they change, and which changes there are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ConnectionState(StrEnum):
    """Where a managed connection stands."""

    DISCONNECTED = "disconnected"  # nobody asked for a connection, or it was given up
    CONNECTING = "connecting"  # asked for, and no endpoint has answered yet
    HANDSHAKE = "handshake"  # an endpoint answered; who it is, is being found out
    ESTABLISHED = "established"
    DEGRADED = "degraded"  # the connection fell silent; or it is gone, and the next try waits for its time
    SWITCHING = "switching"  # a new connection takes the session over
    RECONNECTING = "reconnecting"  # the link lives on without a connection, and one is being looked for
    FAILED = "failed"  # the peer refused for good
    CLOSED = "closed"


class ConnectionCause(StrEnum):
    """Why the state changed."""

    MANUAL = "manual"
    DIAL_STARTED = "dial-started"
    DIAL_SUCCEEDED = "dial-succeeded"
    DIAL_FAILED = "dial-failed"
    HANDSHAKE_STARTED = "handshake-started"
    HANDSHAKE_COMPLETED = "handshake-completed"
    HEARTBEAT_RECOVERED = "heartbeat-recovered"
    HEARTBEAT_MISS = "heartbeat-miss"
    TRANSPORT_ERROR = "transport-error"
    OS_NETWORK_EVENT = "os-network-event"
    RESUME_ATTEMPT = "resume-attempt"
    RESUME_SUCCEEDED = "resume-succeeded"
    RESUME_REJECTED = "resume-rejected"
    BACKOFF_ELAPSED = "backoff-elapsed"
    SWITCH_STARTED = "switch-started"
    SWITCH_COMPLETED = "switch-completed"
    PEER_LEFT = "peer-left"
    DISPOSAL = "disposal"


@dataclass(frozen=True, slots=True)
class StateChange:
    """One change of state; ``evidence`` is for people, ``at`` is monotonic seconds."""

    previous: ConnectionState
    current: ConnectionState
    cause: ConnectionCause
    evidence: str
    at: float


_S = ConnectionState
_ANYTIME = {_S.DISCONNECTED, _S.FAILED, _S.CLOSED}

UP = frozenset({_S.ESTABLISHED, _S.SWITCHING})
"""States in which a connection that is thought to work carries the link."""

TRANSITIONS: dict[ConnectionState, set[ConnectionState]] = {
    _S.DISCONNECTED: {_S.CONNECTING, _S.CLOSED},
    _S.CONNECTING: {_S.HANDSHAKE, *_ANYTIME},
    _S.HANDSHAKE: {_S.CONNECTING, _S.DEGRADED, _S.SWITCHING, _S.ESTABLISHED, *_ANYTIME},
    _S.ESTABLISHED: {_S.DEGRADED, _S.SWITCHING, *_ANYTIME},
    _S.DEGRADED: {_S.RECONNECTING, _S.SWITCHING, _S.ESTABLISHED, *_ANYTIME},
    _S.SWITCHING: {_S.ESTABLISHED, _S.DEGRADED, *_ANYTIME},
    _S.RECONNECTING: {_S.HANDSHAKE, _S.DEGRADED, _S.ESTABLISHED, *_ANYTIME},
    _S.FAILED: {_S.CONNECTING, _S.DISCONNECTED, _S.CLOSED},
    _S.CLOSED: set(),
}
"""What is not in here does not happen.

    DISCONNECTED ─▶ CONNECTING ─▶ HANDSHAKE ─▶ ESTABLISHED ◀──────────────┐
                        ▲            │           │  ▲  ▲                  │
                        └────────────┘           │  │  └── SWITCHING ◀── HANDSHAKE
                                                 ▼  │       (resuming)    ▲
                                             DEGRADED ◀──▶ RECONNECTING ──┘

    and from everywhere: DISCONNECTED (given up, or asked for), FAILED (refused for good), CLOSED
"""
