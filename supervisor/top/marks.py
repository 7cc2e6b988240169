"""The signs that ``supervise top`` draws with, where there is Unicode and colour, and where there is not. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .matrix import Cell, Health

# Up to so many seconds each, from "as fast as it gets on one machine" to "far away, or in trouble".
HEAT = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
_COLOURS = ("#3a8f5c", "#55a860", "#86bb5e", "#c0c957", "#e3bf4c", "#e69a3e", "#dd6f3a", "#d04a4a")
_UNKNOWN = "#3f6f55"
_SHADES = "░░▒▒▓▓██"
_DIGITS = "12345678"

_UNICODE = {Health.SUSPECT: "◪", Health.COMING: "◌", Health.DOWN: "✕", Health.OVER: "·"}
_ASCII = {Health.SUSPECT: "?", Health.COMING: "o", Health.DOWN: "x", Health.OVER: "."}
_STYLES = {Health.SUSPECT: "bold yellow", Health.COMING: "cyan", Health.DOWN: "bold red", Health.OVER: "dim"}


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
        return self.heat(cell.rtt) if cell.health is Health.UP else self.trouble(cell.health)

    def trouble(self, health: Health) -> tuple[str, str]:
        """Return the sign for a link that is not simply up, and its style."""
        return (_UNICODE if self.unicode else _ASCII)[health], _STYLES[health]

    def heat(self, rtt: float | None) -> tuple[str, str]:
        """Return the sign for a link that is up, and its style."""
        level = None if rtt is None else sum(rtt >= limit for limit in HEAT)
        style = _UNKNOWN if level is None else _COLOURS[level]
        if self.unicode and self.colour:
            return "■", style
        if level is None:
            return ("□" if self.unicode else "+"), style
        return (_SHADES if self.unicode else _DIGITS)[level], style
