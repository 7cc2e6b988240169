"""The links of a mesh as a panel: a matrix with its legend, of nodes or, where there are too many, of workers. Pure."""

from __future__ import annotations

from rich.text import Text

from ..cells import shorten
from .facts import Facts
from .figures import span
from .marks import Marks
from .matrix import Health, Matrix, folded

_WIDEST_NAME = 20


def links_panel(facts: Facts, matrix: Matrix, marks: Marks, width: int, height: int | None) -> list[Text] | None:
    """Return the lines of the panel, as detailed as there is room; None if there is not even room for the workers."""
    head = _head(matrix)
    groups = {node.name: node.worker for node in facts.nodes}
    smaller = folded(matrix, groups) if set(matrix.names) <= set(groups) else matrix
    for one, cell_width in ((matrix, 2), (matrix, 1), (smaller, 2)):
        lines = _rows(one, marks, width, cell_width)
        if lines is None:
            continue
        panel = [head, *lines]
        if height is None or len(panel) + 1 <= height:
            return [*panel, _legend(marks, width)]
        if len(panel) <= height:
            return panel
    return None


def _head(matrix: Matrix) -> Text:
    wanted = len(matrix.pairs()) - matrix.count(Health.OVER)
    line = Text(" LINKS", style="dim")
    line.append(f"  {matrix.count(Health.UP)} of {wanted} up", style="default")
    if troubled := matrix.count(Health.DOWN, Health.COMING):
        line.append(f", {troubled} not", style="red")
    if suspect := matrix.count(Health.SUSPECT):
        line.append(f", {suspect} suspect", style="yellow")
    if rtts := matrix.rtts():
        line.append(f"   round trip {span(rtts[0])} to {span(rtts[-1])}, median {span(rtts[len(rtts) // 2])}")
    return line


def _rows(matrix: Matrix, marks: Marks, width: int, cell_width: int) -> list[Text] | None:
    """Return a line of numbers and one for each name, unless they do not fit."""
    count = len(matrix.names)
    digits = len(str(max(0, count - 1)))
    room = width - 1 - digits - 1 - 1 - count * cell_width
    if room < 6:
        return None
    name_width = min(_WIDEST_NAME, room, max(map(len, matrix.names), default=0))
    top = Text(" " * (1 + digits + 1 + name_width + 1), style="dim")
    for number in range(count):
        top.append(f"{number % 10:<{cell_width}}")
    lines = [top]
    for number, (name, cells) in enumerate(zip(matrix.names, matrix.cells, strict=True)):
        line = Text(f" {number:>{digits}} ", style="dim")
        line.append(f"{shorten(name, name_width, marks.cut):{name_width}} ", style="default")
        for cell in cells:
            sign, style = marks.cell(cell)
            line.append(f"{sign:<{cell_width}}", style=style)
        lines.append(line)
    return lines


def _legend(marks: Marks, width: int) -> Text:
    line = Text(" ")
    for rtt, text in ((0.0001, "<0.5ms"), (0.003, "<5ms"), (0.015, "<20ms"), (0.1, "slower")):
        line.append(*marks.heat(rtt))
        line.append(f" {text}  ", style="dim")
    others = (
        (Health.SUSPECT, "suspect"),
        (Health.COMING, "dialled"),
        (Health.DOWN, "down"),
        (Health.OVER, "off"),
    )
    for health, text in others:
        line.append(*marks.trouble(health))
        line.append(f" {text}  ", style="dim")
    line.rstrip()
    return line
