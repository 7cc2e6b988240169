"""A run as text: the table in a terminal, and the parts of README.md that a run fills in. Pure."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import disciplines as d
from .clauses import LINES, Bound
from .judge import AGREEING, Agreement, Finding, Rows, agreements, index, judge
from .table import Row, from_json, number, quantity

_HEAD = ("", "ours", "asked", "met", "best peer", "times better")
_MET = {True: "yes", False: "NO", None: "-"}
_TEXTS = ("", "why")
"""The titles of columns of words."""
_CALM_LOAD = 0.7
"""Load average from which on a run was not alone."""
_WIDTHS = (48, 30, 30, 5, 62, 13)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the benchmarks: the machine and how it was measured on, and the rows."""

    machine: Mapping[str, Any]
    rows: Sequence[Row]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Run:
        """Read what ``python -m benchmarks --json`` has written."""
        return cls(data["machine"], from_json(data["rows"]))


def _asked(bound: Bound, base: str) -> str:
    unit = f"x {base}" if base else bound.unit
    return f"{bound.operator} {bound.value:g} {unit}".rstrip()


def cells(finding: Finding) -> tuple[str, ...]:
    """Return the columns of one finding: ours, asked, met, best peer, times better."""
    clause = finding.clause
    asked = _asked(clause.asked, clause.base)
    if finding.value is None:
        return "-", asked, _MET[None], finding.note, ""
    ours = quantity(finding.value, finding.unit)
    if clause.base:
        ours = f"{number(finding.figure)} x ({ours})" if finding.figure is not None else ours
    if finding.note and finding.met is not None:
        ours += f" ({finding.note})"
    peer = f"{quantity(finding.peer[1], finding.unit)}, {finding.peer[0]}" if finding.peer else ""
    if not finding.peer and finding.never:
        peer = f"never: {finding.never} of {finding.never} others"
    better = f"{number(finding.better)} x" if finding.better is not None else ""
    return ours, asked, _MET[finding.met], peer, better


