"""The links of a mesh as a table of all nodes against all nodes. Pure: facts in, text out.

It is as large as there is room. A few nodes have cells that say everything; more have numbers, then one character each;
when there is no room for that, neighbours are taken together, and a cell says how many of its links are not up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

from .links import Condition, Pairs, worse
from .scales import Scale
from .snapshot import MeshLinks, NodeLinks
from .style import DIM, RED, YELLOW, paint

_CHUNKS = (2, 5, 10, 20, 50, 1000)
_BESIDE = 8  # lines that are not rows
_BARS = ("▁▂▃▄▅▆", "123456")  # where there is Unicode, and where not
_HEAT = ("38;5;65", "38;5;71", "38;5;107", "38;5;143", "38;5;179", "38;5;215")
"""Of 256 colours, green to amber. Red is for trouble."""

_COLOURS = {
    Condition.NONE: DIM,
    Condition.UP: DIM,
    Condition.MENDING: YELLOW,
    Condition.COMING: YELLOW,
    Condition.MISSING: RED,
    Condition.UNKNOWN: YELLOW,
}
_GLYPHS = {
    Condition.NONE: "--",
    Condition.UP: "·.",
    Condition.MENDING: "~~",
    Condition.COMING: "○o",
    Condition.MISSING: "xx",
    Condition.UNKNOWN: "??",
}
_MEANINGS = {
    Condition.NONE: "no link wanted",
    Condition.MENDING: "being mended",
    Condition.COMING: "being dialled",
    Condition.MISSING: "not there",
    Condition.UNKNOWN: "not known",
}


@dataclass(frozen=True, slots=True)
class Canvas:
    """Where it is to be drawn: ``width`` in columns, ``height`` in lines (None: as many as it takes)."""

    width: int = 80
    height: int | None = None
    colour: bool = False
    unicode: bool = True


@dataclass(frozen=True, slots=True)
class Unit:
    """A row, and a column: one node, or neighbours of one group."""

    label: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """The links from one unit to another: ``count`` that are wanted, of which ``down`` are not up.

    ``value`` is theirs on the scale, None if it is not known or there is nothing to show.
    """

    condition: Condition
    count: int
    down: int
    value: float | None


def matrix(links: MeshLinks, pairs: Pairs, scale: Scale, canvas: Canvas) -> list[str]:
    """Return the lines of the table, and of what explains it; there must be a node."""
    style, units = _choose(links.nodes, scale, canvas)
    labels = _labels(style, units)
    cells = [[cell_of(pairs, one, other, scale) for other in units] for one in units]
    lines: list[str] = []
    band = max(1, (canvas.width - len(labels[0]) - 1) // style.columns)
    for start in range(0, len(units), band):  # one as a rule: it takes many groups for more
        header = style.header(units, range(len(units))[start : start + band])
        lines += [paint(" " * (len(labels[0]) + 1) + line, DIM, on=canvas.colour) for line in header]
        for label, row in zip(labels, cells, strict=True):
            drawn = (_drawn(cell, style, canvas) for cell in row[start : start + band])
            lines.append(f"{label} {''.join(drawn)}".rstrip())
        lines.append("")
    legend = _legend([cell for row in cells for cell in row if cell is not None], style, scale)
    return [*lines, *(paint(line, DIM, on=canvas.colour) for line in _wrapped(legend, canvas.width))]


def units_of(nodes: Sequence[NodeLinks], size: int = 1) -> list[Unit]:
    """Return the rows for ``nodes``: up to ``size`` neighbours of one group in each."""
    groups: dict[str, list[str]] = {}
    for node in nodes:
        groups.setdefault(node.worker, []).append(node.name)
    chunks = [tuple(names[at : at + size]) for names in groups.values() for at in range(0, len(names), size)]
    return [Unit(_label(names), names) for names in chunks]


def _label(names: tuple[str, ...]) -> str:
    first, last = names[0], names[-1]
    return first if len(names) == 1 else f"{first}..{last.rpartition('-')[2]}"


def cell_of(pairs: Pairs, one: Unit, other: Unit, scale: Scale) -> Cell | None:
    """Return what there is from one unit to another; None between a node and itself."""
    names = list(permutations(one.nodes, 2) if one == other else product(one.nodes, other.nodes))
    if not names:
        return None
    found = {pairs[pair].names: pairs[pair] for pair in names}
    wanted = [pair for pair in found.values() if pair.condition is not Condition.NONE]
    condition = Condition.NONE
    for pair in wanted:
        condition = worse(condition, pair.condition)
    values = [scale.value(pairs[pair], pair[0]) for pair in names if pairs[pair].condition is Condition.UP]
    known = [value for value in values if value]
    down = sum(pair.condition is not Condition.UP for pair in wanted)
    return Cell(condition, len(wanted), down, scale.combine(known) if known else None)


# How cells look.


class _Style:
    """Cells of one character; ``columns`` are what one takes, with the gap before it."""

    columns = 1
    is_numbered = True

    def __init__(self, scale: Scale, canvas: Canvas) -> None:
        self.scale = scale
        self._is_plain = not canvas.unicode

    def text(self, cell: Cell) -> str:
        return self.glyph(cell.condition) if cell.down or cell.value is None else self.number(cell.value)

    def glyph(self, condition: Condition) -> str:
        return _GLYPHS[condition][self._is_plain]

    def number(self, value: float) -> str:
        return _BARS[self._is_plain][self.scale.level(value)]

    def header(self, units: Sequence[Unit], columns: Sequence[int]) -> list[str]:
        """Return the lines above ``columns``, which number them: tens over ones."""
        numbers = [column + 1 for column in columns]
        tens = "".join(str(number // 10 % 10) if number % 10 == 0 else " " for number in numbers).rstrip()
        return [*([tens] if tens else []), "".join(str(number % 10) for number in numbers)]

    def explanation(self) -> list[str]:
        """Say what the numbers are."""
        bars, bounds = _BARS[self._is_plain], self.scale.bounds
        steps = [f"{bar} < {self.scale.in_short(bound)}" for bar, bound in zip(bars, bounds, strict=False)]
        return [f"{self.scale.title}:", *steps, f"{bars[-1]} more"]


class _Numbers(_Style):
    """Cells of three characters: a number, or how many links are not up."""

    columns = 4

    def text(self, cell: Cell) -> str:
        if cell.down and cell.count > 1:
            return f"-{cell.down}" if cell.down < 100 else "-##"
        return super().text(cell)

    def number(self, value: float) -> str:
        return self.scale.in_short(value)

    def header(self, units: Sequence[Unit], columns: Sequence[int]) -> list[str]:
        return ["".join(f"{column + 1:{self.columns}}" for column in columns)]

    def explanation(self) -> list[str]:
        return [self.scale.title]


class _Names(_Numbers):
    """The same, with room for the names of the columns, and for long numbers."""

    is_numbered = False

    def __init__(self, scale: Scale, canvas: Canvas, units: Sequence[Unit]) -> None:
        super().__init__(scale, canvas)
        self.columns = 2 + max(8, *(len(unit.label) for unit in units))

    def number(self, value: float) -> str:
        return self.scale.in_full(value)

    def header(self, units: Sequence[Unit], columns: Sequence[int]) -> list[str]:
        return ["".join(f"{units[column].label:>{self.columns}}" for column in columns)]


def _choose(nodes: Sequence[NodeLinks], scale: Scale, canvas: Canvas) -> tuple[_Style, list[Unit]]:
    """Return the most telling style that there is room for, and the rows."""
    units = units_of(nodes)
    for style in (_Names(scale, canvas, units), _Numbers(scale, canvas), _Style(scale, canvas)):
        if _fits(style, units, canvas):
            return style, units
    style = _Numbers(scale, canvas)
    for size in _CHUNKS:
        units = units_of(nodes, size)
        if _fits(style, units, canvas):
            return style, units
    return _Style(scale, canvas), units


def _fits(style: _Style, units: Sequence[Unit], canvas: Canvas) -> bool:
    width = len(_labels(style, units)[0]) + 1 + len(units) * style.columns
    return width <= canvas.width and (canvas.height is None or len(units) + _BESIDE <= canvas.height)


def _labels(style: _Style, units: Sequence[Unit]) -> list[str]:
    width, digits = max(len(unit.label) for unit in units), len(str(len(units)))
    numbers = (f"{number:{digits}} " if style.is_numbered else "" for number in range(1, len(units) + 1))
    return [f"{number}{unit.label:{width}}" for number, unit in zip(numbers, units, strict=True)]


def _drawn(cell: Cell | None, style: _Style, canvas: Canvas) -> str:
    if cell is None:
        return " " * style.columns
    text = style.text(cell)
    colour = _COLOURS[cell.condition]
    if cell.value is not None and not cell.down:
        colour = _HEAT[style.scale.level(cell.value)]
    return " " * (style.columns - len(text)) + paint(text, colour, on=canvas.colour)


def _legend(cells: Sequence[Cell], style: _Style, scale: Scale) -> list[str]:
    """Return what explains the signs that occur, and no others."""
    has_values = any(cell.value is not None and not cell.down for cell in cells)
    parts = style.explanation() if has_values else []
    if has_values and any(cell.count > 1 for cell in cells):
        parts.append(f"({scale.combination})")
    shown = [cell.condition for cell in cells if cell.count <= 1 or not isinstance(style, _Numbers)]
    if any(cell.condition is Condition.UP and cell.value is None for cell in cells):
        parts.append(f"{style.glyph(Condition.UP)} {scale.nothing}")
    parts += [f"{style.glyph(sign)} {meaning}" for sign, meaning in _MEANINGS.items() if sign in shown]
    if isinstance(style, _Numbers) and any(cell.down and cell.count > 1 for cell in cells):
        parts.append("-3 three links that are not up")
    return parts


def _wrapped(parts: Sequence[str], width: int) -> list[str]:
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += "  " + part
        else:
            lines.append(part)
    return lines
