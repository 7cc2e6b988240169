"""The figures of a run: rows of samples, put together, as JSON and as a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """What one contender did in one discipline: ``samples`` in ``unit``, or a ``note`` why there are none."""

    discipline: str
    name: str
    samples: Sequence[float] = field(default_factory=tuple)
    note: str = ""
    unit: str = "ms"

    @property
    def median(self) -> float | None:
        return statistics.median(self.samples) if self.samples else None

    @property
    def tail(self) -> tuple[str, float] | None:
        """Return the highest percentile that this many samples support, by name, or the maximum."""
        ordered, count = sorted(self.samples), len(self.samples)
        if count >= 100:
            return "p99", ordered[-(count // 100) - 1]
        if count >= 50:
            return "p98", ordered[-(count // 50) - 1]
        return ("max", ordered[-1]) if count > 1 else None


def merge(rows: Iterable[Row]) -> list[Row]:
    """Return ``rows`` with those of one contender in one discipline made one, in the order of the first of each."""
    merged: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = row.discipline, row.name
        before = merged.get(key, row)
        samples = [*before.samples, *row.samples] if before is not row else row.samples
        merged[key] = replace(before, samples=samples, note=row.note or before.note)
    return list(merged.values())


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return ``rows`` for a program."""
    return [
        {
            "discipline": row.discipline,
            "name": row.name,
            "unit": row.unit,
            "p50": row.median,
            "tail": dict([row.tail]) if row.tail else None,
            "n": len(row.samples),
            "note": row.note,
            "samples": [float(f"{sample:.5g}") for sample in row.samples],
        }
        for row in rows
    ]


def from_json(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return the rows that ``as_json`` has written."""
    return [Row(row["discipline"], row["name"], row["samples"], row["note"], row["unit"]) for row in rows]


def render(rows: Sequence[Row]) -> str:
    """Return the table; the ratio is to the first row of the discipline that has a figure."""
    lines = [f"{'':66}{'p50':>12}{'tail':>15}{'n':>6}{'ratio':>9}"]
    for discipline in dict.fromkeys(row.discipline for row in rows):
        group = [row for row in rows if row.discipline == discipline]
        base = next((row.median for row in group if row.median is not None), None)
        lines += ["", discipline, *(_line(row, base) for row in group)]
    return "\n".join(lines) + "\n"


def _line(row: Row, base: float | None) -> str:
    if row.median is None:
        return f"  {row.name:64}  {row.note}"
    tail = f"{number(row.tail[1])} {row.tail[0]}" if row.tail else ""
    ratio = f"{row.median / base:.2f}x" if base else ""
    line = f"  {row.name:64}{quantity(row.median, row.unit):>12}{tail:>15}{len(row.samples):>6}{ratio:>9}"
    return f"{line}  {row.note}".rstrip()


def number(value: float) -> str:
    """Return ``value`` with about three digits."""
    size = abs(value)
    if not size:
        return "0"
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def quantity(value: float, unit: str) -> str:
    """Return ``value`` with its unit; rates (``/s``) from ten thousand on in thousands or millions."""
    if unit != "/s":
        return f"{number(value)} {unit}"
    if value < 10_000:
        return f"{number(value)}/s"
    scale, letter = (1e6, "M") if value >= 1e6 else (1e3, "k")
    return f"{number(value / scale)} {letter}/s"
