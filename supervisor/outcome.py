"""What a change has done, and what a reload would do, as text. Pure: facts in, lines out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from ..shared.control.requests import Difference, KeyChange, Step
from .event import duration
from .status import memory
from .style import BOLD, DIM, GREEN, RED, YELLOW, paint

_DURATIONS = frozenset(
    {
        "start_timeout",
        "stop_timeout",
        "hang_timeout",
        "busy_timeout",
        "backoff.initial",
        "backoff.max",
        "backoff.reset_after",
        "health.period",
        "mesh.beat",
        "mesh.heartbeat_interval",
        "mesh.heartbeat_timeout",
        "mesh.blacklist_duration",
        "supervisor.max_restarts_window",
    }
)
_SIZES = frozenset({"memory_soft", "max_memory", "log.max_size"})
_LONGEST = 60
_MOST_SLOTS = 8


def sentence(step: Step) -> str:
    """Return what has become of a slot: ``counter-1 is ready (incarnation 3, 41 ms)``."""
    if step.seconds is None:
        life = f" (incarnation {step.incarnation})" if step.state == "ready" else ""
        return f"{step.slot} was {step.state} already{life}"
    life = f"incarnation {step.incarnation}, " if step.state == "ready" else ""
    if step.is_back and step.state == "ready":
        return f"{step.slot} is what it was before ({life}{duration(step.seconds)})"
    return f"{step.slot} {'has' if step.state == 'failed' else 'is'} {step.state} ({life}{duration(step.seconds)})"


def unchanged(steps: Iterable[Step]) -> list[str]:
    """Return a line for each slot that was as wanted before; of very many, their number."""
    still = [step for step in steps if step.seconds is None]
    if len(still) <= _MOST_SLOTS:
        return [sentence(step) for step in still]
    counts = Counter(step.state for step in still)
    return [f"{slots(count)} {'was' if count == 1 else 'were'} {state} already" for state, count in counts.items()]


def slots(count: int) -> str:
    """Return ``count`` slots in words."""
    return f"{count} slot" + ("" if count == 1 else "s")


def differences(found: Difference, *, colour: bool = False) -> list[str]:
    """Return the lines of a difference; none if there is none."""
    lines: list[str] = []

    def add(mark: str, hue: str, name: str, what: str, changes: Iterable[KeyChange] = ()) -> None:
        lines.append(f"{paint(mark, hue, on=colour)} {paint(name, BOLD, on=colour)} {what}")
        lines.extend(f"      {line}" for line in _keys(changes, colour=colour))

    for name, there in found.added.items():
        add("+", GREEN, name, f"is added: {_listed(there)}")
    for name, there in found.removed.items():
        add("-", RED, name, f"is removed: {_listed(there)}")
    for name, changes in found.replaced.items():
        add("~", YELLOW, name, "is restarted:", changes)
    for name, (before, after) in found.rescaled.items():
        add("~", YELLOW, name, f"has {slots(after)} instead of {before}")
    for name, changes in found.adjusted.items():
        add("~", YELLOW, name, "is adjusted, without a restart:", changes)
    if found.supervisor:
        add("~", YELLOW, "[supervisor]", "is adjusted:", found.supervisor)
    for text in found.refused:
        lines.append(f"{paint('!', RED, on=colour)} {text}")
    return lines


def _listed(names: tuple[str, ...]) -> str:
    if not names:
        return "no slot"
    more = f" and {len(names) - _MOST_SLOTS} more" if len(names) > _MOST_SLOTS else ""
    return ", ".join(names[:_MOST_SLOTS]) + more


def _keys(changes: Iterable[KeyChange], *, colour: bool) -> Iterator[str]:
    for change in changes:
        old = paint(_written(change.key, change.old), RED, on=colour)
        new = paint(_written(change.key, change.new), GREEN, on=colour)
        yield f"{paint(change.key + ':', DIM, on=colour)} {old} -> {new}"


def _written(key: str, value: Any) -> str:
    """Return a value as one would write it, on one line and not too long."""
    if value is None:
        return "(not set)"
    if isinstance(value, int | float) and key in _DURATIONS:
        return duration(value)
    if isinstance(value, int) and key in _SIZES:
        return memory(value)
    if isinstance(value, int) and key == "umask":
        return f'"{value:03o}"'
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        text = json.dumps(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
