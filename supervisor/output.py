"""What ``supervise run`` shows: one line per event and per line of output, the slot's name in front."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .event import Event, describe
from .logs import PROGRESS
from .style import BOLD, DIM, GREEN, RED, SLOT_COLOURS, YELLOW, paint, wants_colour

_MESH = "mesh"
_WIDEST_LABEL = 24
_ERASE = "\r\x1b[2K"
_COLOUR_SEQUENCE = re.compile(r"\x1b\[[0-9;:]*m")
# ECMA-48: control sequences (CSI), strings (OSC, DCS, ...), short escapes; then whatever controls are left.
_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]?|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)


@dataclass(frozen=True, slots=True)
class Look:
    """What the place that is written to can do. ``columns``: a terminal's width now; None: it is no terminal."""

    colour: bool = False
    unicode: bool = True
    columns: Callable[[], int] | None = None

    @classmethod
    def of(cls, descriptor: int, encoding: str, environment: Mapping[str, str] = os.environ) -> Look:
        """Find out about an open descriptor."""
        is_terminal = os.isatty(descriptor)
        is_able = is_terminal and environment.get("TERM") != "dumb"
        return cls(
            colour=wants_colour(is_terminal, environment),
            unicode=encoding.lower().replace("-", "") == "utf8",
            columns=(lambda: _columns(descriptor)) if is_able else None,
        )


class Output:
    """Turns events and lines into text for ``write``, behind the name of the slot, or ``mesh``.

    Progress (a text that a program ends with a carriage return) is shown in place, below everything else, on a
    terminal and nowhere else; only the latest of all slots is, cut to one line.
    """

    def __init__(self, slots: Sequence[str], look: Look, write: Callable[[str], None]) -> None:
        self._look = look
        self._write = write
        self._width = min(max(map(len, (_MESH, *slots))), _WIDEST_LABEL)
        self._colours = {slot: SLOT_COLOURS[number % len(SLOT_COLOURS)] for number, slot in enumerate(slots)}
        self._bar, self._dot = ("│", "•") if look.unicode else ("|", "*")
        self._progress: tuple[str, str] | None = None
        self._is_dirty = False  # whether the cursor stands behind a text that is not ours to keep

    def event(self, event: Event) -> None:
        """Show that something happened, unless the events around it tell the same."""
        if event.is_minor:
            return
        if event.event == "slot-exited":
            self._forget_progress(event.slot)
        sentence = _clean(describe(event), keep_colours=False).removeprefix(f"{event.slot} ")
        self._line(event.slot, self._dot, paint(sentence, _colour_of(event), on=self._look.colour))

    def line(self, slot: str, kind: str, text: str) -> None:
        """Show a line that a slot printed; ``kind`` is ``stdout``, ``stderr`` or ``progress``."""
        cleaned = _clean(text, keep_colours=self._look.colour)
        if kind == PROGRESS:
            self._show_progress(slot, cleaned)
            return
        self._forget_progress(slot)
        if "\x1b" in cleaned:
            cleaned += "\x1b[0m"
        self._line(slot, self._bar, cleaned)

    def note(self, text: str) -> None:
        """Say something about the mesh as a whole."""
        self._line("", self._dot, text)

    def interrupted(self) -> None:
        """The terminal has just echoed a key (``^C``): the next line goes over it."""
        self._is_dirty = self._look.columns is not None

    def close(self) -> None:
        """Leave the cursor at the beginning of a line."""
        if self._is_dirty:
            self._write(_ERASE)
            self._is_dirty = False

    def _line(self, slot: str, mark: str, text: str) -> None:
        erase = _ERASE if self._is_dirty else ""
        self._write(f"{erase}{self._label(slot, mark)} {text}".rstrip(" ") + "\n" + self._progress_line())
        self._is_dirty = self._progress is not None

    def _label(self, slot: str, mark: str) -> str:
        colour = self._colours.get(slot, DIM) if slot else BOLD
        return paint(f"{slot or _MESH:{self._width}} {mark}", colour, on=self._look.colour)

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
        room = self._look.columns() - max(self._width, len(slot)) - 4
        return f"{self._label(slot, self._bar)} {_cut(_COLOUR_SEQUENCE.sub('', text), room)}"

    def _forget_progress(self, slot: str) -> None:
        if self._progress is not None and self._progress[0] == slot:
            self._progress = None


def _colour_of(event: Event) -> str | None:
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


def _clean(text: str, *, keep_colours: bool) -> str:
    """Return ``text`` without whatever would move the cursor or change the terminal; tabs may stay."""
    if text.isprintable():
        return text

    def keep(match: re.Match[str]) -> str:
        if keep_colours and _COLOUR_SEQUENCE.fullmatch(match[0]):
            return match[0]
        return " " if match[0] == "\n" else ""

    return _ESCAPE.sub(keep, text)


def _cut(text: str, room: int) -> str:
    """Return as much of ``text`` as fits into ``room`` columns."""
    used = 0
    for index, char in enumerate(text):
        used += _cells(char)
        if used > room:
            return text[:index]
    return text


def _cells(char: str) -> int:
    if char == "\t":
        return 8
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _columns(descriptor: int) -> int:
    try:
        return os.get_terminal_size(descriptor).columns or 80
    except OSError:
        return 80
