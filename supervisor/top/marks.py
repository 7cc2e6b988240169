"""The signs that ``supervise top`` draws with, where there is Unicode and colour, and where there is not. Pure."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from ..links import Condition
from .matrix import Cell

# Up to so many seconds each. The round trip of a handshake, the only one that is measured within one machine, takes
# milliseconds while a mesh forms: that is no trouble, and green.
HEAT = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_COLOURS = ("#2f8f5b", "#43a566", "#67b56a", "#9cc465", "#d8c653", "#e3a03f", "#dd6f3a", "#d04a4a")
_UNKNOWN = "#3f6f55"
_SHADES = "░░▒▒▓▓██"
_DIGITS = "12345678"

# What is not simply up, with the signs of `supervise mesh`: with and without Unicode, and the style.
_TROUBLE = {
    Condition.MENDING: ("~", "~", "bold yellow"),
    Condition.COMING: ("○", "o", "cyan"),
    Condition.MISSING: ("x", "x", "bold red"),
    Condition.UNKNOWN: ("?", "?", "bold yellow"),
    Condition.NONE: ("-", "-", "dim"),
}
_DOUBT = ("◪", "!", "bold yellow")


@dataclass(frozen=True, slots=True)
class Marks:
    """What can be shown. Without ``colour`` shades tell the round trip of a link, without ``unicode`` digits do."""

    unicode: bool = True
    colour: bool = True

    @property
    def dot(self) -> str:
        """What stands before a state."""
        return "●" if self.unicode else "*"

    @property
    def pointer(self) -> str:
        """What stands before what is selected."""
        return "▸" if self.unicode else ">"

    @property
    def cut(self) -> str:
        """What stands for the rest of a text."""
        return "…" if self.unicode else "~"

    @property
    def between(self) -> str:
        """What stands between two figures."""
        return " · " if self.unicode else "  "

    def cell(self, cell: Cell | None) -> tuple[str, str]:
        """Return the sign for a link, and its style."""
        if cell is None:
            return ("╲" if self.unicode else "\\", "dim")
        if cell.is_doubted:
            return self.doubt
        return self.heat(cell.rtt) if cell.condition is Condition.UP else self.trouble(cell.condition)

    @property
    def doubt(self) -> tuple[str, str]:
        """The sign for a link that is in doubt, and its style."""
        return _DOUBT[0 if self.unicode else 1], _DOUBT[2]

    def trouble(self, condition: Condition) -> tuple[str, str]:
        """Return the sign for a link that is not up, and its style."""
        return _TROUBLE[condition][0 if self.unicode else 1], _TROUBLE[condition][2]

    def heat(self, rtt: float | None) -> tuple[str, str]:
        """Return the sign for a link that is up, and its style."""
        level = None if rtt is None else bisect_right(HEAT, rtt)
        style = _UNKNOWN if level is None else _COLOURS[level]
        if self.unicode and self.colour:
            return "■", style
        if level is None:
            return ("□" if self.unicode else "+"), style
        return (_SHADES if self.unicode else _DIGITS)[level], style
