"""The main view of ``supervise top``: facts in, lines for a terminal of a given size out. Pure.

From top to bottom: the mesh in one line, the slots, the links as a matrix where there is room for it (beside the slots
on a wide terminal), the latest incidents, and the keys.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from rich.text import Text

from ..cells import clean, shorten
from ..incidents import Incident
from ..snapshot import ExitCause, MeshState
from ..story import happened
from .facts import Facts
from .figures import ago, rate
from .links import links_panel
from .marks import Marks
from .matrix import Matrix
from .table import Table

KEYS = "↑↓ select  r restart  s stop  S start  l logs  w why  m links  ? help  q quit"
PLAIN_KEYS = KEYS.replace("↑↓", "j/k")
_WIDE = 132  # from here on the matrix stands beside the slots
_SLOTS_WIDTH, _LINKS_WIDTH = 110, 40  # then: at most, and at least
_GAP = 3
_FEW_INCIDENTS = 4
_SILENCE = 3.0  # seconds without an answer that are worth a word


@dataclass(frozen=True, slots=True)
class View:
    """What whoever looks has chosen: a slot, and which is the first one shown. ``message`` stands for the keys."""

    selected: str = ""
    first: int = 0
    message: str = ""


def picture(facts: Facts, matrix: Matrix, view: View, marks: Marks, width: int, height: int | None) -> list[Text]:
    """Return the lines, each at most ``width`` wide, and ``height`` of them (None: as many as there is to tell)."""
    head = [_title(facts, matrix, marks, width)]
    foot = [] if height is None else [_foot(view, marks)]
    room = None if height is None else max(0, height - len(head) - len(foot))
    body = _beside(facts, matrix, view, marks, width, room) if width >= _WIDE else None
    body = body or _stacked(facts, matrix, view, marks, width, room)
    if room is not None:
        body = [*body[:room], *[Text()] * (room - len(body))]
    return [fitted(line, width) for line in (*head, *body, *foot)][:height]


def scrolled(facts: Facts, view: View, width: int, height: int, matrix: Matrix, marks: Marks) -> View:
    """Return ``view`` with a slot selected that exists, and moved so that it is shown."""
    names = [slot.name for slot in facts.slots]
    if not names:
        return view
    selected = view.selected if view.selected in names else names[min(view.first, len(names) - 1)]
    rows = max(1, _slot_rows(facts, matrix, marks, width, height - 2))
    index = names.index(selected)
    first = min(max(view.first, index - rows + 1), index, max(0, len(names) - rows))
    return replace(view, selected=selected, first=max(0, first))


def fitted(line: Text, width: int) -> Text:
    """Return ``line`` cut to ``width`` columns."""
    if line.cell_len > width:
        line = line.copy()
        line.truncate(width)
    line.no_wrap = True
    return line


def _foot(view: View, marks: Marks) -> Text:
    """Return the last line: what has become of what was done, or what can be done."""
    if view.message:
        return Text(f" {view.message}", style="bold")
    return Text(f" {KEYS if marks.unicode else PLAIN_KEYS}", style="dim")


# The parts, and how they share the room.


def _beside(facts: Facts, matrix: Matrix, view: View, marks: Marks, width: int, room: int | None) -> list[Text] | None:
    """Return the slots with the links at their right; None, if that is no gain."""
    left = Table(facts, marks, min(_SLOTS_WIDTH, width - _GAP - _LINKS_WIDTH)).width
    few = min(_FEW_INCIDENTS, len(facts.incidents) + 1)
    panel = links_panel(matrix, marks, width - left - _GAP, None if room is None else room - 1 - few)
    if len(matrix.names) < 2 or panel is None:
        return None
    rows = _slot_rows(facts, matrix, marks, width, room)
    slots = _slots(facts, view, marks, left, rows)
    count = max(len(slots), len(panel))
    above = []
    for index in range(count):
        line = slots[index].copy() if index < len(slots) else Text()
        line.pad_right(left + _GAP - line.cell_len)
        above.append(line + panel[index] if index < len(panel) else line)
    below = _below_slots(facts, view, rows)
    return [*above, below, *_incidents(facts, marks, width, None if room is None else room - count - 1)]


def _stacked(facts: Facts, matrix: Matrix, view: View, marks: Marks, width: int, room: int | None) -> list[Text]:
    rows = _slot_rows(facts, matrix, marks, width, room)
    slots = _slots(facts, view, marks, width, rows)
    left = None if room is None else room - len(slots) - 1 - min(_FEW_INCIDENTS, len(facts.incidents) + 1) - 1
    panel = links_panel(matrix, marks, width, left) if len(matrix.names) > 1 else None
    above = [*slots, _below_slots(facts, view, rows)]
    if panel:
        above += [*panel, Text()]
    return [*above, *_incidents(facts, marks, width, None if room is None else room - len(above))]


def _slot_rows(facts: Facts, matrix: Matrix, marks: Marks, width: int, room: int | None) -> int:
    """Return how many slots are shown: all, or as many as leave a third for the rest."""
    if room is None:
        return len(facts.slots)
    rest = min(len(facts.incidents) + 1, max(_FEW_INCIDENTS, room // 3)) + 1
    return max(1, min(len(facts.slots), room - 1 - rest))


def _title(facts: Facts, matrix: Matrix, marks: Marks, width: int) -> Text:
    line = Text(" ")
    line.append(facts.mesh, style="bold")
    line.append("  ")
    if facts.is_gone:
        line.append("has ended; waiting for it to come back", style="yellow")
    elif facts.state is None:
        line.append("is asked how it is", style="dim")
    else:
        line.append(f"{marks.dot} {facts.state}", style=_STATE_STYLES[facts.state])
        line.append(marks.between.join(["", *_figures(facts, matrix)]))
        if facts.silent_for > _SILENCE:
            line.append(f"{marks.between}no answer for {ago(facts.silent_for)}", style="yellow")
    clock = time.strftime("%H:%M:%S ", time.localtime(facts.at))
    if line.cell_len + len(clock) + 1 <= width:
        line.pad_right(width - len(clock) - line.cell_len)
        line.append(clock, style="dim")
    return line


def _figures(facts: Facts, matrix: Matrix) -> list[str]:
    ready = sum(slot.status.ready for slot in facts.slots)
    figures = [f"{ready} of {len(facts.slots)} ready", f"up {ago(facts.uptime)}"]
    if any(slot.received is not None for slot in facts.slots):
        figures.append(f"{rate(sum(slot.received or 0.0 for slot in facts.slots))} msg/s")
    if (links := matrix.summary).wanted:
        figures.append(f"{links.up} of {links.wanted} links")
    return figures


def _slots(facts: Facts, view: View, marks: Marks, width: int, rows: int) -> list[Text]:
    table = Table(facts, marks, width)
    shown = facts.slots[view.first : view.first + rows]
    return [table.head(), *(table.row(slot, is_selected=slot.name == view.selected) for slot in shown)]


def _below_slots(facts: Facts, view: View, rows: int) -> Text:
    """Return the line below the slots: blank, if these are all."""
    if rows >= len(facts.slots):
        return Text()
    return Text(f"  {view.first + 1} to {view.first + rows} of {len(facts.slots)} slots", style="dim")


def _incidents(facts: Facts, marks: Marks, width: int, room: int | None) -> list[Text]:
    if room is not None and room < 1:
        return []
    if not facts.incidents:
        return [Text(" NO INCIDENTS", style="dim")]
    count = 10 if room is None else room - 1
    shown = facts.incidents[:count]
    name_width = min(24, max((len(one.slot) for one in shown), default=0))
    return [Text(" LATEST INCIDENTS", style="dim"), *(_incident(one, name_width, marks, width) for one in shown)]


def _incident(incident: Incident, name_width: int, marks: Marks, width: int) -> Text:
    line = Text(" ")
    line.append(time.strftime("%H:%M:%S", time.localtime(incident.at)), style="dim")
    line.append(f"  {shorten(incident.slot, name_width, marks.cut):{name_width}}  ")
    line.append(happened(incident), style="red" if incident.cause in _SEVERE else "yellow")
    reason = clean(incident.text.strip().split("\n", 1)[0])
    if reason:
        line.append(f": {reason}", style="dim")
    return line if line.cell_len <= width else cut_line(line, width, marks)


def cut_line(line: Text, width: int, marks: Marks) -> Text:
    """Return the beginning of a line that is too long, and a mark."""
    line = line.copy()
    line.truncate(max(0, width - 1))
    line.append(marks.cut, style="dim")
    return line


_SEVERE = frozenset({ExitCause.SIGNALED, ExitCause.HUNG, ExitCause.FROZEN, ExitCause.OOM, ExitCause.EXITED})

_STATE_STYLES = {MeshState.STARTING: "yellow", MeshState.RUNNING: "green", MeshState.STOPPING: "yellow"}
