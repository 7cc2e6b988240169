"""The plots of a run: one calm style, as SVG whose bytes depend on the figures alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from . import disciplines as d
from .judge import Rows
from .report import counts, size_series

mpl.use("svg")

_INK, _QUIET, _PAPER = "#22303c", "#8a97a3", "#fbfcfd"
_OURS = ("#1f6feb", "#2da44e", "#8250df")
_OTHERS = ("#bf5b04", "#57606a", "#b08800", "#a0345a", "#8c6d5a", "#1b7c83", "#d4820f", "#8a97a3")
_STYLE: dict[Any, Any] = {  # its keys are a type of their own for every version of matplotlib
    "figure.facecolor": _PAPER,
    "axes.facecolor": _PAPER,
    "savefig.facecolor": _PAPER,
    "axes.edgecolor": _QUIET,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e8ed",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "meshvisor",
}

Points = list[tuple[float, float]]


def _points(rows: Rows, discipline: str, pattern: str) -> Points:
    """Return the medians of rows by the number in their names: ``pattern`` has ``{}`` for it."""
    numbers = counts(rows, discipline, re.escape(pattern).replace(r"\{\}", r"(\d+)"))
    medians = [(n, rows[discipline, pattern.format(n)].median) for n in numbers]
    return [(n, median) for n, median in medians if median is not None]


def _line(axes: Axes, points: Points, label: str, color: str, *, dashed: bool = False) -> None:
    if points:
        x, y = zip(*points, strict=True)
        axes.plot(x, y, marker="o", markersize=4, label=label, color=color, linestyle="--" if dashed else "-")


def _stairs(axes: Axes, samples: Sequence[float], label: str, color: str, *, dashed: bool) -> None:
    ordered = sorted(samples)
    shares = [(index + 1) / len(ordered) for index in range(len(ordered))]
    style = "--" if dashed else "-"
    axes.step([ordered[0], *ordered], [0.0, *shares], where="post", label=label, color=color, linestyle=style)


def recovery(rows: Rows) -> Figure | None:
    """Draw how long a killed worker is missing, as distributions, ours and others'."""
    figure, axes = _one("SIGKILL → first line of the replacement, 16 workers with imports")
    for way, color in zip(("spare", "zygote", "spawn"), _OURS, strict=True):
        row = rows.get((d.TO_START, f"meshvisor, N = 16, {way}"))
        if row is not None and row.samples:
            _stairs(axes, row.samples, f"meshvisor, {way}", color, dashed=False)
    others = [row for (kind, name), row in rows.items() if kind == d.TO_START and name.endswith(", with imports")]
    others = sorted((row for row in others if row.samples), key=lambda row: row.median or 0.0)
    for row, color in zip(others, _cycled(_OTHERS), strict=False):
        _stairs(axes, row.samples, row.name.removesuffix(", with imports"), color, dashed=True)
    axes.set(xscale="log", xlabel="milliseconds", ylabel="share of deaths", ylim=(0, 1.02))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    figure.set_size_inches(10.5, 3.8)
    return _finished(figure, axes, outside=True)


def throughput(rows: Rows) -> Figure | None:
    """Draw messages a second, and bytes, by the size of messages."""
    figure, (left, right) = _two("messages a second", "bytes a second")
    names = size_series(rows)
    colors = _told_apart(names)
    for name, points in names.items():
        dashed = not name.startswith("meshvisor")
        _line(left, [(size, rate) for size, rate in points], name, colors[name], dashed=dashed)
        _line(right, [(size, size * rate) for size, rate in points], name, colors[name], dashed=dashed)
    for axes, unit in ((left, "messages/s"), (right, "bytes/s")):
        axes.set(yscale="log", xlabel="size of a message", ylabel=unit)
        axes.yaxis.set_major_formatter(EngFormatter())
        axes.set_xscale("log", base=2)
        sizes = [4**power for power in range(0, 13, 2)]
        axes.set_xticks(sizes, [d.shown(size) for size in sizes], rotation=30)
    return _finished(figure, left)


def idle(rows: Rows) -> Figure | None:
    """Draw what an idle mesh costs by the number of its workers."""
    figure, axes = _one("an idle mesh, hang detection at 100 ms")
    _line(axes, _points(rows, d.IDLE, "meshvisor, N = {}, asyncio"), "all workers together", _OURS[0])
    _line(axes, _points(rows, d.IDLE, "meshvisor, N = {}, the supervisor"), "the supervisor", _OURS[1])
    _line(axes, _points(rows, d.IDLE, "meshvisor, N = {}, uvloop"), "all workers, on uvloop (beats)", _OURS[2])
    axes.set(xlabel="workers, all linked with each other", ylabel="% of one core", ylim=(0, None))
    return _finished(figure, axes)


