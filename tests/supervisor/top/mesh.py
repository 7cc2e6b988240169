"""A mesh as its supervisor tells of it, for views to look at."""

from __future__ import annotations

from meshvisor.shared.control.links import LinkStatus, LinkTotals
from meshvisor.shared.core.states import ConnectionState
from meshvisor.shared.memory.board import Stage
from meshvisor.supervisor.incidents import Incident, Next
from meshvisor.supervisor.snapshot import (
    Answer,
    ExitCause,
    MeshLinks,
    MeshState,
    MeshStatus,
    NodeLinks,
    WorkerState,
    WorkerStatus,
)
from meshvisor.supervisor.top.facts import Facts, Observer
from meshvisor.supervisor.top.matrix import Matrix, matrix_of

NOW = 1_000_000.0
MIB = 1024 * 1024
UP, DOWN = ConnectionState.ESTABLISHED, ConnectionState.DISCONNECTED


def worker(name: str, state: WorkerState = WorkerState.READY, pid: int | None = 100, **facts: object) -> WorkerStatus:
    """Return the status of a slot."""
    known: dict[str, object] = {
        "incarnation": 1, "restarts": 0, "uptime": 125.0, "cpu": 3.2, "rss": 24 * MIB, "peers_up": 0, "peers_total": 0,
        "last_exit": None, "next_try": None,
    }  # fmt: skip
    known |= facts
    return WorkerStatus(name=name, state=state, pid=pid, ready=state is WorkerState.READY, **known)  # type: ignore[arg-type]


def link(peer: str, state: ConnectionState = UP, srtt: float | None = 0.0004, phi: float = 0.0) -> LinkStatus:
    """Return one end of a link."""
    return LinkStatus(peer, 1, state, 1.0, srtt=srtt, phi=phi)


def node(
    name: str,
    *links: LinkStatus,
    answer: Answer = Answer.FRESH,
    carried: int = 0,
    incarnation: int = 1,
    state: WorkerState = WorkerState.READY,
) -> NodeLinks:
    """Return a node and its ends."""
    totals = LinkTotals(messages_in=carried, calls_in=carried, messages_out=carried)
    return NodeLinks(
        name, name.rpartition("-")[0] or name, state, 100, incarnation, answer, Stage.READY, 0.0004,
        carried, carried, len(links), len(links), totals, links,
    )  # fmt: skip


def full(*names: str, srtt: float | None = 0.0004, carried: int = 0) -> tuple[NodeLinks, ...]:
    """Return nodes that are all linked."""
    return tuple(
        node(one, *(link(other, srtt=srtt) for other in names if other != one), carried=carried) for one in names
    )


def incident(slot: str, ago: float, **facts: object) -> Incident:
    """Return a crash so many seconds before NOW."""
    known: dict[str, object] = {
        "incarnation": 1,
        "cause": ExitCause.SIGNALED,
        "signal": "SIGSEGV",
        "next": Next.RESTART,
    }
    return Incident(at=NOW - ago, slot=slot, **(known | facts))  # type: ignore[arg-type]


def seen(
    *workers: WorkerStatus, nodes: tuple[NodeLinks, ...] = (), incidents: tuple[Incident, ...] = ()
) -> tuple[Facts, Matrix]:
    """Return what is to be seen of a mesh that was looked at twice, a second apart."""
    observer = Observer("demo")
    observer.links(MeshLinks("demo", 9, 0.0, tuple(node(one.name, incarnation=one.incarnation) for one in nodes)))
    observer.links(MeshLinks("demo", 9, 1.0, nodes))
    observer.status(MeshStatus("demo", 9, MeshState.RUNNING, 3725.0, workers), 1.0)
    observer.incidents(incidents)
    return observer.facts(1.0, NOW), matrix_of(MeshLinks("demo", 9, 1.0, nodes))
