"""The other nodes, as a worker sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..shared.core.roster import NodeRecord, NodeStatus, Roster

_STATES = {NodeStatus.LISTENING: "starting", NodeStatus.HELD: "starting", NodeStatus.READY: "ready"}


class Peer(str):
    """Another node: its name, and what is known of it beside that.

    A peer is a string and can be used wherever a name can. ``group`` is its worker's name in mesh.toml;
    ``incarnation`` counts its lives; ``up`` says whether it is linked. ``state`` is what can be expected of it:
    ``"down"`` (coming, or coming back), ``"starting"`` (its ``on_start`` has not returned), ``"ready"``, or why it is
    not coming back by itself: ``"stopped"``, ``"failed"``, ``"parked"``. All as of when the peer was looked at.
    """

    __slots__ = ("_lag_of", "group", "incarnation", "state", "up")

    group: str
    incarnation: int
    up: bool
    state: str
    _lag_of: Callable[[str], float | None]

    @property
    def name(self) -> str:
        """The name as a plain string."""
        return str.__str__(self)

    @property
    def ready(self) -> bool:
        """Whether its ``on_start`` has returned: a group's replicas get messages and calls while they are."""
        return self.state == "ready"

    @property
    def lag(self) -> float | None:
        """How far its event loop is behind now, in seconds; None if that is not known.

        It is for how long the callback that it is in has run, or the latest delay of its timers if that was more.
        """
        return self._lag_of(self)


def make_peer(
    name: str, record: NodeRecord | None, incarnation: int, *, up: bool, lag_of: Callable[[str], float | None]
) -> Peer:
    """Return what ``record`` says of the node called ``name`` in its life ``incarnation``."""
    peer = Peer(name)
    peer.group = record.group if record is not None else name
    peer.incarnation = incarnation
    peer.up = up
    peer._lag_of = lag_of
    peer.state = _state(record) if record is not None and record.incarnation == incarnation else "down"
    return peer


def _state(record: NodeRecord) -> str:
    if record.status is NodeStatus.GONE:
        return record.why or "stopped"
    return _STATES.get(record.status, "down")


class Peers(Mapping[str, Peer]):
    """All other nodes by name, always as they are now; ``own`` is left out."""

    def __init__(
        self,
        own: str,
        roster: Roster,
        is_linked: Callable[[str], bool],
        lag_of: Callable[[str], float | None] = lambda name: None,
    ) -> None:
        self._own = own
        self._lag_of = lag_of
        self._roster = roster
        self._is_linked = is_linked

    def __getitem__(self, name: str) -> Peer:
        record = self._roster.get(name)
        if record is None or name == self._own:
            raise KeyError(name)
        up = self._is_linked(name)
        return make_peer(record.name, record, record.incarnation, up=up, lag_of=self._lag_of)

    def __iter__(self) -> Iterator[str]:
        return iter([record.name for record in self._roster if record.name != self._own])

    def __len__(self) -> int:
        return len(self._roster) - (self._own in self._roster)

    def __repr__(self) -> str:
        return f"Peers({', '.join(self)})"
