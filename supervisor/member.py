"""A node of the mesh that is the supervisor's own process: a program that embeds the mesh, and is part of it.

It stands in the roster like the process of a slot, and is told the same things in the same words; only that there is
no socket in between. It is not supervised: the mesh lives as long as the program wants it to.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

from ..shared.config.model import MeshSection
from ..shared.control.lifeline import Assignment, FromWorker, Listening, Ready
from ..shared.core.roster import NodeRecord, NodeStatus
from .herald import Herald
from .identity import endpoint_of, link_heartbeat

Told = Callable[[Iterable[NodeRecord]], None]
"""Hears what changed in the roster."""

_INCARNATION = 1


class Member:
    """The node ``name``, which is this very process. ``assignment`` is there once it has joined a mesh."""

    assignment: Assignment

    def __init__(self, name: str, told: Told) -> None:
        self.name = name
        self.tell = told
        self._epoch = secrets.randbits(64) or 1
        self._herald: Herald | None = None
        self._endpoints: tuple[str, ...] = ()

    def join(self, herald: Herald, mesh: MeshSection, directory: Path, secret: bytes) -> None:
        """Stand in the roster of ``herald`` from now on, and hear of the others."""
        self._herald = herald
        herald.announce(self._record(NodeStatus.DOWN))
        herald.enroll(self)
        self.assignment = Assignment(
            mesh=mesh.name,
            name=self.name,
            group=self.name,
            replica=0,
            incarnation=_INCARNATION,
            epoch=self._epoch,
            class_path="",
            path="",
            settings={},
            listen=(endpoint_of(mesh, directory, f"{self.name}.{_INCARNATION}.sock"),),
            secret=secret,
            roster=herald.records,
            heartbeat_interval=link_heartbeat(mesh),
            heartbeat_timeout=mesh.heartbeat_timeout,
            blacklist_duration=mesh.blacklist_duration,
        )

    def report(self, message: FromWorker) -> None:
        """Tell the supervisor what a worker would tell it over its lifeline."""
        assert self._herald is not None
        if isinstance(message, Listening):
            self._endpoints = message.endpoints
            self._herald.announce(self._record(NodeStatus.LISTENING))
        elif isinstance(message, Ready):
            self._herald.announce(self._record(NodeStatus.READY))

    def _record(self, status: NodeStatus) -> NodeRecord:
        return NodeRecord(self.name, self.name, 0, _INCARNATION, self._epoch, status, self._endpoints)
