"""What ``supervise run`` shows: one line per event and per line of output, the slot's name in front."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .cells import clean, cut, plain, wrap
from .event import Event, describe
from .labels import MESH, Labels
from .logs import PROGRESS
from .style import DIM, GREEN, RED, YELLOW, Look, paint

_ERASE = "\r\x1b[2K"


class Output:
    """Turns events and lines into text for ``write``, behind the name of the slot, or ``mesh``.

    Progress (a text that a program ends with a carriage return) is shown in place, below everything else, on a
    terminal and nowhere else; only the latest of all slots is, cut to one line.
    """

    def __init__(self, slots: Sequence[str], look: Look, write: Callable[[str], None]) -> None:
        self._look = look
        self._write = write
        self._labels = Labels(slots, look, (MESH, *slots))
        self._progress: tuple[str, str] | None = None
        self._is_dirty = False  # whether the cursor stands behind a text that is not ours to keep

    def event(self, event: Event) -> None:
        """Show that something happened, unless the events around it tell the same."""
        if event.is_minor:
            return
        if event.event == "slot-exited":
            self._forget_progress(event.slot)
        sentence = clean(describe(event)).removeprefix(f"{event.slot} ")
        self._say(event.slot, sentence, colour_of(event))

    def line(self, slot: str, kind: str, text: str) -> None:
        """Show a line that a slot printed; ``kind`` is ``stdout``, ``stderr`` or ``progress``."""
        cleaned = clean(text, keep_colours=self._look.colour)
        if kind == PROGRESS:
            self._show_progress(slot, cleaned)
            return
        self._forget_progress(slot)
        if "\x1b" in cleaned:
            cleaned += "\x1b[0m"
        self._line(slot, self._labels.bar, cleaned)

    def note(self, text: str) -> None:
        """Say something about the mesh as a whole."""
        self._say("", clean(text), None)

    def interrupted(self) -> None:
        """The terminal has just echoed a key (``^C``): the next line goes over it."""
        self._is_dirty = self._look.columns is not None

    def close(self) -> None:
        """Leave the cursor at the beginning of a line."""
        if self._is_dirty:
            self._write(_ERASE)
            self._is_dirty = False

    def _say(self, slot: str, sentence: str, colour: str | None) -> None:
        """Show a sentence of ours; on a terminal that is too narrow its words stay whole, and the labels free."""
        lines = [sentence] if self._look.columns is None else wrap(sentence, self._labels.room(slot))
        painted = [paint(line, colour, on=self._look.colour) for line in lines]
        self._line(slot, self._labels.dot, ("\n" + self._labels.indent(slot)).join(painted))

    def _line(self, slot: str, mark: str, text: str) -> None:
        erase = _ERASE if self._is_dirty else ""
        self._write(f"{erase}{self._labels.of(slot, mark)} {text}".rstrip(" ") + "\n" + self._progress_line())
        self._is_dirty = self._progress is not None

    def _show_progress(self, slot: str, text: str) -> None:
        if self._look.columns is None:
            return
        self._progress = (slot, text)
        self._write((_ERASE if self._is_dirty else "") + self._progress_line())
        self._is_dirty = True

    def _progress_line(self) -> str:
        if self._progress is None or self._look.columns is None:
            return ""
        slot, text = self._progress
        return f"{self._labels.of(slot, self._labels.bar)} {cut(plain(text), self._labels.room(slot))}"

    def _forget_progress(self, slot: str) -> None:
        if self._progress is not None and self._progress[0] == slot:
            self._progress = None


def colour_of(event: Event) -> str | None:
    """Return the colour that says how bad an event is."""
    match event.event:
        case "slot-exited" if event.details.get("cause") == "stopped":
            return DIM
        case "slot-exited" if event.details.get("next") == "failed" or event.details.get("delay") is not None:
            return RED
        case "slot-ready" if event.details.get("after") is not None:
            return GREEN
        case "limit-exceeded":
            return RED
        case "slot-hung" | "log-lost" | "log-restored" | "dropped" | "leftovers-killed":
            return YELLOW
        case _:
            return DIM
