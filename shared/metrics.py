"""The figures of one managed connection, and the account that they come from.

Times are monotonic seconds, durations seconds, sizes bytes. Nothing here reads a clock: ``now`` is an argument.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from .core.penalties import FailureSeverity
from .core.states import UP, ConnectionState

_WEIGHT = 0.2
_SAMPLES = 256


@dataclass(frozen=True, slots=True)
class DialRate:
    """How one endpoint was dialled: attempts within the last minute, and for how long it is still barred."""

    endpoint: str
    attempts: int
    barred_for: float


@dataclass(frozen=True, slots=True)
class ConnectionMetrics:
    """A snapshot of one managed connection.

    ``srtt`` and ``rttvar`` are those of the current path (RFC 6298; None before a sample), ``heartbeat_p50`` and
    ``heartbeat_p95`` percentiles of the latest 256 round trips of pings over all paths. ``uptime`` and ``downtime``
    add up to the time since the first ``connect``. The success ratios are moving averages that weigh the latest
    outcome with a fifth. ``last_switch_duration`` is the time from the wish for another connection, or the loss of
    the old one, to the new one; ``detection_time`` is how long the peer had been silent when its latest connection
    was given up for silence.
    """

    srtt: float | None
    rttvar: float | None
    phi: float
    consecutive_failures: int
    reconnect_success_ratio: float
    resume_success_ratio: float
    uptime: float
    downtime: float
    last_switch_duration: float | None
    last_heartbeat_sent: float | None
    last_heartbeat_ack: float | None
    heartbeat_p50: float | None
    heartbeat_p95: float | None
    last_data_activity: float | None
    dials_last_minute: int
    blacklisted_endpoints: int
    dial_rates: tuple[DialRate, ...]
    last_failure_severity: FailureSeverity | None
    last_endpoint: str | None
    bytes_in: int
    bytes_out: int
    messages_in: int
    messages_out: int
    replayed: int
    duplicates_dropped: int
    replay_depth: int
    detection_time: float | None


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a link carried: bytes of its connections, and messages of its session."""

    bytes_in: int = 0
    bytes_out: int = 0
    messages_in: int = 0
    messages_out: int = 0
    replayed: int = 0
    duplicates: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
            self.messages_in + other.messages_in,
            self.messages_out + other.messages_out,
            self.replayed + other.replayed,
            self.duplicates + other.duplicates,
        )


class Ratio:
    """A moving average of outcomes; 0.0 before the first one."""

    def __init__(self) -> None:
        self.value = 0.0
        self._is_fresh = True

    def record(self, success: bool) -> None:
        """Take one outcome in."""
        outcome = 1.0 if success else 0.0
        self.value = outcome if self._is_fresh else (1 - _WEIGHT) * self.value + _WEIGHT * outcome
        self._is_fresh = False


class Percentiles:
    """The latest samples of a figure."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=_SAMPLES)

    def record(self, sample: float) -> None:
        """Take one sample in."""
        self._samples.append(sample)

    def at(self, share: float) -> float | None:
        """Return the value below which ``share`` (0 to 1) of the samples lie, interpolated; None without samples."""
        if not self._samples:
            return None
        ordered = sorted(self._samples)
        position = share * (len(ordered) - 1)
        below = int(position)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (position - below) * (ordered[above] - ordered[below])


class Account:
    """What a connection manager keeps account of while it works."""

    def __init__(self) -> None:
        self.reconnects = Ratio()
        self.resumes = Ratio()
        self.round_trips = Percentiles()
        self.traffic = Traffic()  # of the links that are over
        self.was_rejected = False  # the latest connection could not resume the session that there was
        self.consecutive_failures = 0
        self.last_switch_duration: float | None = None
        self.last_endpoint: str | None = None
        self.detection_time: float | None = None
        self._up = 0.0
        self._down = 0.0
        self._is_up = False
        self._since: float | None = None
        self._wanted_at: float | None = None

    def moved(self, state: ConnectionState, now: float, *, carried: bool) -> None:
        """The state is ``state`` from ``now`` on; ``carried`` tells whether there is a connection at all."""
        if self._since is not None:
            if self._is_up:
                self._up += now - self._since
            else:
                self._down += now - self._since
        if self._since is not None or state is not ConnectionState.DISCONNECTED:
            self._since = now
        self._is_up = carried and state in UP

    def times(self, now: float) -> tuple[float, float]:
        """Return the time the connection was up, and down, since the first ``connect``."""
        open_end = 0.0 if self._since is None else now - self._since
        return (self._up + open_end, self._down) if self._is_up else (self._up, self._down + open_end)

    def wanted(self, now: float) -> None:
        """Another connection is wanted from now on."""
        if self._wanted_at is None:
            self._wanted_at = now

    def content(self) -> None:
        """No other connection is wanted any more: the old one goes on."""
        self._wanted_at = None

    def connected(self, endpoint: str, now: float, *, resumed: bool | None) -> None:
        """A connection is established; ``resumed`` is None for the first one of all."""
        self.last_endpoint = endpoint
        self.consecutive_failures = 0
        self.was_rejected = resumed is False
        if resumed is not None:
            self.reconnects.record(True)
            self.resumes.record(resumed)
        if self._wanted_at is not None:
            self.last_switch_duration = now - self._wanted_at
            self._wanted_at = None

    def failed(self, *, reconnecting: bool) -> None:
        """A whole round of attempts led nowhere."""
        self.consecutive_failures += 1
        if reconnecting:
            self.reconnects.record(False)