def _by_line(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    lines: dict[str, list[Finding]] = {}
    for finding in findings:
        lines.setdefault(finding.clause.line, []).append(finding)
    return lines


def terminal(findings: Sequence[Finding]) -> str:
    """Return the table of findings for a terminal."""
    lines = [_aligned(_HEAD)]
    for line, group in _by_line(findings).items():
        lines += ["", LINES[line].replace("`", ""), *(_aligned((f"  {one.clause.what}", *cells(one))) for one in group)]
    return "\n".join([*lines, "", summary(findings)]) + "\n"


def _aligned(columns: Sequence[str]) -> str:
    return " ".join(column.ljust(width) for column, width in zip(columns, _WIDTHS, strict=True)).rstrip()


def summary(findings: Sequence[Finding]) -> str:
    """Return in one sentence how many clauses are met."""
    met, missed = (sum(one.met is value for one in findings) for value in (True, False))
    absent = len(findings) - met - missed
    return f"{met} of {len(findings)} met, {missed} not" + (f", {absent} without a figure" if absent else "") + "."


def comparison(first: Run, second: Run) -> str:
    """Return for a terminal how two runs agree, the flagged ones with the reason that their clause gives."""
    lines = [f"{'':52} {'':16} {'first':>10} {'second':>10} {'differ':>8}"]
    for one in agreements(index(first.rows), index(second.rows)):
        title = f"{one.clause.key}: {one.clause.what}"
        shown = [("-" if value is None else number(value)) for value in (one.first, one.second)]
        percent = "-" if one.difference is None else f"{100 * one.difference:.0f} %"
        flag = "" if one.is_close else f"  ! {one.why or 'no reason known'}"
        lines.append(f"{title[:52]:52} {one.figure[:16]:16} {shown[0]:>10} {shown[1]:>10} {percent:>8}{flag}".rstrip())
    return "\n".join(lines) + "\n"


# README.md.


def refresh(text: str, blocks: Mapping[str, str]) -> str:
    """Return ``text`` with what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` replaced.

    Raises:
        ValueError: If a block has no place in it.
    """
    for name, content in blocks.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->\n")
        if not end:
            raise ValueError(
                f"there is no place for {name!r}: <!-- {name} --> and <!-- /{name} --> on lines of their own"
            )
        text = before + begin + content + end + after
    return text


def blocks(run: Run) -> dict[str, str]:
    """Return what a run fills into README.md."""
    rows = index(run.rows)
    findings = judge(rows)
    return {
        "machine": machine(run.machine),
        "table": markdown(findings),
        "workers": workers(rows),
        "links": links(rows),
        "sizes": sizes(rows),
        "recovery": standings(rows, d.TO_START)
        + "\n"
        + standings(rows, d.FROM_STOP)
        + "\n"
        + standings(rows, d.ORPHANS),
    }


def machine(facts: Mapping[str, Any]) -> str:
    """Return where and how a run was made."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    hardware = f"{facts['cpu']}, {facts['cores']} cores, {facts['memory']} GB; Linux {facts['kernel']}"
    python = f"Python {facts['python']} (and {facts['other_python']})"
    run = f"Commit `{facts['commit']}`, {facts['minutes']:.0f} minutes, load before it {facts['load']:.1f}"
    return f"{hardware}; {python}. {run}. {versions}.\n{_caution(facts)}"


def _caution(facts: Mapping[str, Any]) -> str:
    """Return what keeps a run from being one to go by; nothing for one that is."""
    reasons = ["it was a quick one"] if facts["quick"] else []
    if facts["load"] > _CALM_LOAD:
        reasons.append("other programs had the machine, too")
    if facts["failed"]:
        reasons.append(f"it failed in {', '.join(facts['failed'])}")
    if not reasons:
        return ""
    return f"\n**This run shows that everything is measured, not how fast it is: {'; '.join(reasons)}.**\n"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    align = "|" + "|".join("---" if title in (head[0], *_TEXTS) else "--:" for title in head) + "|"
    shown = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join(["| " + " | ".join(head) + " |", align, *shown]) + "\n"


def markdown(findings: Sequence[Finding]) -> str:
    """Return the table of findings for README.md."""
    lines = ["| " + " | ".join(_HEAD) + " |", "|---|--:|--:|---|---|--:|"]
    for line, group in _by_line(findings).items():
        lines.append(f"| **{LINES[line]}** | | | | | |")
        for one in group:
            ours, asked, met, peer, better = cells(one)
            asked = asked.replace("<=", "≤").replace(">=", "≥")
            met = f"**{met.lower()}**" if one.met is False else met
            lines.append(f"| {one.clause.what} | {ours} | {asked} | {met} | {peer} | {better} |")
    return "\n".join([*lines, "", summary(findings)]) + "\n"


def _median(rows: Rows, discipline: str, name: str, unit: bool = False) -> str:
    row = rows.get((discipline, name))
    if row is None or row.median is None:
        return "-"
    return quantity(row.median, row.unit) if unit else number(row.median)


def counts(rows: Rows, discipline: str, pattern: str) -> list[int]:
    """Return the numbers that stand for N in the names of a discipline's rows, in order (``meshvisor, N = (\\d+)``)."""
    found = {int(match[1]) for kind, name in rows if kind == discipline and (match := re.fullmatch(pattern, name))}
    return sorted(found)


def workers(rows: Rows) -> str:
    """Return how a mesh grows with its workers."""
    lines = []
    for n in counts(rows, d.MEMORY, r"meshvisor, N = (\d+), zygote"):
        name = f"meshvisor, N = {n}"
        lines.append([
            str(n),
            f"{n * (n - 1) // 2:,}",
            _median(rows, d.FORMATION, f"{name}, zygote, from the first worker's fork (to 10 ms)"),
            _median(rows, d.MEMORY, f"{name}, zygote"),
            _median(rows, d.TO_MESH, f"{name}, spare"),
            _median(rows, d.TO_MESH, f"{name}, zygote"),
            _median(rows, d.IDLE, f"{name}, asyncio"),
            _median(rows, d.IDLE, f"{name}, the supervisor"),
            _median(rows, d.ORPHANS, f"{name}, zygote"),
        ])  # fmt: skip
    head = ["workers", "links", "formed, ms", "PSS of one, MB", "re-meshed by a spare, ms", "by the zygote, ms"]
    return _table([*head, "all idle, % of a core", "supervisor, %", "all gone, ms"], lines)


def links(rows: Rows) -> str:
    """Return how a process bears many links."""
    lines = []
    for n in counts(rows, d.FAN_UP, r"meshvisor, (\d+) links"):
        name = f"meshvisor, {n} links"
        one = [_median(rows, kind, name) for kind in (d.FAN_UP, d.FAN_MEMORY, d.FAN_CPU)]
        lines.append([str(n), *one, _median(rows, d.FAN_RATE, name, unit=True)])
    return _table(["links", "all up after, ms", "memory of one, kB", "idle, % of a core", "64 B messages in"], lines)


def size_series(rows: Rows) -> dict[str, list[tuple[int, float]]]:
    """Return for each contender the sizes of messages, in order, and the messages a second."""
    series: dict[str, list[tuple[int, float]]] = {}
    for size in (4**power for power in range(13)):
        for (discipline, name), row in rows.items():
            if discipline == d.messages(size) and row.median is not None:
                series.setdefault(name, []).append((size, row.median))
    return {name: points for name, points in series.items() if len(points) > 3}


def sizes(rows: Rows) -> str:
    """Return throughput by the size of messages."""
    series = size_series(rows)
    every = sorted({size for points in series.values() for size, _ in points})
    lines = []
    for size in every:
        rates = [dict(points).get(size) for points in series.values()]
        lines.append([d.shown(size), *("-" if rate is None else quantity(rate, "/s") for rate in rates)])
    return _table(["one message", *series], lines)


def standings(rows: Rows, discipline: str) -> str:
    """Return all contenders of a discipline, the quickest first, those without a figure last."""
    group = [row for (kind, _), row in rows.items() if kind == discipline]
    group.sort(key=lambda row: (row.median is None, row.median))
    lines = [
        [row.name, "-" if row.median is None else number(row.median), _tail(row), str(len(row.samples)), row.note]
        for row in group
    ]
    return _table([discipline, "median, ms", "tail", "n", ""], lines)


def _tail(row: Row) -> str:
    return f"{number(row.tail[1])} ({row.tail[0]})" if row.tail else ""


def agreement(first: Run, second: Run) -> str:
    """Return for README.md how two runs agree: how many figures do, and those that do not, with their reasons."""
    found = [one for one in agreements(index(first.rows), index(second.rows)) if one.difference is not None]
    apart = [one for one in found if not one.is_close]
    text = f"{len(found) - len(apart)} of {len(found)} figures agree within {AGREEING:.0%}"
    middle = statistics.median(one.difference for one in found if one.difference is not None) if found else 0.0
    text += f"; half of them within {middle:.1%}.\n"
    return text + ("\n" + _table(["figure", "first", "second", "differ", "why"], map(_apart, apart)) if apart else "")


def _apart(one: Agreement) -> list[str]:
    assert one.first is not None
    assert one.second is not None
    assert one.difference is not None
    title = f"{LINES[one.clause.line]}: {one.clause.what} ({one.figure})"
    return [title, number(one.first), number(one.second), f"{one.difference:.0%}", one.why or "unknown"]
