"""The roster: who is in the mesh, under which incarnation, and where it listens.

The supervisor keeps it and tells every worker, whole at start and by difference after; a node never learns about
another node in any other way. A record replaces the earlier record of the same name if it is not older.

A spare, which waits for the place of a node that dies, is listed as well, under a name and in a group that no node can
have. When it takes a place, the record of the node shows the spare's epoch, and that of the spare is removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec

SPARES = "~spare"
"""The group of all spares; no worker can be called so."""


class NodeStatus(StrEnum):
    """What can be expected of a node."""

    DOWN = "down"  # no process, or one that does not listen yet; it is coming (back)
    LISTENING = "listening"  # its endpoints can be dialled
    READY = "ready"  # listening, and its on_start has returned: groups may route to it
    HELD = "held"  # listening, and in the middle of a rolling restart: what is for it waits until it is ready
    GONE = "gone"  # stopped, failed or parked (``why``): not coming back by itself
    REMOVED = "removed"  # no longer configured: forget the name


class NodeRecord(msgspec.Struct, frozen=True, array_like=True):
    """One node as the supervisor sees it.

    ``group`` is the worker's name in mesh.toml and ``replica`` its number there. ``incarnation`` counts the lives of
    the slot from 1 (0: never started); ``epoch`` is the random 64-bit name of that life, which the handshake of a
    link proves. A DOWN record of incarnation n says that incarnation n is dead, or not listening yet.
    """

    name: str
    group: str
    replica: int
    incarnation: int = 0
    epoch: int = 0
    status: NodeStatus = NodeStatus.DOWN
    endpoints: tuple[str, ...] = ()
    why: str = ""

    @property
    def is_listening(self) -> bool:
        """Whether the node's endpoints may be dialled."""
        return self.status in (NodeStatus.LISTENING, NodeStatus.READY, NodeStatus.HELD)

    @property
    def is_spare(self) -> bool:
        """Whether this is a process that waits for the place of another one: it is linked, and takes no part."""
        return self.group == SPARES


class Roster:
    """All nodes by name, in the order in which they were first heard of."""

    def __init__(self) -> None:
        self._records: dict[str, NodeRecord] = {}

    def __iter__(self) -> Iterator[NodeRecord]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, name: object) -> bool:
        return name in self._records

    def get(self, name: str) -> NodeRecord | None:
        """Return the record of the node called ``name``, if there is one."""
        return self._records.get(name)

    def group(self, name: str) -> tuple[NodeRecord, ...]:
        """Return the replicas of the group called ``name``, by number."""
        members = [record for record in self._records.values() if record.group == name]
        return tuple(sorted(members, key=lambda record: record.replica))

    def apply(self, records: Iterable[NodeRecord]) -> list[tuple[NodeRecord | None, NodeRecord]]:
        """Take ``records`` over and return what changed, as pairs of the old record (or None) and the new one.

        A record of an older incarnation than the one known is ignored: news can overtake each other on their way
        through a restart, and an incarnation never comes back.
        """
        changes: list[tuple[NodeRecord | None, NodeRecord]] = []
        for record in records:
            old = self._records.get(record.name)
            if record == old or (old is not None and record.incarnation < old.incarnation):
                continue
            if record.status is NodeStatus.REMOVED:
                if old is None:
                    continue
                del self._records[record.name]
            else:
                self._records[record.name] = record
            changes.append((old, record))
        return changes