def detection(rows: Rows) -> Figure | None:
    """Draw how long the verdict on a hung event loop takes, by the number of busy processes."""
    figure, axes = _one("hung event loop → verdict, hang_timeout = 100 ms, 2 cores")
    name = "meshvisor, N = 16, zygote, {} busy processes, until verdict"
    samples = {0: rows.get((d.FROM_HANG, "meshvisor, N = 16, zygote, until verdict"))}
    samples |= {int(n): rows[d.FROM_HANG, name.format(int(n))] for n, _ in _points(rows, d.FROM_HANG, name)}
    there = {n: row for n, row in samples.items() if row is not None and row.samples}
    for n, row in there.items():
        axes.plot([n] * len(row.samples), row.samples, "o", color=_OURS[0], alpha=0.35, markersize=4)
    _line(axes, [(n, row.median) for n, row in there.items() if row.median is not None], "median", _OURS[0])
    axes.set(xlabel="busy processes beside 16 workers", ylabel="milliseconds", ylim=(0, None), xticks=list(there))
    return _finished(figure, axes)


def growth(rows: Rows) -> Figure | None:
    """Draw formation, memory and return to the mesh by the number of workers."""
    figure, panels = _many(3)
    formed, memory, mesh = panels
    forked = "meshvisor, N = {}, zygote, from the first worker's fork (to 10 ms)"
    _line(formed, _points(rows, d.FORMATION, forked), "", _OURS[1])
    _line(memory, _points(rows, d.MEMORY, "meshvisor, N = {}, zygote"), "", _OURS[1])
    _line(mesh, _points(rows, d.TO_MESH, "meshvisor, N = {}, spare"), "spare", _OURS[0])
    _line(mesh, _points(rows, d.TO_MESH, "meshvisor, N = {}, zygote"), "zygote", _OURS[1])
    titles = ("formed, from the first fork", "PSS of a worker", "SIGKILL → all links up again")
    for axes, title, unit in zip(panels, titles, ("ms", "MB", "ms"), strict=True):
        axes.set(title=title, xlabel="workers", ylabel=unit, ylim=(0, None))
    return _finished(figure, mesh, needs=formed)


def links(rows: Rows) -> Figure | None:
    """Draw what a process with many links does and costs."""
    figure, panels = _many(4)
    kinds = (d.FAN_RATE, d.FAN_UP, d.FAN_MEMORY, d.FAN_CPU)
    titles = ("64 B messages in", "all links up after", "memory of one link", "idle")
    units = ("messages/s", "ms", "kB", "% of one core")
    for axes, kind, title, unit in zip(panels, kinds, titles, units, strict=True):
        _line(axes, _points(rows, kind, "meshvisor, {} links"), "", _OURS[0])
        axes.set(title=title, xlabel="links of one process", ylabel=unit, ylim=(0, None))
    panels[0].yaxis.set_major_formatter(EngFormatter())
    return _finished(figure, panels[0])


PLOTS: dict[str, Callable[[Rows], Figure | None]] = {
    "recovery": recovery,
    "throughput": throughput,
    "idle": idle,
    "detection": detection,
    "growth": growth,
    "links": links,
}


def draw(rows: Rows, folder: Path, names: Iterable[str] = tuple(PLOTS)) -> Iterator[Path]:
    """Draw what there are figures for; yield the files."""
    with mpl.rc_context(_STYLE):
        for name in names:
            figure = PLOTS[name](rows)
            if figure is not None:
                file = folder / f"{name}.svg"
                figure.savefig(file, metadata={"Date": None, "Creator": None})
                yield file


def _one(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.4, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    return figure, axes


def _two(*titles: str) -> tuple[Figure, list[Axes]]:
    figure, panels = _many(2)
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title)
    return figure, panels


def _many(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(8.4 if count < 3 else 10.5, 3.8 if count < 3 else 3.0), layout="constrained")
    return figure, [figure.add_subplot(1, count, number + 1) for number in range(count)]


def _finished(figure: Figure, axes: Axes, *, outside: bool = False, needs: Axes | None = None) -> Figure | None:
    """Add the legend and return the figure; None if nothing was drawn."""
    if not (needs or axes).lines:
        return None
    if any(label and not label.startswith("_") for label in axes.get_legend_handles_labels()[1]):
        if outside:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        else:
            axes.legend()
    return figure


def _cycled(colors: Sequence[str]) -> Iterator[str]:
    while True:
        yield from colors


def _told_apart(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name, ours from those that are for us."""
    ours, others = iter(_OURS), _cycled(_OTHERS)
    return {name: next(ours) if name.startswith("meshvisor") else next(others) for name in names}
