"""From a name to a link: the router's choice, what the mesh has, and waiting until the two agree."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from ..shared.core.roster import NodeRecord, Roster
from ..shared.errors import LinkClosed
from .inbox import Link
from .loopback import Loopback
from .routing import Key, Router

Lives = frozenset[tuple[str, int]]
"""Incarnations, as (node, incarnation)."""


class MeshOfNode(Protocol):
    """What a worker's node uses of its ``Mesh``."""

    roster: Roster

    async def start(self) -> tuple[str, ...]:
        """See ``Mesh.start``."""

    def apply(self, records: Iterable[NodeRecord]) -> None:
        """See ``Mesh.apply``."""

    def link(self, node: str) -> Link | None:
        """See ``Mesh.link``."""

    def links(self) -> Sequence[Link]:
        """See ``Mesh.links``."""

    async def close(self, drain: float = 0.0) -> None:
        """See ``Mesh.close``."""


class Finder:
    """Finds links. ``changed`` must be called whenever a link came or went; the roster goes through ``apply``."""

    def __init__(self, mesh: MeshOfNode, loopback: Loopback) -> None:
        self.mesh = mesh
        self._loopback = loopback
        self._router = Router(loopback.node_id)
        self._fixed: dict[str, Link] = {}  # what some names mean, until something changes
        self._waiters: set[asyncio.Future[None]] = set()
        self._is_closed = False

    def find(self, target: str, key: Key | None = None, avoid: Lives = frozenset()) -> Link | None:
        """Return the link that ``target`` means now, outside of the lives in ``avoid``; None: wait for it.

        Raises:
            UnknownPeer, PeerUnavailable: If there is none to wait for.
            LinkClosed: If this node is at its end.
        """
        if key is None and not avoid and (fixed := self._fixed.get(target)) is not None:
            return fixed
        if self._is_closed:
            raise LinkClosed(target)

        def is_usable(record: NodeRecord) -> bool:
            link = self.mesh.link(record.name)
            return link is not None and (link.node_id, link.incarnation) not in avoid

        name = self._router.choose(target, key, is_usable if avoid else self._is_linked)
        if name is None:
            return None
        link = self._loopback if name == self._loopback.node_id else self.mesh.link(name)
        if link is not None and not avoid and self._router.is_fixed(target):
            self._fixed[target] = link
        return link

    def _is_linked(self, record: NodeRecord) -> bool:
        return self.mesh.link(record.name) is not None

    async def reach(self, target: str, key: Key | None = None, avoid: Lives = frozenset()) -> Link:
        """Wait for that link. Raises as ``find`` does, also while it waits."""
        while (link := self.find(target, key, avoid)) is None:
            await self._change()
        return link

    async def gone(self, link: Link) -> None:
        """Wait until the mesh does not offer ``link`` any more."""
        while self.mesh.link(link.node_id) is link:
            await self._change()

    def apply(self, records: Iterable[NodeRecord]) -> None:
        """Take news of the roster in."""
        self.mesh.apply(records)
        self._router.update(self.mesh.roster)
        self.changed()

    def changed(self) -> None:
        """Let those who wait look again."""
        self._fixed.clear()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Find nothing any more."""
        self._is_closed = True
        self.changed()

    async def _change(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
