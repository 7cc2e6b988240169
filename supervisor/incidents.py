"""The memory of what went wrong: every incident, kept beside the logs, readable when nothing runs any more.

An incident is an unplanned end of an incarnation. Each is one JSON object on a line of ``incidents.jsonl``, which is
rotated by size; what was being written when the machine went down is skipped by whoever reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec

from ..shared.control.requests import Moment
from ..shared.core.malformed import MALFORMED
from ..shared.errors import SupervisorError
from .event import Event, encode_facts
from .rotation import RotatedFile
from .snapshot import ExitCause

FILE = "incidents.jsonl"
MAX_SIZE = 1024 * 1024
KEEP = 1
HISTORY = 5
"""How many earlier ends of its slot an incident remembers."""
_LONGEST_TEXT = 4000
_LONGEST_TRACEBACK = 65_536

_CUT = "\n[...]\n"

# Checked when they are read: a file is what anybody has written to it, and these are shown as they are.
_Slot = Annotated[str, msgspec.Meta(pattern=r"\A[a-z][a-z0-9_-]*\Z")]
_Signal = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9 +_-]*\Z")]


class Next(StrEnum):
    """What becomes of the slot after an incident."""

    RESTART = "restart"
    STOPPED = "stopped"
    FAILED = "failed"
    PARKED = "parked"
    MESH_STOP = "mesh-stop"


class PastEnd(msgspec.Struct, frozen=True):
    """An earlier end of the same slot; ``at`` in Unix seconds, ``uptime`` in seconds."""

    at: Moment
    cause: ExitCause
    uptime: float


class Machine(msgspec.Struct, frozen=True):
    """What the machine was like: its ``load`` in the last minute, the ``cores`` that we may use, bytes of memory."""

    load: float
    cores: int
    free: int
    memory: int

    @property
    def is_short(self) -> bool:
        """Whether it had more to run than cores, twice over, or less than a tenth of its memory left."""
        return self.load > 2 * self.cores or self.free < self.memory / 10


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """An unplanned end of one incarnation of a slot.

    ``at`` and ``next_try`` are Unix seconds, ``uptime`` and ``delay`` (until the next start; None: there is none)
    seconds, ``rss`` bytes (0: not known). ``text`` says what went wrong, as far as anybody knows; ``traceback`` is
    the process's own, of all its threads if it hung; ``tail`` are its last lines of output; ``history`` are the
    latest ends of the slot before this one, oldest first; ``machine`` is what the machine was like then.
    """

    at: Moment
    slot: _Slot
    incarnation: int
    cause: ExitCause
    code: int | None = None
    signal: _Signal | None = None
    uptime: float = 0.0
    ready: bool = False
    text: str = ""
    traceback: str = ""
    tail: tuple[str, ...] = ()
    rss: int = 0
    history: tuple[PastEnd, ...] = ()
    next: Next = Next.RESTART
    delay: float | None = None
    next_try: Moment | None = None
    machine: Machine | None = None


def incident_of(said: Event, history: tuple[PastEnd, ...] = (), *, mesh_stops: bool = False) -> Incident | None:
    """Return the incident that a ``slot-exited`` tells of; None if it was planned, or a good end for good.

    ``mesh_stops``: it was the one too many, for which the whole mesh is stopped.
    """
    facts = said.details
    if facts["cause"] == ExitCause.STOPPED or facts["next"] == Next.STOPPED:
        return None
    delay = facts["delay"]
    return Incident(
        at=said.at,
        slot=said.slot,
        incarnation=said.incarnation,
        cause=ExitCause(facts["cause"]),
        code=facts["code"],
        signal=facts["signal"],
        uptime=facts["uptime"],
        ready=facts["ready"],
        text=facts.get("text", ""),
        traceback=facts.get("traceback", ""),
        tail=tuple(facts["tail"]),
        history=history,
        next=Next.MESH_STOP if mesh_stops else Next(facts["next"]),
        delay=delay,
        next_try=None if delay is None else said.at + delay,
    )


class IncidentLog:
    """Writes down the incidents of a running mesh. A disk that takes nothing never stops supervision.

    ``lost`` is called with the reason once per row of failures, ``restored`` with the number of incidents lost.
    """

    def __init__(self, directory: Path, lost: Callable[[str], None], restored: Callable[[int], None]) -> None:
        self.path = directory / FILE
        self._file = RotatedFile(self.path, max_size=MAX_SIZE, keep=KEEP, lost=lost, restored=restored)

    def append(self, incident: Incident) -> None:
        """Keep ``incident``; texts that are too long are cut."""
        fitting = msgspec.structs.replace(
            incident,
            text=incident.text[:_LONGEST_TEXT],
            traceback=_shortened(incident.traceback, _LONGEST_TRACEBACK),
        )
        self._file.append(encode_facts(msgspec.to_builtins(fitting)) + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_incidents(log_dir: Path, slot: str | None = None, limit: int | None = None) -> list[Incident]:
    """Return what is remembered, oldest first: of one slot or all, the latest ``limit`` of them.

    Raises:
        SupervisorError: If there are incidents that we may not read.
    """
    found = [incident for incident in _all(log_dir) if slot in (None, incident.slot)]
    return found if limit is None else found[max(0, len(found) - limit) :]


def _all(log_dir: Path) -> Iterator[Incident]:
    decoder = msgspec.json.Decoder(Incident)
    for name in (*(f"{FILE}.{number}" for number in range(KEEP, 0, -1)), FILE):
        for line in _lines(log_dir / name):
            with suppress(*MALFORMED):
                yield decoder.decode(line)


def _lines(file: Path) -> list[bytes]:
    try:
        with open(file, "rb") as stream:
            return stream.read(4 * MAX_SIZE).split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SupervisorError(f"cannot read {file}: {error.strerror}") from None


def _shortened(text: str, longest: int) -> str:
    """Return ``text`` without its middle, if it is too long: what happened is at its end, where at its beginning."""
    half = longest // 2
    return text if len(text) <= longest else text[:half] + _CUT + text[-half:]
