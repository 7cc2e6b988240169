"""Tables for people. Pure: texts in, lines out."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .style import DIM, paint

_GAP = "  "


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Collection[str] = (),
    marks: tuple[int, Sequence[str | None]] | None = None,
    colour: bool = False,
) -> list[str]:
    """Return the lines of a table; the columns of the headers in ``numbers`` stand to the right.

    ``marks`` is the number of a column, and for each row the colour of its cell there.
    """
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]

    def padded(row: Sequence[str]) -> list[str]:
        return [
            cell.rjust(width) if header in numbers else cell.ljust(width)
            for header, cell, width in zip(headers, row, widths, strict=True)
        ]

    lines = [paint(_GAP.join(padded(headers)).rstrip(), DIM, on=colour)]
    for index, row in enumerate(rows):
        cells = padded(row)
        if marks is not None:
            column, colours = marks
            cells[column] = paint(cells[column], colours[index], on=colour)
        lines.append(_GAP.join(cells).rstrip())
    return lines
