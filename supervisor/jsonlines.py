"""What ``supervise run --log-format json`` shows: one JSON object per event and per line of output."""

from __future__ import annotations

import time
from collections.abc import Callable

from .event import Event, encode_facts
from .logs import PROGRESS


class JsonOutput:
    """Turns events and lines into objects for ``write``; an event has ``event``, a line ``stream`` and ``text``.

    All have ``at`` (Unix seconds) and ``slot`` (empty: it concerns the mesh as a whole). Nothing is left out but
    progress, which is for terminals.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.time) -> None:
        self._write = write
        self._clock = clock

    def event(self, event: Event) -> None:
        """Show that something happened."""
        self._write(as_json(event))

    def line(self, slot: str, kind: str, text: str) -> None:
        """Show a line that a slot printed."""
        if kind != PROGRESS:
            self._show({"at": round(self._clock(), 3), "slot": slot, "stream": kind, "text": text})

    def note(self, text: str) -> None:
        """Say something about the mesh as a whole."""
        self._show({"at": round(self._clock(), 3), "event": "note", "slot": "", "text": text})

    def interrupted(self) -> None:
        """Nothing of a terminal is kept here."""

    def close(self) -> None:
        """Nothing is left open."""

    def _show(self, fields: dict[str, object]) -> None:
        self._write(encode_facts(fields).decode() + "\n")


def as_json(event: Event) -> str:
    """Return ``event`` as one line."""
    facts = {"at": event.at, "event": event.event, "slot": event.slot, "incarnation": event.incarnation}
    return encode_facts({**facts, **event.details}).decode() + "\n"


def dropped(count: int) -> str:
    """Return the line that stands for ``count`` lines which were not taken fast enough."""
    return as_json(Event(time.time(), "dropped", details={"count": count}))
