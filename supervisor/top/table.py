"""The slots of a mesh as a table of fixed columns, as many as there is room for. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.text import Text

from ..cells import shorten
from ..snapshot import WorkerState
from .facts import Facts, SlotFacts, buckets
from .figures import ago, rate, size, span, spark
from .marks import Marks

_WIDEST_NAME = 28
_NARROWEST_NAME = 12
_SPARKS = (20, 16, 12, 8)
_SELECTED = "on #2b3440"

STATE_STYLES = {
    WorkerState.READY: "green",
    WorkerState.STARTING: "cyan",
    WorkerState.STOPPING: "cyan",
    WorkerState.SUSPECT: "bold yellow",
    WorkerState.BACKOFF: "yellow",
    WorkerState.PARKED: "red",
    WorkerState.FAILED: "bold red",
    WorkerState.STOPPED: "dim",
}

Cell = tuple[str, str]
"""A text and its style."""


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    width: int
    cell: Callable[[SlotFacts], Cell]
    is_text: bool = False


class Table:
    """Lays out the columns once for all rows."""

    def __init__(self, facts: Facts, marks: Marks, width: int) -> None:
        self._facts = facts
        self._marks = marks
        self._width = width
        names = max((len(slot.name) for slot in facts.slots), default=4)
        self._columns = self._chosen(width - 2 - max(_NARROWEST_NAME, min(names, _WIDEST_NAME)))
        taken = 2 + sum(column.width + 1 for column in self._columns) + self._sparks + 1
        self._name_width = max(4, min(names, _WIDEST_NAME, width - taken))
        self.width = taken + self._name_width

    def head(self) -> Text:
        """Return the line above."""
        line = Text(f"  {'SLOT':{self._name_width}}", style="dim")
        for column in self._columns:
            line.append(" ")
            line.append(_aligned(column, column.title))
        if self._sparks:
            line.append(f" {'5 MINUTES' if self._sparks > 8 else '5 MIN'}")
        return line

    def row(self, slot: SlotFacts, *, is_selected: bool) -> Text:
        """Return the line of one slot."""
        line = Text(f"{self._marks.pointer} " if is_selected else "  ")
        name = shorten(slot.name, self._name_width, self._marks.cut)
        line.append(f"{name:{self._name_width}}", style="bold" if is_selected else "")
        for column in self._columns:
            text, style = column.cell(slot)
            line.append(" ")
            line.append(_aligned(column, text), style=style)
        if self._sparks:
            line.append(" ")
            line.append(self._spark(slot))
        if is_selected:
            line.pad_right(self._width - line.cell_len)
            line.stylize_before(_SELECTED)
        return line

    def _chosen(self, room: int) -> list[_Column]:
        """Return the columns that fit, and set how wide the sparkline is."""
        columns = [
            _Column("STATE", 10, self._state, is_text=True),
            _Column("INC", 4, lambda slot: (str(slot.status.incarnation or "-"), "")),
            _Column("UP", 7, self._uptime),
            _Column("CPU", 5, _cpu),
            _Column("MEM", 6, _memory),
            _Column("LAG", 6, _lag),
            _Column("IN/S", 6, lambda slot: _rate(slot.received)),
            _Column("OUT/S", 6, lambda slot: _rate(slot.sent)),
            _Column("RST", 4, _restarts),
        ]
        for dropped in ((), ("OUT/S",), ("OUT/S", "LAG"), ("OUT/S", "LAG", "INC"), ("OUT/S", "LAG", "INC", "IN/S")):
            kept = [column for column in columns if column.title not in dropped]
            left = room - sum(column.width + 1 for column in kept)
            if (sparks := next((count for count in _SPARKS if count + 1 <= left), 0)) > 0:
                self._sparks = sparks
                return kept
        self._sparks = 0
        return kept[:3]

    def _state(self, slot: SlotFacts) -> Cell:
        state = slot.status.state
        return f"{self._marks.dot} {state}", STATE_STYLES.get(state, "")

    def _uptime(self, slot: SlotFacts) -> Cell:
        status = slot.status
        if status.pid is not None:
            return ago(status.uptime), ""
        if slot.waits is not None:
            return f"in {ago(slot.waits)}", "yellow"
        return "-", "dim"

    def _spark(self, slot: SlotFacts) -> Text:
        counts = buckets(slot.incidents, self._facts.at, self._sparks)
        line = Text()
        for count, bar in zip(counts, spark(counts, unicode=self._marks.unicode), strict=True):
            line.append(bar, style="red" if count else "dim")
        return line


def _aligned(column: _Column, text: str) -> str:
    return text.ljust(column.width) if column.is_text else text.rjust(column.width)


def _cpu(slot: SlotFacts) -> Cell:
    if slot.status.pid is None:
        return "-", "dim"
    cpu = slot.status.cpu
    return f"{cpu:.0f}%", "yellow" if cpu >= 90.0 else "dim" if cpu < 0.5 else ""


def _memory(slot: SlotFacts) -> Cell:
    return (size(slot.status.rss), "") if slot.status.pid is not None and slot.status.rss else ("-", "dim")


def _lag(slot: SlotFacts) -> Cell:
    lag = slot.node.lag if slot.node is not None and slot.status.pid is not None else None
    if lag is None:
        return "-", "dim"
    return span(lag), "red" if lag >= 0.25 else "yellow" if lag >= 0.05 else "dim" if lag < 0.001 else ""


def _rate(per_second: float | None) -> Cell:
    return rate(per_second), "" if per_second else "dim"


def _restarts(slot: SlotFacts) -> Cell:
    return str(slot.status.restarts), "" if slot.status.restarts else "dim"
