"""A run as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from .plan import Kind
from .run import Outcome


def table(outcome: Outcome) -> str:
    """Return the figures of ``outcome``, one kind of fault a line, and then what is wrong."""
    heads = ("found: manager", "found: host", "flows again")
    lines = [f"{'':<38}{'times':>6}" + "".join(f"{head:>18}" for head in heads)]
    for kind in Kind:
        figures = outcome.figures.get(kind)
        if figures is not None:
            spans = (figures.found["manager"], figures.found["host"], figures.healed)
            lines.append(f"{kind:<38}{figures.count:>6}" + "".join(f"{_span(span):>18}" for span in spans))
    sent = " + ".join(f"{count:,}" for count in outcome.messages.values())
    lines += [
        "",
        "Milliseconds, median / longest. Flows again: from the repair until a message has arrived both ways.",
        f"Seed {outcome.seed}, {outcome.seconds:.0f} s, {sent} messages in {outcome.sessions} sessions; "
        f"{outcome.carried:,} packets carried, {outcome.dropped:,} dropped, {outcome.resets:,} answered with a reset.",
        f"wrong: {outcome.wrong}" if outcome.wrong else "Every message arrived exactly once, in order.",
    ]
    return "\n".join(lines) + "\n"


def _span(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    ordered = sorted(seconds)
    return f"{ordered[len(ordered) // 2] * 1000:.0f} / {ordered[-1] * 1000:.0f}"
