"""Texts on a terminal: without what would move its cursor, and as wide as there is room. Pure."""

from __future__ import annotations

import re
import unicodedata

_COLOUR_SEQUENCE = re.compile(r"\x1b\[[0-9;:]*m")
# ECMA-48: control sequences (CSI), strings (OSC, DCS, ...), short escapes; then whatever controls are left.
_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]?|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
    # Unicode's own: line ends, and what makes the text behind it run the other way.
    r"|[\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
_TAB = 8
_LONGEST_END = 4


def clean(text: str, *, keep_colours: bool = False) -> str:
    """Return ``text`` without whatever would move the cursor or change the terminal; tabs may stay."""
    if text.isprintable():
        return text

    def keep(match: re.Match[str]) -> str:
        if keep_colours and _COLOUR_SEQUENCE.fullmatch(match[0]):
            return match[0]
        return " " if match[0] == "\n" else ""

    return _ESCAPE.sub(keep, text)


def plain(text: str) -> str:
    """Return ``text``, which is clean, without its colours."""
    return _COLOUR_SEQUENCE.sub("", text)


def cut(text: str, room: int) -> str:
    """Return as much of ``text`` as fits into ``room`` columns."""
    used = 0
    for index, char in enumerate(text):
        used += _cells(char)
        if used > room:
            return text[:index]
    return text


def wrap(text: str, room: int) -> list[str]:
    """Return ``text`` as lines of at most ``room`` columns (and at least two), broken between words if possible."""
    lines, line, used = [], "", 0
    for word in text.expandtabs(_TAB).split(" "):  # a tab may have no room in a whole line
        wide = width(word)
        if line and used + 1 + wide > room:
            lines.append(line)
            line, used = "", 0
        if wide > max(room, 2):
            *full, word = _chopped(word, max(room, 2))
            lines += full
            wide = width(word)
        line, used = (f"{line} {word}", used + 1 + wide) if line else (word, wide)
    return [*lines, line]


def _chopped(word: str, room: int) -> list[str]:
    """Return ``word`` in pieces of at most ``room`` columns, which are 2 or more; it may be very long."""
    pieces, begin, used = [], 0, 0
    for index, char in enumerate(word):
        cells = _cells(char)
        if used + cells > room:
            pieces.append(word[begin:index])
            begin, used = index, 0
        used += cells
    return [*pieces, word[begin:]]


def width(text: str) -> int:
    """Return how many columns ``text`` takes."""
    return sum(map(_cells, text)) if not text.isascii() or "\t" in text else len(text)


def shorten(name: str, room: int, mark: str = "…") -> str:
    """Return ``name`` (letters of one column) in ``room`` columns: what differs in names is mostly at their ends."""
    if len(name) <= room:
        return name
    end = min(_LONGEST_END, room // 3)
    return name[: max(0, room - end - 1)] + mark + name[len(name) - end :]


def _cells(char: str) -> int:
    if char == "\t":
        return _TAB
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
