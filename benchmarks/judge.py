"""How a run's rows stand to the clauses. Pure: rows in, findings out."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .clauses import CLAUSES, OURS, Clause
from .table import Row

Rows = Mapping[tuple[str, str], Row]
AGREEING = 0.2
"""By how much the medians of two runs may differ."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a run says of one clause.

    ``value`` is ours in ``unit``; ``figure`` what the bound is on (the same, or a multiple of the base); ``peer`` the
    best of the rivals with its value; ``better`` how many times better we are than it; ``met`` None without a figure.
    ``note`` is what the row says of itself, or why there is no figure; ``never`` how many rivals never did it at all.
    """

    clause: Clause
    value: float | None = None
    unit: str = ""
    figure: float | None = None
    peer: tuple[str, float] | None = None
    better: float | None = None
    met: bool | None = None
    note: str = ""
    never: int = 0


def index(rows: Iterable[Row]) -> Rows:
    """Return rows by discipline and name."""
    return {(row.discipline, row.name): row for row in rows}


def judge(rows: Rows, clauses: Iterable[Clause] = CLAUSES) -> list[Finding]:
    """Return a finding for every clause, in order."""
    return [_judge(clause, rows) for clause in clauses]


def _judge(clause: Clause, rows: Rows) -> Finding:
    ours = rows.get((clause.discipline, clause.ours))
    if ours is None or not ours.samples:
        return Finding(clause, note=ours.note if ours and ours.note else "not measured")
    value = point(ours.samples, clause.statistic)
    figure: float | None = value
    if clause.base:
        base = rows.get((clause.discipline, clause.base))
        figure = ratio(ours.samples, base.samples) if base is not None and base.samples else None
    rivals = _rivals(clause, rows)
    peer = _best(clause, rivals)
    return Finding(
        clause,
        value,
        ours.unit,
        figure,
        peer,
        _better(clause, value, peer),
        None if figure is None else clause.asked.holds(figure),
        ours.note if figure is not None else f"{clause.base} was not measured",
        sum(not row.samples and bool(row.note) and "not installed" not in row.note for row in rivals),
    )


def _better(clause: Clause, value: float, peer: tuple[str, float] | None) -> float | None:
    if peer is None or not value or not peer[1]:
        return None
    return value / peer[1] if clause.asked.more_is_better else peer[1] / value


def _rivals(clause: Clause, rows: Rows) -> list[Row]:
    wanted = clause.rivals_in or clause.discipline
    return [
        row
        for (discipline, name), row in rows.items()
        if discipline == wanted and any(_is_rival(name, pattern) for pattern in clause.rivals)
    ]


def _is_rival(name: str, pattern: str) -> bool:
    """Return whether a row is meant by a pattern; one of ours only if the pattern says so by name."""
    return fnmatchcase(name, pattern) and (fnmatchcase(pattern, OURS) or not fnmatchcase(name, OURS))


def _best(clause: Clause, rivals: Sequence[Row]) -> tuple[str, float] | None:
    pick = max if clause.asked.more_is_better else min
    values = [(row.name, point(row.samples, clause.statistic)) for row in rivals if row.samples]
    return pick(values, key=lambda each: each[1]) if values else None


def point(samples: Sequence[float], statistic: str) -> float:
    """Return the median, the 99th percentile (the largest, where samples are too few for one) or the maximum."""
    ordered = sorted(samples)
    if statistic == "p50":
        return statistics.median(ordered)
    return ordered[-(len(ordered) // 100) - 1] if statistic == "p99" else ordered[-1]


def ratio(ours: Sequence[float], base: Sequence[float]) -> float:
    """Return ours as a multiple of the base: round by round where both have taken turns, since a machine drifts."""
    if len(ours) == len(base):
        return statistics.median(mine / other for mine, other in zip(ours, base, strict=True))
    return statistics.median(ours) / statistics.median(base)


@dataclass(frozen=True, slots=True)
class Agreement:
    """One figure in two runs; ``difference`` is relative to the smaller one, None where a run has none.

    ``why`` they need not agree; empty if no reason is known.
    """

    clause: Clause
    figure: str
    first: float | None
    second: float | None
    difference: float | None
    why: str

    @property
    def is_close(self) -> bool:
        return self.difference is not None and self.difference <= AGREEING


def agreements(first: Rows, second: Rows, clauses: Iterable[Clause] = CLAUSES) -> list[Agreement]:
    """Return for each clause how two runs agree in the figure that is judged, and in the ratio to the best peer."""
    found = []
    clauses = tuple(clauses)
    for one, other in zip(judge(first, clauses), judge(second, clauses), strict=True):
        figure = f"x {one.clause.base}" if one.clause.base else "figure"
        why = one.clause.unsteady
        found.append(_agreement(one.clause, figure, one.figure, other.figure, why))
        if one.peer is not None and other.peer is not None:
            why = why or one.clause.rivals_unsteady
            found.append(_agreement(one.clause, "x best peer", one.better, other.better, why))
    return found


def _agreement(clause: Clause, figure: str, first: float | None, second: float | None, why: str) -> Agreement:
    difference = None
    if first is not None and second is not None:
        low, high = sorted((abs(first), abs(second)))
        difference = 0.0 if high == low else (high - low) / low if low else float("inf")
    return Agreement(clause, figure, first, second, difference, why)
