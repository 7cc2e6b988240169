"""What is known about a running mesh at one moment: the facts behind ``status`` and ``mesh``, as in their JSON."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ..shared.control.links import LinkStatus, LinkTotals
from ..shared.core.stage import Stage
from ..shared.memory.entry import Penalty


class MeshState(StrEnum):
    """Where a mesh is in its life. It is ``running`` once every slot has been ready, or has ended, at least once."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class WorkerState(StrEnum):
    """What a slot is doing, as its user sees it."""

    STOPPED = "stopped"  # ended well, or stopped by request
    STARTING = "starting"  # with a process, or waiting for its dependencies
    READY = "ready"
    SUSPECT = "suspect"  # alive, and late: its loop made no turn for four beats
    STOPPING = "stopping"
    BACKOFF = "backoff"  # waiting for its next try
    FAILED = "failed"  # ended badly, and is not started again
    PARKED = "parked"  # failed too often, and is tried again now and then


class ExitCause(StrEnum):
    """Why an incarnation ended."""

    EXITED = "exited"  # by itself, with a status (none: it could not be started at all)
    SIGNALED = "signaled"  # by a signal that nobody here had a reason to send, or that answered a breach of protocol
    HUNG = "hung"  # killed because its loop stood still, or (a command) its health check failed
    FROZEN = "frozen"  # killed because it was stopped by a signal
    OOM = "oom"  # killed by the kernel when memory ran out
    MEMORY = "memory"  # ended because it grew beyond memory_soft or max_memory
    START_TIMEOUT = "start-timeout"
    STOPPED = "stopped"  # because we asked it to, however long that took


class LastExit(msgspec.Struct, frozen=True, gc=False):
    """The latest end of a slot's process. ``at`` is in Unix seconds, ``uptime`` in seconds, ``signal`` is a name."""

    cause: ExitCause
    code: int | None
    signal: str | None
    at: float
    uptime: float


class WorkerStatus(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One slot. ``uptime`` is in seconds and ``cpu`` in percent of one core, ``rss`` in bytes; 0 without a process.

    ``next_try`` is in seconds from now, and there only while the slot is parked.
    """

    name: str
    state: WorkerState
    pid: int | None
    incarnation: int
    restarts: int
    uptime: float
    ready: bool
    cpu: float
    rss: int
    peers_up: int
    peers_total: int
    last_exit: LastExit | None
    next_try: float | None = None


class MeshStatus(msgspec.Struct, frozen=True):
    """The whole mesh; ``workers`` are in the order of the file, and by number within one worker.

    ``blacklist`` are the endpoints that nobody dials now, the first to be free first.
    """

    mesh: str
    pid: int
    state: MeshState
    uptime: float
    workers: tuple[WorkerStatus, ...]
    blacklist: tuple[Penalty, ...] = ()


class Answer(StrEnum):
    """Whether a worker has said how its links are."""

    FRESH = "fresh"  # just now
    SILENT = "silent"  # not in time: it is busy, hangs, or is frozen
    ABSENT = "absent"  # it is no node now: there is no process, or it does not listen yet


class NodeLinks(msgspec.Struct, frozen=True, gc=False):
    """One worker and its ends of its links; those of a worker that is not FRESH are told by the others' ends alone.

    ``stage``, ``lag`` (seconds that its loop is behind), ``messages_in`` and ``messages_out`` are what it says on the
    liveness board, the figures every few seconds; None and 0 if it says nothing there. ``links_up`` of ``links_total``
    other nodes are linked with it, by its latest word. ``totals`` are those of all its links so far.
    """

    name: str
    worker: str
    state: WorkerState
    pid: int | None
    incarnation: int
    answer: Answer
    stage: Stage | None
    lag: float | None
    messages_in: int
    messages_out: int
    links_up: int
    links_total: int
    totals: LinkTotals = LinkTotals()
    links: tuple[LinkStatus, ...] = ()


class MeshLinks(msgspec.Struct, frozen=True):
    """The links of all workers, in the order of ``MeshStatus``; commands have none and are left out."""

    mesh: str
    pid: int
    uptime: float
    nodes: tuple[NodeLinks, ...]
