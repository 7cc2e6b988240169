"""What is measured of a mesh: the facts behind its metrics. Durations in seconds, sizes in bytes.

What grows (restarts, CPU, messages, ...) counts from the beginning of whatever it is about: the mesh, or the process
that is in a slot now.
"""

from __future__ import annotations

import msgspec

from ..shared.core.penalties import FailureSeverity
from .event import Event
from .incidents import incident_of
from .snapshot import ExitCause, NodeLinks, WorkerState

COUNTED: tuple[ExitCause, ...] = tuple(cause for cause in ExitCause if cause is not ExitCause.STOPPED)
"""What incidents can be caused by."""


class SlotFigures(msgspec.Struct, frozen=True):
    """One slot; ``uptime``, ``cpu`` and ``rss`` are 0 without a process, ``lag`` is None without its word for it.

    ``links_up`` of ``links_total`` other workers are linked with it, as it last said; a command (not ``is_node``) has
    none. ``log_lines`` and ``log_size`` are what was written to its log.
    """

    name: str
    worker: str
    is_node: bool
    state: WorkerState
    is_ready: bool
    incarnation: int
    restarts: int
    uptime: float
    cpu: float
    rss: int
    lag: float | None
    messages_in: int
    messages_out: int
    links_up: int
    links_total: int
    log_lines: int
    log_size: int


class BlacklistFigures(msgspec.Struct, frozen=True):
    """The blacklist: what is barred, by severity; ``refused`` are the supervisor's own updates that it could not do."""

    entries: dict[FailureSeverity, int]
    capacity: int
    evictions: int
    refused: int


class MeshFigures(msgspec.Struct, frozen=True):
    """A whole mesh; ``uptime``, ``cpu``, ``rss`` and ``lag`` are the supervisor's own.

    ``lag`` is how late its loop was at worst since the last time that somebody asked. ``nodes`` are the workers, as far
    as they were asked; ``blacklist`` is None if it is closed already.
    """

    mesh: str
    release: str
    uptime: float
    cpu: float
    rss: int
    lag: float
    events_dropped: int
    incidents: dict[ExitCause, int]
    slots: tuple[SlotFigures, ...]
    nodes: tuple[NodeLinks, ...]
    blacklist: BlacklistFigures | None


class Tally:
    """Counts the incidents of a mesh, by cause; ``heard`` is told of each event."""

    def __init__(self) -> None:
        self.incidents = dict.fromkeys(COUNTED, 0)

    def heard(self, event: Event) -> None:
        """Take an end into account, if it is one. A process that could not even be made counts once in a row."""
        if event.event == "slot-exited" and event.details.get("shortage", 0) <= 1:
            incident = incident_of(event)
            if incident is not None:
                self.incidents[incident.cause] += 1
