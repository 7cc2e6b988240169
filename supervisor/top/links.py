"""The links of a mesh as a panel: a matrix with its legend, of nodes or, where there are too many, of workers. Pure."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter

from rich.text import Text

from ..cells import shorten
from ..links import Condition
from .figures import span
from .marks import Marks
from .matrix import Matrix, Summary

_WIDEST_NAME = 20
_HEAT = ((0.002, "<3ms"), (0.02, "<30ms"), (0.2, "<300ms"), (2.0, "slower"))
_TROUBLES = {
    Condition.MENDING: "being mended",
    Condition.COMING: "being dialled",
    Condition.MISSING: "not there",
    Condition.UNKNOWN: "not known",
    Condition.NONE: "not wanted",
}


def links_panel(matrix: Matrix, marks: Marks, width: int, height: int | None) -> list[Text] | None:
    """Return the lines of the panel, as detailed as there is room; None if there is not even room for the workers."""
    summary = matrix.summary
    head, legend = _head(summary, width), _legend(summary, marks, width)
    for one, cell_width in ((matrix, 2), (matrix, 1), (matrix.by_worker, 2)):
        if height is not None and len(one.names) + 2 > height:
            continue
        if (lines := _rows(one, marks, width, cell_width)) is not None:
            panel = [head, *lines, legend]
            return panel if height is None else panel[:height]
    return None


def _head(found: Summary, width: int) -> Text:
    """Return what all links are together, as far as there is room."""
    line = Text()
    line.append(" LINKS", style="dim")
    line.append(f"  {found.up} of {found.wanted} up")
    if missing := found.wanted - found.up:
        line.append(f", {missing} not", style="red")
    if found.doubted:
        line.append(f", {found.doubted} in doubt", style="yellow")
    if rtts := found.rtts:
        middle, longest = span(rtts[len(rtts) // 2]), span(rtts[-1])
        for text in (f"   round trip {span(rtts[0])} to {longest}, half within {middle}", f"   half within {middle}"):
            if line.cell_len + len(text) <= width:
                return line.append(text, style="dim")
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
        line = Text()
        line.append(f" {number:>{digits}} ", style="dim")
        line.append(f"{shorten(name, name_width, marks.cut):{name_width}} ")
        for style, run in groupby(map(marks.cell, cells), itemgetter(1)):
            line.append("".join(f"{sign:<{cell_width}}" for sign, _ in run), style=style)
        lines.append(line)
    return lines


def _legend(found: Summary, marks: Marks, width: int) -> Text:
    """Return what the signs mean, as many of them as there is room for; trouble is explained where there is any."""
    signs = [(*marks.heat(rtt), text) for rtt, text in _HEAT]
    if found.doubted:
        signs.append((*marks.doubt, "in doubt"))
    signs += [(*marks.trouble(one), text) for one, text in _TROUBLES.items() if one in found.conditions]
    line = Text()
    for sign, style, text in signs:
        if line.cell_len + 3 + len(sign) + len(text) > width:
            break
        line.append(f"{'  ' if line.plain else ' '}{sign}", style=style)
        line.append(f" {text}", style="dim")
    return line
