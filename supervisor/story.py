"""An incident as a short story, for somebody who has just been woken up: facts in, text out."""

from __future__ import annotations

import time
from collections.abc import Iterator

from .event import duration
from .incidents import Incident, Next
from .snapshot import ExitCause, WorkerState, WorkerStatus
from .status import memory
from .style import BOLD, DIM, RED, paint

_INDENT = "    "


def tell(incident: Incident, now: float, present: WorkerStatus | None = None, *, colour: bool = False) -> str:
    """Return the story of ``incident``, ending with a newline.

    ``now`` is in Unix seconds; ``present`` is how the slot is now, if that is known.
    """
    when = time.strftime("%a %d %b %Y, %H:%M:%S", time.localtime(incident.at))
    headline = f"{incident.slot} {_happened(incident)}, {duration(max(0.0, now - incident.at))} ago"
    lines = [paint(headline, RED, on=colour), paint(f"{when}, incarnation {incident.incarnation}", DIM, on=colour), ""]
    lines += _circumstances(incident)
    lines += _block("Where it was", incident.traceback.splitlines(), colour=colour)
    lines += _block("The last it printed", incident.tail, colour=colour)
    lines += ["", f"What then: {_consequence(incident, now)}."]
    lines += _history(incident)
    if present is not None:
        lines.append(f"Now: {_state(present)}.")
    return "\n".join(lines) + "\n"


def no_incident(slot: str | None) -> str:
    """Return what there is to say when nothing has happened."""
    return f"{slot} has had no incident\n" if slot else "there has been no incident\n"


def _happened(incident: Incident) -> str:
    signal, code = incident.signal, incident.code
    match incident.cause:
        case ExitCause.HUNG:
            return "hung, and was killed"
        case ExitCause.FROZEN:
            return "was frozen, and was killed"
        case ExitCause.OOM:
            return "was killed by the kernel, which had run out of memory"
        case ExitCause.MEMORY:
            return "used too much memory, and was ended"
        case ExitCause.START_TIMEOUT:
            return "did not become ready in time, and was killed"
        case _ if signal is not None:
            return f"was killed by {signal}"
        case _ if code is None or (not incident.ready and incident.text):
            return "could not start"
        case _:
            return f"ended with status {code}"


def _circumstances(incident: Incident) -> Iterator[str]:
    if incident.text:
        yield f"Why: {incident.text.strip()}"
    ready = "it had been ready" if incident.ready else "it had not been ready yet"
    size = f"; it had used {memory(incident.rss)} of memory" if incident.rss else ""
    yield f"It had run for {duration(incident.uptime)}, and {ready}{size}."


def _block(title: str, content: list[str] | tuple[str, ...], *, colour: bool) -> list[str]:
    if not content:
        return []
    shown = ["".join(char if char.isprintable() or char == "\t" else "?" for char in line) for line in content]
    return ["", paint(f"{title}:", BOLD, on=colour), *((_INDENT + line).rstrip() for line in shown)]


def _consequence(incident: Incident, now: float) -> str:
    match incident.next:
        case Next.RESTART:
            return f"it was started again {_after(incident.delay)}"
        case Next.PARKED:
            left = "" if incident.next_try is None or incident.next_try <= now else _in(incident.next_try - now)
            return f"it was parked, to be tried again {_after(incident.delay)}{left}"
        case Next.STOPPED:
            return "it was not started again"
        case Next.MESH_STOP:
            return "it was one too many, and the mesh was stopped"
        case _:
            return "it has failed, and was not started again"


def _after(delay: float | None) -> str:
    return "at once" if delay is None or delay < 0.0005 else f"after {duration(delay)}"


def _in(seconds: float) -> str:
    return f", that is in {duration(seconds)}"


def _history(incident: Incident) -> Iterator[str]:
    if not incident.history:
        return
    ends = [
        f"{duration(max(0.0, incident.at - end.at))} earlier ({end.cause}, after {duration(end.uptime)})"
        for end in reversed(incident.history)
    ]
    yield f"Before: it had ended {', '.join(ends)}."


def _state(present: WorkerStatus) -> str:
    if present.pid is None:
        waits = present.state is WorkerState.BACKOFF
        return "it waits for its next start" if waits else f"it is {present.state}, without a process"
    life = f"incarnation {present.incarnation}, process {present.pid}, up {duration(present.uptime)}"
    return f"it is {present.state} ({life})"
