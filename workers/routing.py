"""Which node a name means: a decision from the roster alone.

A name is a node's or a group's; the group wins. Without a key the ready replicas of a group take turns and the caller
is left out. With a key the replica is fixed by rendezvous hashing (Thaler and Ravishankar, 1998): each replica gets a
weight from the hash of key and name, and the heaviest one is meant, up or down. So a key keeps its replica over every
restart, and a change of scale moves only the keys that it must.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from ..shared.core.roster import NodeRecord, NodeStatus
from ..shared.errors import PeerUnavailable, UnknownPeer

Key = str | bytes | int
"""What replicas can be chosen by; a number is taken as its decimal text."""


def rendezvous(key: Key, members: Sequence[NodeRecord]) -> NodeRecord:
    """Return the one of ``members`` that ``key`` belongs to.

    Raises:
        TypeError: If ``key`` is no string, bytes or number.
    """
    if isinstance(key, int):
        key = str(key)
    if isinstance(key, str):
        key = key.encode("utf-8", "surrogateescape")
    if not isinstance(key, bytes):
        raise TypeError(f"a key must be str, bytes or int, not {type(key).__name__}")
    # One hash per key and a short one per replica: a key may be a whole document.
    digest = hashlib.blake2b(key, digest_size=32).digest()
    return max(members, key=lambda member: (hashlib.blake2b(digest + member.name.encode()).digest(), member.name))


class Router:
    """The roster as one node, ``own``, routes by it."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._nodes: dict[str, NodeRecord] = {}
        self._groups: dict[str, list[NodeRecord]] = {}
        self._others: dict[str, list[NodeRecord]] = {}  # the groups without the own node
        self._turns: dict[str, int] = {}  # by group: whose turn it is, as a place in _others
        self._roster: Iterable[NodeRecord] = ()
        self._is_stale = False

    def update(self, roster: Iterable[NodeRecord]) -> None:
        """Route by ``roster`` from now on, as it is when somebody asks: while a mesh forms there is much news."""
        self._roster, self._is_stale = roster, True

    def _refresh(self) -> None:
        self._is_stale, roster = False, self._roster
        self._nodes = {record.name: record for record in roster}
        self._groups = {}
        for record in sorted(self._nodes.values(), key=lambda record: record.replica):
            self._groups.setdefault(record.group, []).append(record)
        self._others = {
            group: [record for record in members if record.name != self._own] for group, members in self._groups.items()
        }
        self._turns = {group: turn for group, turn in self._turns.items() if group in self._groups}

    def choose(self, target: str, key: Key | None, is_usable: Callable[[NodeRecord], bool]) -> str | None:
        """Return the name of the node that ``target`` means now, or None if it has to be waited for.

        ``is_usable`` says whether another node can be sent to; the own node always can. One that is held is usable to
        a few only: for them it is what is left where nobody else is ready.

        Raises:
            UnknownPeer: If no node and no group is called ``target``.
            PeerUnavailable: If no node that is meant will come back by itself.
        """
        if self._is_stale:
            self._refresh()
        members = self._groups.get(target)
        if members is None:
            return self._node(target, is_usable)
        if key is not None:
            return self._replica(rendezvous(key, members), is_usable)
        others = self._others[target]
        count = len(others)
        turn = self._turns.get(target, 0)
        for place in range(turn, turn + count):
            record = others[place % count]
            if record.status is NodeStatus.READY and is_usable(record):
                self._turns[target] = (place + 1) % count
                return record.name
        for record in others:
            if record.status is NodeStatus.HELD and is_usable(record):
                return record.name
        if not others:
            return self._own
        if all(record.status is NodeStatus.GONE for record in others):
            raise PeerUnavailable(target, others[0].why or "stopped")
        return None

    def is_fixed(self, target: str) -> bool:
        """Return whether ``target``, without a key, means one node only, for as long as the roster stays as it is."""
        return len(self._others.get(target, ())) < 2

    def _node(self, name: str, is_usable: Callable[[NodeRecord], bool]) -> str | None:
        record = self._nodes.get(name)
        if record is None:
            raise UnknownPeer(name, sorted({*self._nodes, *self._groups}))
        if name == self._own:
            return name
        if record.status is NodeStatus.GONE:
            raise PeerUnavailable(name, record.why or "stopped")
        return name if is_usable(record) else None

    def _replica(self, record: NodeRecord, is_usable: Callable[[NodeRecord], bool]) -> str | None:
        if record.name == self._own:
            return record.name
        if record.status is NodeStatus.GONE:
            raise PeerUnavailable(record.name, record.why or "stopped")
        is_ready = record.status in (NodeStatus.READY, NodeStatus.HELD)
        return record.name if is_ready and is_usable(record) else None
