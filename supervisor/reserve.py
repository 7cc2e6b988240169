"""The spares of a mesh as its nodes see them: linked with everybody, and named only when one of them dies.

A spare's process is the nursery's like any other that is in no slot. What makes it more than a warm process is kept
here, and goes over to the slot whose place it takes: its lifeline, its record in the roster, its place on the board.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from ..shared.config.model import MeshSection
from ..shared.control import lifeline as messages
from ..shared.core.roster import SPARES, NodeRecord, NodeStatus
from .directory import RuntimeDirectory
from .herald import Herald
from .identity import endpoint_of, link_heartbeat
from .lifeline import Lifeline
from .lookout import Lookout
from .reaper import kill_group
from .spawn import Process
from .tables import Tables
from .traces import make_traces


@dataclass(slots=True)
class Belongings:
    """What a process is given with its first message, and keeps for its life: ours to take back when it is dead."""

    descriptors: dict[str, int]
    place: int
    traces: int


def provide(tables: Tables, lookout: Lookout) -> Belongings:
    """Return what a new process needs of the mesh's memory; ``place`` or ``traces`` are -1 if there is none for it."""
    place, traces = lookout.take_place(), -1
    descriptors = tables.descriptors
    if place < 0:  # this one is not watched
        del descriptors["board"]
    with suppress(OSError):  # no descriptor for it: better a worker that cannot tell where it hangs than none
        traces = descriptors["traces"] = make_traces()
    return Belongings(descriptors, place, traces)


class Spare:
    """One linked spare. It belongs to its ``Process`` until a slot takes it, and ``close`` ends what is left then."""

    def __init__(self, reserve: Reserve, pid: int, name: str, epoch: int, belongings: Belongings) -> None:
        self.name = name
        self.epoch = epoch
        self.belongings = belongings
        self.endpoints: tuple[str, ...] = ()
        self.lifeline: Lifeline
        self._reserve = reserve
        self._pid = pid

    @property
    def socket_name(self) -> str:
        """The file in the runtime directory on which it listens (over ``unix``)."""
        return f"{self.name}.sock"

    def announce(self, status: NodeStatus) -> None:
        """Bring its record in the roster up to date."""
        record = NodeRecord(self.name, SPARES, 0, 1, self.epoch, status, self.endpoints)
        self._reserve.herald.announce(record)

    def heard(self, message: messages.FromWorker) -> None:
        """Hear from it that it can be dialled."""
        if isinstance(message, messages.Listening):
            self.endpoints = message.endpoints
            self.announce(NodeStatus.LISTENING)

    def lifeline_ended(self, reason: str, garbled: bool) -> None:
        """It is of no use without a lifeline; the rest follows from its death."""
        kill_group(self._pid)

    def close(self) -> None:
        """It is dead, and has taken nobody's place: release what it had."""
        reserve = self._reserve
        reserve.herald.dismiss(self.lifeline)
        self.lifeline.close()
        self.announce(NodeStatus.REMOVED)
        reserve.directory.remove(self.socket_name)
        if self.belongings.place >= 0:
            reserve.lookout.give_back(self.belongings.place)
        if self.belongings.traces >= 0:
            os.close(self.belongings.traces)


class Reserve:
    """Makes spares of processes. ``section`` returns what [mesh] says now."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        directory: RuntimeDirectory,
        herald: Herald,
        tables: Tables,
        lookout: Lookout,
        secret: bytes,
        section: Callable[[], MeshSection],
    ) -> None:
        self.directory = directory
        self.herald = herald
        self.lookout = lookout
        self._loop = loop
        self._tables = tables
        self._secret = secret
        self._section = section
        self._numbers = count(1)

    def enlist(self, process: Process) -> None:
        """Have a forked process, which waits for its first message, link with everybody."""
        assert process.lifeline is not None
        name, epoch = f"{SPARES}-{next(self._numbers)}", secrets.randbits(64) or 1
        mesh, belongings = self._section(), provide(self._tables, self.lookout)
        spare = Spare(self, process.pid, name, epoch, belongings)
        spare.lifeline = Lifeline(self._loop, process.lifeline, spare.heard, spare.lifeline_ended)
        process.lifeline, process.spare = None, spare
        spare.announce(NodeStatus.DOWN)
        first = messages.Reserve(
            name=name,
            epoch=epoch,
            listen=(endpoint_of(mesh, self.directory.path, spare.socket_name),),
            secret=self._secret,
            roster=self.herald.records,
            heartbeat_interval=link_heartbeat(mesh),
            heartbeat_timeout=mesh.heartbeat_timeout,
            blacklist_duration=mesh.blacklist_duration,
            descriptors=tuple(belongings.descriptors),
        )
        spare.lifeline.assign(first, tuple(belongings.descriptors.values()))
        self.herald.enroll(spare.lifeline)
