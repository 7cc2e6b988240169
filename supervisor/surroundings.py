"""What a life in a slot has around it: what it shares with all others of its mesh, and who owns it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ..shared.config.model import MeshConfig
from ..shared.control.lifeline import LinkReport
from .child import Ending, Exit
from .directory import RuntimeDirectory
from .guard import Guard
from .herald import Herald
from .hoard import Hoard
from .hub import Hub
from .identity import Identity
from .incidents import IncidentLog
from .leftovers import Mark
from .lookout import Lookout
from .memory import MemoryWatch, OomWatch
from .nursery import Nursery
from .reserve import Reserve
from .snapshot import ExitCause
from .tables import Tables
from .turnstile import Turnstile


@dataclass(slots=True)
class MeshRun:
    """What all slots of one running mesh share. ``secret`` authenticates its links; it is new in each run.

    ``config`` is replaced by a reload, and counts for a slot from its next start on. ``ended`` is told which slot had
    an end and what that means, and returns it, changed if the restart limit is exceeded; ``changed`` is called
    whenever the state of a slot may allow something to another one; ``buried``, with slot, incarnation and pid, when
    a process is dead and what follows from that is under way.
    """

    config: MeshConfig
    loop: asyncio.AbstractEventLoop
    directory: RuntimeDirectory
    herald: Herald
    hub: Hub
    tables: Tables
    mark: Mark
    secret: bytes = field(repr=False)
    incidents: IncidentLog
    memory: MemoryWatch
    oom: OomWatch
    lookout: Lookout
    nursery: Nursery
    reserve: Reserve
    guard: Guard | None
    hoard: Hoard
    is_stopping: Callable[[], bool]
    ended: Callable[[str, Ending], Ending]
    changed: Callable[[], None]
    buried: Callable[[str, int, int], None]
    deaths: Turnstile = field(default_factory=Turnstile)


Reported = Callable[[LinkReport], None]
"""Is called with what a worker says of its links; the number in it tells to which question."""


class Owner(Protocol):
    """Who hears what becomes of a life. ``ended`` is called once, and last."""

    def born(self, pid: int) -> None:
        """There is a process."""

    def recognised(self, identity: Identity) -> None:
        """It has an ``identity`` of its own already: a spare keeps its epoch, and where it listens."""

    def listening(self, endpoints: tuple[str, ...]) -> None:
        """It can be dialled."""

    def prepared(self) -> None:
        """It is a candidate, and only waits for its place."""

    def became_ready(self) -> None:
        """It says, or shows, that it is ready."""

    def condemned(self, fault: ExitCause | None, reason: str) -> None:
        """It is to be killed; ``fault`` is the cause of that end, None if that is what the end itself will show."""

    def hangs(self, reason: str) -> None:
        """Its loop stands still."""

    def is_late(self, late: bool) -> None:
        """Its loop is behind by four beats or more, or no more so."""

    def retired(self, reason: str) -> None:
        """It grew so large that it is to be replaced, and may end by itself first."""

    def ended(self, exit: Exit) -> None:
        """It is dead and reaped, or was never born."""
