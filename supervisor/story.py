"""An incident as a short story, for somebody who has just been woken up: facts in, text out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from .cells import clean, wrap
from .event import duration
from .frames import without_machinery
from .incidents import Incident, Next
from .snapshot import ExitCause, WorkerState, WorkerStatus
from .status import memory
from .style import BOLD, DIM, GREEN, RED, YELLOW, paint

_LABEL = 8
_MOST_OTHERS = 4
_LONGEST_LINE = 500  # characters

# What a signal that nobody here has sent mostly means.
_MEANINGS = {
    "SIGSEGV": "it touched memory that is not its own: a fault in native code",
    "SIGBUS": "it touched memory that is not there: a file that was cut short, a full /dev/shm",
    "SIGABRT": "it gave itself up: native code that found something wrong, or abort()",
    "SIGFPE": "native code divided by zero",
    "SIGILL": "it ran an instruction that this processor does not have, or that is none",
    "SIGSYS": "it made a system call that it may not make",
    "SIGKILL": "somebody else has sent it: a person, a program, or the kernel",
    "SIGTERM": "somebody else has asked it to end",
    "SIGINT": "somebody else has interrupted it",
    "SIGHUP": "somebody else has hung up on it",
    "SIGPIPE": "it wrote to a pipe that nobody reads",
    "SIGXCPU": "it has used all the CPU time that its limits give it",
}


@dataclass(frozen=True, slots=True)
class Paper:
    """What a story is written on. ``width``: the columns of a terminal; None: lines may have any length."""

    width: int | None = None
    colour: bool = False


def tell(
    incident: Incident,
    now: float,
    present: WorkerStatus | None = None,
    others: Sequence[Incident] = (),
    paper: Paper | None = None,
) -> str:
    """Return the story of ``incident``, ending with a newline.

    ``now`` is in Unix seconds; ``present`` is how the slot is now, if that is known; ``others`` are the latest
    incidents of other slots, the latest first.
    """
    paper = paper or Paper()
    when = time.strftime("%a %d %b %Y, %H:%M:%S", time.localtime(incident.at))
    headline = clean(f"{incident.slot} {happened(incident)}, {_ago(now, incident.at)}")
    sections = [
        [
            *(paint(line, f"{BOLD};{RED}", on=paper.colour) for line in _fitted(headline, paper)),
            *(
                paint(line, DIM, on=paper.colour)
                for line in _fitted(f"{when}, incarnation {incident.incarnation}", paper)
            ),
        ],
        [
            *_paragraph("Why", _reason(incident), paper),
            *_paragraph("Life", _life(incident), paper),
            *_paragraph("Machine", _machine(incident), paper),
        ],
        _where(incident, paper),
        _block("Output", _last_words(incident), paper),
        [
            *_paragraph("Before", _history(incident), paper),
            *_paragraph("Then", _consequence(incident, now, present), paper),
            *_now(present, incident, paper),
            *_paragraph("Hint", _hint(incident), paper),
        ],
        _paragraph("Others", _others(others, now), paper),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def no_incident(slot: str | None, present: WorkerStatus | None = None, paper: Paper | None = None) -> str:
    """Return what there is to say when nothing has happened."""
    headline = f"{slot} has had no incident" if slot else "there has been no incident"
    return "\n\n".join([headline, *_now(present, None, paper or Paper())]) + "\n"


# What it says.


def happened(incident: Incident) -> str:
    """Return what happened to the slot, as half a sentence."""
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


def _reason(incident: Incident) -> str:
    if incident.text:
        return incident.text.strip()
    if incident.cause is ExitCause.SIGNALED:
        return _MEANINGS.get(incident.signal or "", "")
    return ""


def _life(incident: Incident) -> str:
    how = "it was ready, and ran for" if incident.ready else "it had not become ready yet, after"
    size = f", with {memory(incident.rss)} of memory" if incident.rss else ""
    return f"{how} {duration(incident.uptime)}{size}"


def _machine(incident: Incident) -> str:
    """Say what the machine was like, if that may have something to do with it."""
    machine = incident.machine
    if machine is None or not (machine.is_short or incident.cause in (ExitCause.OOM, ExitCause.MEMORY)):
        return ""
    cores = f"{machine.cores} core" + ("s" if machine.cores != 1 else "")
    return f"load {machine.load:g} on {cores}, {memory(machine.free)} of {memory(machine.memory)} free"


def _consequence(incident: Incident, now: float, present: WorkerStatus | None) -> str:
    waits = present is not None and present.pid is None and present.incarnation == incident.incarnation
    left = (incident.next_try or 0.0) - now
    match incident.next:
        case Next.RESTART if waits and left > 0:
            return f"it is started again in {duration(left)} ({duration(incident.delay or 0.0)} after its end)"
        case Next.RESTART:
            return f"it was started again {_after(incident.delay)}"
        case Next.PARKED:
            soon = f", that is in {duration(left)}" if left > 0 else ""
            return f"it was parked, to be tried again {_after(incident.delay)}{soon}"
        case Next.STOPPED:
            return "it was not started again"
        case Next.MESH_STOP:
            return "it was one too many, and the mesh was stopped"
        case _:
            return "it has failed, and was not started again"


def _hint(incident: Incident) -> str:
    """Return what can be done about it in the code or in mesh.toml, where that is always the same."""
    match incident.cause:
        case ExitCause.HUNG if incident.traceback:
            return "what keeps its event loop from turning is at the top of Where; run_blocking() would do it elsewhere"
        case ExitCause.FROZEN:
            return 'with hang_timeout = "off" a process that is stopped is left alone'
        case ExitCause.OOM:
            return "with a memory_soft it is restarted, with a max_memory killed, before the machine is out of memory"
        case ExitCause.START_TIMEOUT:
            return "start_timeout says how long it may take to become ready"
        case _:
            return ""


def _history(incident: Incident) -> str:
    """Return its earlier ends, the latest first; a cause is named where it changes."""
    if not incident.history:
        return ""
    ends, cause = [], None
    for end in reversed(incident.history):
        named = "" if end.cause == cause else f"{end.cause} "
        ends.append(f"{named}{duration(max(0.0, incident.at - end.at))}")
        cause = end.cause
    listed = ends[0] if len(ends) == 1 else f"{', '.join(ends[:-1])} and {ends[-1]}"
    return f"{listed} earlier"


def _state(present: WorkerStatus, incident: Incident | None) -> str:
    if present.pid is None:
        match present.state:
            case WorkerState.BACKOFF:
                return "it waits for its next start"
            case WorkerState.STARTING:
                return "it waits for what it depends on, or for its process"
            case WorkerState.PARKED if present.next_try is not None:
                return f"it is parked, and is tried again in {duration(present.next_try)}"
            case _:
                return f"it is {present.state}, without a process"
    life = f"incarnation {present.incarnation}, process {present.pid}, up {duration(present.uptime)}"
    since = present.incarnation - incident.incarnation - 1 if incident is not None else 0
    more = f"; {since} more {'start' if since == 1 else 'starts'} since" if since > 0 else ""
    return f"it is {present.state} ({life}{more})"


def _others(others: Sequence[Incident], now: float) -> str:
    if not others:
        return ""
    named = [f"{one.slot} ({one.cause}, {_ago(now, one.at)})" for one in others[:_MOST_OTHERS]]
    more = f" and {len(others) - _MOST_OTHERS} more" if len(others) > _MOST_OTHERS else ""
    return f"{', '.join(named)}{more}; see supervise why SLOT"


def _after(delay: float | None) -> str:
    return "at once" if delay is None or delay < 0.0005 else f"after {duration(delay)}"


def _ago(now: float, at: float) -> str:
    return f"{duration(max(0.0, now - at))} ago"


def _last_words(incident: Incident) -> list[str]:
    """Return what it printed last, without the end that is its traceback again."""
    tail, told = list(incident.tail), [line.rstrip() for line in incident.traceback.splitlines() if line.strip()]
    end = next((index for index in reversed(range(len(tail))) if told and tail[index].rstrip() == told[-1]), -1)
    same = 0
    while same < min(len(told), end + 1) and tail[end - same].rstrip() == told[-1 - same]:
        same += 1
    return [_shortened(line) for line in (*tail[: end + 1 - same], *tail[end + 1 :])]


def _shortened(line: str) -> str:
    """Return a line of output as long as somebody may want to read it; the log has the rest."""
    left = len(line) - _LONGEST_LINE
    return line if left <= 0 else f"{line[:_LONGEST_LINE]}... ({left:,} more characters; see supervise logs)"


# How it looks.

_STATE_COLOURS = {
    WorkerState.READY: GREEN,
    WorkerState.FAILED: RED,
    WorkerState.PARKED: RED,
    WorkerState.STOPPED: DIM,
    WorkerState.BACKOFF: YELLOW,
    WorkerState.STARTING: YELLOW,
    WorkerState.SUSPECT: YELLOW,
}


def _where(incident: Incident, paper: Paper) -> list[str]:
    frames = without_machinery(incident.traceback)
    if not any(frame.place for frame in frames):
        return []  # only what went wrong, which is said already
    first = next((frame for frame in frames if frame.place and not frame.is_machinery), None)
    colours = [BOLD if frame is first else DIM if frame.is_machinery else None for frame in frames]
    return _block("Where", [frame.text for frame in frames], paper, colours)


def _now(present: WorkerStatus | None, incident: Incident | None, paper: Paper) -> list[str]:
    if present is None:
        return []
    return _paragraph("Now", _state(present, incident), paper, _STATE_COLOURS.get(present.state))


def _paragraph(label: str, text: str, paper: Paper, colour: str | None = None) -> list[str]:
    lines = [line for part in text.splitlines() for line in _fitted(clean(part), paper, _LABEL)]
    return _labelled(label, [paint(line, colour, on=paper.colour) for line in lines], paper)


def _block(label: str, lines: Sequence[str], paper: Paper, colours: Sequence[str | None] = ()) -> list[str]:
    """Return ``lines``, each in its colour; one that is too long goes on below itself."""
    shown = []
    for line, colour in zip(lines, colours or [None] * len(lines), strict=True):
        text = clean(line).expandtabs().rstrip()
        indent = " " * (len(text) - len(text.lstrip()))
        pieces = _fitted(text.lstrip(), paper, _LABEL + len(indent))
        shown += [paint(indent + piece, colour, on=paper.colour) for piece in pieces]
    return _labelled(label, shown, paper)


def _labelled(label: str, lines: Sequence[str], paper: Paper) -> list[str]:
    head = paint(f"{label:{_LABEL}}", DIM, on=paper.colour)
    return [f"{' ' * _LABEL if index else head}{line}".rstrip() for index, line in enumerate(lines)]


def _fitted(text: str, paper: Paper, taken: int = 0) -> list[str]:
    return [text] if paper.width is None else wrap(text, paper.width - taken)
