"""A run as a table for people."""

from __future__ import annotations

from collections.abc import Iterator

from .plan import Kind
from .run import Outcome

_MIB = 1024


def table(outcome: Outcome) -> str:
    """Return the figures of ``outcome``, one a line, and then what is wrong."""
    lines = [f"{name:<34}{value}" for name, value in _rows(outcome)]
    lines += [f"wrong: {fault}" for fault in outcome.faults] or ["Every message arrived exactly once, in order."]
    return "\n".join(lines) + "\n"


def _rows(outcome: Outcome) -> Iterator[tuple[str, str]]:
    options, final = outcome.options, outcome.final
    yield "transport, seed", f"{options.transport}, {options.seed}"
    yield "messages each way", f"{options.messages:,}"
    yield "cuts", f"{sum(outcome.made.values())} of {options.cuts}"
    for kind in Kind:
        yield f"  {kind}", str(outcome.made.get(kind, 0))
    if outcome.outages:
        ordered = sorted(outcome.outages)
        yield "outage, median / longest", f"{ordered[len(ordered) // 2] * 1000:.0f} / {ordered[-1] * 1000:.0f} ms"
    for what in ("lost", "doubled", "misordered", "damaged", "replayed", "duplicates"):
        label = "duplicates dropped" if what == "duplicates" else what
        yield label, " + ".join(f"{getattr(report, what):,}" for report in final.values())
    yield "reconnects", str(final["manager"].reconnects if "manager" in final else 0)
    for side, report in final.items():
        early = outcome.early.get(side, report).peak
        yield f"memory of the {side}", f"{report.peak / _MIB:.1f} MiB at most, {early / _MIB:.1f} after a quarter"
    yield "time", f"{outcome.seconds:.1f} s"
    if outcome.seconds:
        received = sum(report.received for report in final.values())
        yield "messages a second", f"{received / outcome.seconds:,.0f} (both ways together)"
