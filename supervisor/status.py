"""The status of a mesh as text. Pure: facts in, text out."""

from __future__ import annotations

from .blacklist import penalties
from .columns import table
from .event import duration
from .snapshot import LastExit, MeshStatus, WorkerState, WorkerStatus
from .style import BOLD, DIM, GREEN, RED, YELLOW, paint

_HEADERS = ("SLOT", "STATE", "PID", "UPTIME", "RESTARTS", "CPU", "MEMORY", "PEERS", "LAST EXIT")
_NUMBERS = frozenset({"PID", "UPTIME", "RESTARTS", "CPU", "MEMORY", "PEERS"})

_COLOURS = {
    WorkerState.READY: GREEN,
    WorkerState.STARTING: YELLOW,
    WorkerState.STOPPING: YELLOW,
    WorkerState.BACKOFF: YELLOW,
    WorkerState.SUSPECT: YELLOW,
    WorkerState.FAILED: RED,
    WorkerState.PARKED: RED,
    WorkerState.STOPPED: DIM,
}


def render(status: MeshStatus, now: float, *, colour: bool = False) -> str:
    """Return ``status`` for a person, ending with a newline. ``now`` is in Unix seconds, as ``last_exit.at`` is."""
    ready = sum(worker.ready for worker in status.workers)
    headline = (
        f"{status.mesh} is {status.state}: {ready} of {len(status.workers)} slots ready, "
        f"up {duration(status.uptime)} (supervisor is process {status.pid})"
    )
    lines = [paint(headline, BOLD, on=colour)]
    if status.workers:
        rows = [_row(worker, now) for worker in status.workers]
        states = [_COLOURS.get(worker.state) for worker in status.workers]
        lines += ["", *table(_HEADERS, rows, numbers=_NUMBERS, marks=(1, states), colour=colour)]
    if status.blacklist:
        lines += ["", *penalties(status.blacklist, colour=colour)]
    return "\n".join(lines) + "\n"


def _row(worker: WorkerStatus, now: float) -> tuple[str, ...]:
    alive = worker.pid is not None
    return (
        worker.name,
        worker.state.value if worker.next_try is None else f"{worker.state.value}, {duration(worker.next_try)}",
        str(worker.pid) if alive else "-",
        duration(worker.uptime) if alive else "-",
        str(worker.restarts),
        f"{worker.cpu:.0f} %" if alive else "-",
        memory(worker.rss) if alive else "-",
        f"{worker.peers_up}/{worker.peers_total}" if worker.peers_total else "-",
        _last_exit(worker.last_exit, now),
    )


def _last_exit(last: LastExit | None, now: float) -> str:
    if last is None:
        return "-"
    how = last.cause.value
    if last.signal is not None:
        how = last.signal if how == "signaled" else f"{how} ({last.signal})"
    elif last.code is not None:
        how = f"status {last.code}" if how == "exited" else f"{how} ({last.code})"
    return f"{how}, {duration(max(0.0, now - last.at))} ago"


def memory(size: int) -> str:
    """Return ``size`` bytes as a person would say it: ``30 MiB``, ``1.2 GiB``."""
    if size < 1024 * 1024:
        return f"{size / 1024:.0f} KiB"
    if size < 1024**3:
        return f"{size / 1024**2:.0f} MiB"
    return f"{size / 1024**3:.1f} GiB"
