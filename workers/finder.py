"""From a name to a link: the router's choice, what the mesh has, and waiting until the two agree."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Protocol

from ..shared.core.roster import NodeRecord, NodeStatus, Roster
from ..shared.errors import LinkClosed
from .inbox import Link
from .loopback import Loopback
from .routing import Key, Router

Lives = frozenset[tuple[str, int]]
"""Incarnations, as (node, incarnation)."""

CALLER: ContextVar[Link | None] = ContextVar("meshvisor_caller", default=None)
"""The link to whoever called the method that the current task runs.

What a method sends and calls there is part of that call: it is not held, or a worker that finishes what it was asked
for, or that calls others in its ``on_start``, would wait for itself. (A task that a method leaves behind keeps this.)
"""


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

    async def close(self, drain: float = 0.0, *, is_succeeded: bool = False) -> None:
        """See ``Mesh.close``."""


class Finder:
    """Finds links. ``changed`` must be called whenever a link came or went; the roster goes through ``apply``.

    While the place of a node goes over to another process, its link is held: what is meant for it waits until the
    successor is ready. ``serves`` tells whether a call that came over a link is under way here.
    """

    def __init__(self, mesh: MeshOfNode, loopback: Loopback, serves: Callable[[Link], bool]) -> None:
        self.mesh = mesh
        self._loopback = loopback
        self._serves = serves
        self._router = Router(loopback.node_id)
        self._fixed: dict[str, Link] = {}  # what some names mean, until something changes
        self._waiters: dict[asyncio.Future[None], None] = {}  # in the order of their arrival
        self._held: set[Link] = set()
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
            return link is not None and (link.node_id, link.incarnation) not in avoid and self._offers(record, link)

        name = self._router.choose(target, key, is_usable if avoid else self._is_free)
        if name is None:
            return None
        link = self._loopback if name == self._loopback.node_id else self.mesh.link(name)
        if link is not None and not avoid and self._router.is_fixed(target) and not self._is_kept(name, link):
            self._fixed[target] = link
        return link

    def _is_free(self, record: NodeRecord) -> bool:
        link = self.mesh.link(record.name)
        return link is not None and self._offers(record, link)

    def _offers(self, record: NodeRecord, link: Link) -> bool:
        is_held = record.status is NodeStatus.HELD or link in self._held
        return not is_held or self._is_part_of_call(link)

    def _is_kept(self, name: str, link: Link) -> bool:
        """Whether what was found is for the current task alone."""
        record = self.mesh.roster.get(name)
        return link in self._held or (record is not None and record.status is NodeStatus.HELD)

    async def reach(self, target: str, key: Key | None = None, avoid: Lives = frozenset()) -> Link:
        """Wait for that link. Raises as ``find`` does, also while it waits."""
        while (link := self.find(target, key, avoid)) is None:
            await self._change()
        return link

    def hold(self, link: Link) -> None:
        """Find ``link`` no more; whoever means its node waits for the next one."""
        self._held.add(link)
        self._fixed.clear()

    def is_held(self, link: Link) -> bool:
        """Return whether ``hold`` was called for ``link``."""
        return link in self._held

    def offers(self, link: Link) -> bool:
        """Return whether the current task may use ``link``, which was found before."""
        return link not in self._held or self._is_part_of_call(link)

    def _is_part_of_call(self, link: Link) -> bool:
        return CALLER.get() is link and self._serves(link)

    def lost(self, link: Link) -> None:
        """Forget ``link``, which is over."""
        self._held.discard(link)
        self.changed()

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
        self._waiters[waiter] = None
        try:
            await waiter
        finally:
            del self._waiters[waiter]


def check_timeout(timeout: float) -> None:
    """Raise ValueError if that is no time to wait, such as ``"2s"``, NaN or less than 0."""
    try:
        is_time = timeout >= 0
    except TypeError:
        is_time = False
    if not is_time:
        raise ValueError(f"timeout must be a number of seconds, 0 or more, or None, not {timeout!r}")
