"""What is to be seen of a mesh, made of what its supervisor answers now and has answered before. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..incidents import Incident
from ..snapshot import Answer, MeshLinks, MeshState, MeshStatus, NodeLinks, WorkerState, WorkerStatus

SPAN = 300.0
"""Seconds of the past in which incidents are counted for a sparkline."""

MOST_INCIDENTS = 200

_SHORTEST = 0.2
"""Seconds between two answers that a rate takes: one message within a moment would be thousands a second."""


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """One slot. ``received`` and ``sent`` are messages and calls a second; None: not known, or it is a command.

    ``incidents`` are the moments of its latest, and ``waits`` the seconds until it is started again; times are Unix
    seconds.
    """

    status: WorkerStatus
    node: NodeLinks | None = None
    received: float | None = None
    sent: float | None = None
    incidents: tuple[float, ...] = ()
    waits: float | None = None

    @property
    def name(self) -> str:
        """The slot's name."""
        return self.status.name


@dataclass(frozen=True, slots=True)
class Facts:
    """A mesh at ``at`` (Unix seconds). ``state`` None: nothing was heard yet; ``silent_for``: for so many seconds.

    ``incidents`` are the latest, the latest first.
    """

    mesh: str
    at: float
    state: MeshState | None = None
    pid: int = 0
    uptime: float = 0.0
    slots: tuple[SlotFacts, ...] = ()
    nodes: tuple[NodeLinks, ...] = ()
    incidents: tuple[Incident, ...] = ()
    is_gone: bool = False
    silent_for: float = 0.0

    def slot(self, name: str) -> SlotFacts | None:
        """Return the facts of one slot."""
        return next((slot for slot in self.slots if slot.name == name), None)


@dataclass(slots=True)
class _Reading:
    """What a node had carried by a moment of the supervisor's clock; ``life``: which supervisor, which incarnation."""

    at: float
    life: tuple[int, int]
    received: int
    sent: int


@dataclass(slots=True)
class Observer:
    """Takes in answers and tells the facts. Times are seconds of a monotonic clock, but for those of incidents."""

    mesh: str
    _status: MeshStatus | None = None
    _nodes: tuple[NodeLinks, ...] = ()
    _readings: dict[str, _Reading] = field(default_factory=dict)
    _rates: dict[str, tuple[float, float]] = field(default_factory=dict)
    _incidents: list[Incident] = field(default_factory=list)
    _heard_at: float = 0.0
    _is_gone: bool = False

    def status(self, status: MeshStatus, now: float) -> None:
        """Take in how the mesh is."""
        if self._status is not None and self._status.pid != status.pid:
            self._nodes, self._readings, self._rates = (), {}, {}
        self._status, self._heard_at, self._is_gone = status, now, False

    def links(self, links: MeshLinks) -> None:
        """Take in how its links are."""
        self._nodes = links.nodes
        # Of a node that does not answer nothing is known, not that it has carried nothing.
        fresh = {node.name: _reading(node, links) for node in links.nodes if node.answer is Answer.FRESH}
        hasty = {name for name, after in fresh.items() if _is_hasty(self._readings.get(name), after)}
        rates = {name: self._rates[name] for name in hasty if name in self._rates}
        for name, after in fresh.items():
            if name not in hasty and (rate := _rate(self._readings.get(name), after)) is not None:
                rates[name] = rate
        self._rates = rates
        self._readings = {node.name: self._readings[node.name] for node in links.nodes if node.name in self._readings}
        self._readings |= {name: reading for name, reading in fresh.items() if name not in hasty}

    def incidents(self, more: Iterable[Incident]) -> None:
        """Take in what has happened, the oldest first."""
        self._incidents = [*self._incidents, *more][-MOST_INCIDENTS:]

    def gone(self) -> None:
        """The mesh has ended."""
        self._is_gone = True

    def facts(self, now: float, at: float) -> Facts:
        """Return what is to be seen at ``now``, which is ``at`` in Unix seconds."""
        if self._status is None:
            return Facts(self.mesh, at, incidents=tuple(reversed(self._incidents)), is_gone=self._is_gone)
        nodes = {node.name: node for node in self._nodes}
        past: dict[str, list[Incident]] = {}
        for incident in self._incidents:
            past.setdefault(incident.slot, []).append(incident)
        slots = tuple(self._slot(one, nodes.get(one.name), past.get(one.name, []), at) for one in self._status.workers)
        return Facts(
            self.mesh,
            at,
            self._status.state,
            self._status.pid,
            self._status.uptime,
            slots,
            self._nodes,
            tuple(reversed(self._incidents)),
            self._is_gone,
            max(0.0, now - self._heard_at),
        )

    def _slot(self, status: WorkerStatus, node: NodeLinks | None, past: Sequence[Incident], at: float) -> SlotFacts:
        received, sent = self._rates.get(status.name, (None, None)) if status.pid is not None else (None, None)
        waits = status.next_try
        if status.state is WorkerState.BACKOFF and past and past[-1].next_try is not None:
            waits = max(0.0, past[-1].next_try - at)
        return SlotFacts(status, node, received, sent, tuple(one.at for one in past), waits)


def buckets(moments: Iterable[float], at: float, count: int, span: float = SPAN) -> list[int]:
    """Return how many of ``moments`` fell into each of ``count`` equal parts of the last ``span`` seconds."""
    counts = [0] * count
    for moment in moments:
        age = at - moment
        if 0.0 <= age < span:
            counts[count - 1 - int(age * count / span)] += 1
    return counts


def _reading(node: NodeLinks, links: MeshLinks) -> _Reading:
    # By the clock of whoever counted: two answers that were on their way for long may arrive at the same time.
    total, life = node.totals, (links.pid, node.incarnation)
    return _Reading(links.uptime, life, total.messages_in + total.calls_in, total.messages_out + total.calls_out)


def _is_hasty(before: _Reading | None, after: _Reading) -> bool:
    """Whether ``after`` comes so soon after ``before`` that the two tell no rate."""
    return before is not None and before.life == after.life and 0.0 <= after.at - before.at < _SHORTEST


def _rate(before: _Reading | None, after: _Reading) -> tuple[float, float] | None:
    """Return messages a second received and sent; an answer that did not come, or another life, tells nothing."""
    if before is None or before.life != after.life or after.at <= before.at:
        return None
    if after.received < before.received or after.sent < before.sent:
        return None
    elapsed = after.at - before.at
    return (after.received - before.received) / elapsed, (after.sent - before.sent) / elapsed
