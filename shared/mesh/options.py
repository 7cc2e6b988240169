"""What a connection manager, a connection host and a mesh are told; wrong values are refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from ..core.endpoint import Endpoint
from ..core.handshake import MAX_METADATA
from ..core.liveness import Heartbeat

_MIB = 1024 * 1024
_MAY_BE_ZERO = frozenset(
    {
        "drain_timeout",
        "happy_eyeballs_delay",
        "happy_eyeballs_group_delay",
        "max_dials_per_minute_per_endpoint",
        "heartbeat_piggyback_grace",
        "session_expiry",
    }
)


_AT_MOST = {
    # What the handshake and the header of a frame can say.
    "max_queue_messages": 2**20,
    "max_queue_bytes": 2**30,
    "max_message": 2**32 - 1,
}


def _check_number(name: str, kind: str, value: object) -> None:
    """Refuse what is no number although the field ``name`` is declared as one, or none that makes sense.

    Raises:
        ValueError: Naming the field.
    """
    if kind not in ("int", "float", "float | None") or (value is None and kind == "float | None"):
        return
    if isinstance(value, bool) or not isinstance(value, int if kind == "int" else int | float):
        raise ValueError(f"{name} must be a{'n integer' if kind == 'int' else ' number'}, not {value!r}")
    if not math.isfinite(value) or value < 0 or (value == 0 and name not in _MAY_BE_ZERO):
        raise ValueError(f"{name} must be a positive number, not {value!r}")
    if name in _AT_MOST and value > _AT_MOST[name]:
        raise ValueError(f"{name} must be at most {_AT_MOST[name]}, not {value!r}")


def _check(options: ConnectionOptions | ConnectionHostOptions) -> None:
    """Refuse what cannot work.

    Raises:
        ValueError: Naming the field.
    """
    if not isinstance(options.node_id, str) or not 0 < len(options.node_id.encode()) <= 255:
        raise ValueError("node_id must be a text of 1 to 255 bytes")
    if not options.endpoints:
        raise ValueError("endpoints must name at least one endpoint")
    if not isinstance(options.secret, bytes | None):
        raise ValueError("secret must be bytes")
    for one in fields(options):
        _check_number(one.name, str(one.type), getattr(options, one.name))
    metadata = options.metadata or {}
    if not all(isinstance(item, str) for pair in metadata.items() for item in pair):
        raise ValueError("metadata must map texts to texts")
    if sum(len(item.encode()) for pair in metadata.items() for item in pair) > MAX_METADATA:
        raise ValueError(f"metadata must have at most {MAX_METADATA} bytes")
    if options.heartbeat_timeout <= options.heartbeat_interval:
        raise ValueError("heartbeat_timeout must be longer than heartbeat_interval")


def _parse(endpoints: Sequence[str | Endpoint]) -> tuple[Endpoint, ...]:
    if isinstance(endpoints, str):
        raise ValueError("endpoints must be a list of endpoints, not one text")
    try:
        return tuple(item if isinstance(item, Endpoint) else Endpoint.parse(item) for item in endpoints)
    except ValueError as error:
        raise ValueError(f"endpoints: {error}") from None


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """How to reach one peer. Durations in seconds, sizes in bytes.

    ``endpoints`` are texts or ``Endpoint``; those of lower ``priority`` are tried first. ``connect_timeout`` bounds
    ``connect`` as a whole (None: never), ``attempt_timeout`` one endpoint. ``secret`` must be the same on both sides.
    ``metadata`` is shown to the peer (its handle's ``metadata``). The pause between two rounds of dials is drawn from
    the soft back-off after the peer declined, from the hard one after it could not be reached; φ and ``grace`` are
    explained by ``Heartbeat``. A ``heartbeat_timeout`` must be longer than a round trip at the busiest time, with what
    waits before the narrowest point of the way, or a long message never gets through there. Without
    ``enable_session_resume`` every reconnect is a new session.

    Raises:
        ValueError: For an impossible value, naming the field.
    """

    node_id: str
    endpoints: Sequence[str | Endpoint]
    connect_timeout: float | None = 10.0
    attempt_timeout: float = 2.0
    happy_eyeballs_delay: float = 0.2
    happy_eyeballs_group_delay: float = 0.15
    max_concurrent_dials: int = 2
    max_dials_per_minute_per_endpoint: int = 30
    endpoint_blacklist_duration: float = 10.0
    soft_backoff_initial: float = 0.5
    soft_backoff_cap: float = 30.0
    hard_backoff_initial: float = 0.15
    hard_backoff_cap: float = 5.0
    heartbeat_interval: float = 0.75
    heartbeat_timeout: float = 3.0
    heartbeat_piggyback_grace: float = 0.5
    phi_min_samples: int = 8
    phi_suspect_threshold: float = 5.0
    phi_failure_threshold: float = 8.0
    enable_session_resume: bool = True
    enable_network_monitoring: bool = True
    metadata: Mapping[str, str] | None = None
    drain_timeout: float = 5.0
    secret: bytes | None = field(default=None, repr=False)
    max_message: int = 64 * _MIB
    max_queue_messages: int = 8192
    max_queue_bytes: int = 4 * _MIB

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoints", _parse(self.endpoints))
        _check(self)
        if self.phi_failure_threshold < self.phi_suspect_threshold:
            raise ValueError("phi_failure_threshold must not be below phi_suspect_threshold")

    @property
    def heartbeat(self) -> Heartbeat:
        """How the link is watched."""
        return Heartbeat(
            self.heartbeat_interval,
            self.heartbeat_timeout,
            grace=self.heartbeat_piggyback_grace,
            suspect=self.phi_suspect_threshold,
            failure=self.phi_failure_threshold,
            samples=self.phi_min_samples,
        )


@dataclass(frozen=True, kw_only=True)
class ConnectionHostOptions:
    """Where to listen, and how much to take on. Durations in seconds, sizes in bytes.

    Everything up to a proved handshake must be over within ``handshake_timeout``; of ``max_half_open`` connections at
    most it is going on at a time. A session whose peer is away for ``session_expiry`` is given up with ``PeerLost``.

    Raises:
        ValueError: For an impossible value, naming the field.
    """

    node_id: str
    endpoints: Sequence[str | Endpoint]
    secret: bytes | None = field(default=None, repr=False)
    handshake_timeout: float = 5.0
    max_half_open: int = 64
    session_expiry: float = 60.0
    heartbeat_interval: float = 0.75
    heartbeat_timeout: float = 3.0
    drain_timeout: float = 5.0
    max_message: int = 64 * _MIB
    max_queue_messages: int = 8192
    max_queue_bytes: int = 4 * _MIB
    metadata: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoints", _parse(self.endpoints))
        _check(self)


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """What a node needs to be one. Durations in seconds, sizes in bytes.

    ``heartbeat_interval`` is None where the kernel tells of a peer's death, that is, within one machine.
    """

    node_id: str
    incarnation: int
    epoch: int
    listen: tuple[str, ...]
    secret: bytes = field(repr=False)
    heartbeat_interval: float | None = None
    heartbeat_timeout: float = 2.0
    blacklist_duration: float = 10.0
    attempt_timeout: float = 5.0
    handshake_timeout: float = 10.0
    max_message: int = 64 * 1024 * 1024
    max_queue_messages: int = 8192
    max_queue_bytes: int = 4 * 1024 * 1024
