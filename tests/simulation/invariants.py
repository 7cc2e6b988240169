"""The judge of a run: reads its history and nothing else, and says which invariant it breaks.

The numbers are those of the invariants in the reliability notes: 1 no loss, 2 no duplicates and no phantoms, 3 order,
4 sound acknowledgements, 5 one up and one down per incarnation, 6 one connection per pair, 7 bounds, 8 detection
(a silent peer is found; nobody else is suspected), 9 and 10 dials, 12 everything is well again when the faults end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tests.simulation import history as h
from tests.simulation.history import Event, Life

MESSAGES = "messages"

SPACING = 0.01
"""Seconds between two dials of one node to one endpoint, at least."""

_ROUNDING = 1e-9


class _Way:
    """One lane from one incarnation to another."""

    def __init__(self) -> None:
        self.digests: list[str] = []
        self.sizes: list[int] = []
        self.delivered = 0
        self.consumed = 0
        self.acknowledged = 0
        self.report: h.Lost | None = None

    @property
    def accepted(self) -> int:
        return len(self.digests)


class _View:
    """What one incarnation was told of a peer by name."""

    def __init__(self) -> None:
        self.up: int | None = None  # the incarnation that is up
        self.latest = 0  # the highest incarnation that was ever up


class Judge:
    """Takes events in, in order; ``violations`` are sentences that begin with the invariant's number."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self._ways: dict[tuple[Life, Life, str], _Way] = {}
        self._views: dict[tuple[Life, str], _View] = {}
        self._windows: dict[Life, tuple[int, int]] = {}
        self._leaving: set[Life] = set()
        self._dead: set[Life] = set()
        self._told: dict[tuple[Life, str], tuple[int, bool]] = {}
        self._dialled_at: dict[tuple[Life, Life], float] = {}
        self._linked: set[tuple[Life, Life]] = set()
        self._detection: float | None = None
        self._overdue: dict[tuple[Life, Life], float] = {}  # a severed link, and when it must be found
        self._severed: set[frozenset[str]] = set()
        self._settled_at: float | None = None
        self._ended_at: float | None = None
        self._judges: dict[type, Callable[[Any], None]] = {
            h.Begun: self._begun,
            h.Born: self._born,
            h.Leaving: self._left_orderly,
            h.Died: self._died,
            h.Told: self._was_told,
            h.Dialled: self._dialled,
            h.Linked: self._was_linked,
            h.Up: self._up,
            h.Lost: self._lost,
            h.Left: self._left,
            h.Accepted: self._accepted,
            h.Delivered: self._delivered,
            h.Consumed: self._consumed,
            h.Acknowledged: self._acknowledged,
            h.Severed: self._were_severed,
            h.Mended: self._were_mended,
            h.Released: self._released,
            h.Calm: self._calm,
            h.Settled: self._settled,
            h.Connections: self._connections,
            h.Complaint: self._complaint,
            h.Ended: self._ended,
        }

    def take(self, event: Event) -> None:
        """Judge one event."""
        self._find_overdue(event.at)
        self._judges[type(event)](event)

    def _violated(self, invariant: int, event: Event, text: str) -> None:
        self.violations.append(f"{invariant}: at {event.at:.6f}: {text}")

    def _way(self, sender: Life, receiver: Life, lane: str) -> _Way:
        return self._ways.setdefault((sender, receiver, lane), _Way())

    def _view(self, node: Life, peer: str) -> _View:
        return self._views.setdefault((node, peer), _View())

    # Lives.

    def _begun(self, event: h.Begun) -> None:
        self._detection = event.detection

    def _born(self, event: h.Born) -> None:
        self._windows[event.node] = (event.window, event.window_size)

    def _left_orderly(self, event: h.Leaving) -> None:
        self._leaving.add(event.node)

    def _died(self, event: h.Died) -> None:
        self._dead.add(event.node)
        self._linked = {pair for pair in self._linked if event.node not in pair}
        self._overdue = {pair: at for pair, at in self._overdue.items() if event.node not in pair}

    def _is_over(self, life: Life) -> bool:
        return life in self._dead or life in self._leaving

    # 5: one up and one down for each incarnation, in that order; never back to an older one.

    def _up(self, event: h.Up) -> None:
        view = self._view(event.node, event.peer.name)
        if view.up is not None:
            self._violated(5, event, f"{event.node} is told of {event.peer} while incarnation {view.up} is up")
        if event.peer.incarnation <= view.latest:
            self._violated(5, event, f"{event.node} is told of {event.peer} after incarnation {view.latest}")
        view.up = view.latest = event.peer.incarnation

    def _down(self, event: h.Lost | h.Left) -> None:
        view = self._view(event.node, event.peer.name)
        if view.up != event.peer.incarnation:
            self._violated(5, event, f"{event.node} is told of the end of {event.peer}, which is not up")
        view.up = None
        if not self._is_over(event.peer):
            self._violated(5, event, f"{event.node} is told of the end of {event.peer}, which lives")

    def _check_up(self, event: h.Accepted | h.Delivered) -> None:
        if self._view(event.node, event.peer.name).up != event.peer.incarnation:
            what = type(event).__name__.lower()
            self._violated(5, event, f"{event.node}: a message is {what} while {event.peer} is not up")

    # 1 to 4: messages.

    def _accepted(self, event: h.Accepted) -> None:
        self._check_up(event)
        way = self._way(event.node, event.peer, event.lane)
        if event.number != way.accepted + 1:
            self._violated(3, event, f"{event.node} to {event.peer}: {event.number} follows {way.accepted}")
        way.digests.append(event.digest)
        way.sizes.append(event.size)

    def _delivered(self, event: h.Delivered) -> None:
        self._check_up(event)
        way = self._way(event.peer, event.node, event.lane)
        where = f"{event.peer} to {event.node}, {event.lane}"
        if event.number <= way.delivered:
            self._violated(2, event, f"{where}: {event.number} is delivered twice")
        elif event.number > way.delivered + 1:
            self._violated(3, event, f"{where}: {event.number} is delivered after {way.delivered}")
        if event.number > way.accepted:
            self._violated(2, event, f"{where}: {event.number} was never sent")
        elif way.digests[event.number - 1] != event.digest:
            self._violated(2, event, f"{where}: {event.number} is not what was sent")
        way.delivered = max(way.delivered, event.number)
        limit = self._windows[event.peer][0]
        if event.lane == MESSAGES and way.delivered - way.consumed > limit:
            self._violated(7, event, f"{where}: {way.delivered - way.consumed} wait, the window is {limit}")

    def _consumed(self, event: h.Consumed) -> None:
        way = self._way(event.peer, event.node, MESSAGES)
        way.consumed = max(way.consumed, event.number)

    def _acknowledged(self, event: h.Acknowledged) -> None:
        way = self._way(event.node, event.peer, MESSAGES)
        where = f"{event.node} to {event.peer}"
        if event.number < way.acknowledged:
            self._violated(4, event, f"{where}: {event.number} is acknowledged after {way.acknowledged}")
        if event.number > way.consumed:
            self._violated(4, event, f"{where}: {event.number} is acknowledged, {way.consumed} were consumed")
        way.acknowledged = max(way.acknowledged, event.number)
        count, size = self._windows[event.node]
        waiting = [size for size in way.sizes[way.acknowledged :] if size]
        if way.accepted - way.acknowledged > count or (len(waiting) > 1 and sum(waiting) > size):
            self._violated(7, event, f"{where}: {len(waiting)} messages, {sum(waiting)} bytes exceed the window")

    def _lost(self, event: h.Lost) -> None:
        self._down(event)
        way = self._way(event.node, event.peer, MESSAGES)
        where = f"{event.node} lost {event.peer}"
        if way.report is not None:
            self._violated(1, event, f"{where} twice")
        way.report = event
        if event.last != way.accepted or event.total != event.last - event.first + 1:
            self._violated(1, event, f"{where}: {event.first} to {event.last} reported, {way.accepted} accepted")
        if event.first - 1 > way.consumed:
            self._violated(1, event, f"{where}: {event.first} is the first reported, {way.consumed} were consumed")
        if event.first - 1 < way.acknowledged:
            self._violated(1, event, f"{where}: {event.first} is reported, {way.acknowledged} were acknowledged")

    def _left(self, event: h.Left) -> None:
        self._down(event)
        if event.peer not in self._leaving:
            self._violated(5, event, f"{event.node} is told that {event.peer} left, which was killed")
        for (sender, receiver, lane), way in self._ways.items():
            if (sender, receiver) == (event.peer, event.node) and way.delivered != way.accepted:
                self._violated(1, event, f"{sender} left {receiver}: {way.delivered} of {way.accepted} {lane} came")
        way = self._way(event.node, event.peer, MESSAGES)
        if way.consumed != way.accepted:
            text = f"{way.consumed} of {way.accepted} to it were consumed, and nobody says so"
            self._violated(1, event, f"{event.peer} left {event.node}: {text}")

    # 6 to 10: connections.

    def _was_told(self, event: h.Told) -> None:
        self._told[event.node, event.peer.name] = (event.peer.incarnation, event.is_listening)

    def _dialled(self, event: h.Dialled) -> None:
        where = f"{event.node} dials {event.peer}"
        if self._told.get((event.node, event.peer.name)) != (event.peer.incarnation, True):
            self._violated(10, event, f"{where}, which it was not told to be listening")
        before = self._dialled_at.get((event.node, event.peer))
        if before is not None and event.at - before < SPACING - _ROUNDING:
            self._violated(9, event, f"{where} again after {event.at - before:.6f} s")
        self._dialled_at[event.node, event.peer] = event.at
        self._check_quiet(event, where)

    def _was_linked(self, event: h.Linked) -> None:
        pair = (event.node, event.peer)
        if event.is_linked:
            self._linked.add(pair)
        else:
            self._linked.discard(pair)
            self._overdue.pop(pair, None)
        self._check_quiet(event, f"{event.node} {'finds' if event.is_linked else 'loses'} the way to {event.peer}")

    def _check_quiet(self, event: Event, what: str) -> None:
        if self._settled_at is not None and self._ended_at is None:
            self._violated(8, event, f"{what}, although there is no fault")

    def _were_severed(self, event: h.Severed) -> None:
        self._severed.add(frozenset((event.one, event.other)))
        if self._detection is None:
            return
        for one, other in sorted(self._linked):
            if {one.name, other.name} == {event.one, event.other} and not self._is_over(one):
                self._overdue.setdefault((one, other), event.at + self._detection)

    def _were_mended(self, event: h.Mended) -> None:
        self._severed.discard(frozenset((event.one, event.other)))
        ends = {event.one, event.other}
        self._overdue = {pair: at for pair, at in self._overdue.items() if {pair[0].name, pair[1].name} != ends}

    def _released(self, event: h.Released) -> None:
        # Old bytes that arrive only now are life, too.
        for pair, at in self._overdue.items():
            if event.node in pair and self._detection is not None:
                self._overdue[pair] = max(at, event.at + self._detection)

    def _find_overdue(self, now: float) -> None:
        for pair in [pair for pair, at in self._overdue.items() if now > at]:
            at = self._overdue.pop(pair)
            if not self._is_over(pair[0]):
                self.violations.append(f"8: at {at:.6f}: {pair[0]} has not found out that {pair[1]} is silent")

    def _connections(self, event: h.Connections) -> None:
        if event.total != 1:
            self._violated(6, event, f"{event.total} connections between {event.one} and {event.other}")

    def _complaint(self, event: h.Complaint) -> None:
        self._violated(7, event, event.text)

    # 12, and what can only be judged at the end.

    def _calm(self, event: h.Calm) -> None:
        self._overdue.clear()

    def _settled(self, event: h.Settled) -> None:
        self._settled_at = event.at

    def _ended(self, event: h.Ended) -> None:
        self._ended_at = event.at
        if self._settled_at is None:
            self._violated(12, event, "not everybody is linked and drained")
        for (sender, receiver, lane), way in self._ways.items():
            if way.delivered < way.accepted and not (self._is_over(sender) or self._is_over(receiver)):
                text = f"{sender} to {receiver}: {way.delivered} of {way.accepted} {lane} were delivered"
                self._violated(1, event, text)
        for (node, name), view in self._views.items():
            if view.up is not None and not self._is_over(node) and self._is_over(Life(name, view.up)):
                self._violated(5, event, f"{node} was never told of the end of {Life(name, view.up)}")


def violations(events: Iterable[Event]) -> list[str]:
    """Return a sentence for each time that the run with these ``events`` breaks an invariant; none: all is well."""
    judge = Judge()
    for event in events:
        judge.take(event)
    if judge._ended_at is None:
        judge.violations.append("12: the run did not end")
    return judge.violations
