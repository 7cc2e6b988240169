"""A soak as a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .growth import Trend
from .plan import Kind
from .run import Outcome

INVARIANTS: dict[int, tuple[str, str]] = {
    1: ("no loss", "what was accepted is handled, or named by one PeerLost (all calms, all ends of lives)"),
    2: ("no duplicates, no phantoms", "each message handled is the next one of its session, with its bytes"),
    3: ("order", "the numbers of each session, at both ends, are 1, 2, 3..."),
    4: ("ack soundness", "each PeerLost begins at most one after what was handled, and ends with what was accepted"),
    5: ("epoch fencing", "lives of a peer in their order, one end for each, nothing of a life after its end"),
    6: ("make before break", "n/a: which connection carries what is not seen from outside; tests/simulation"),
    7: ("bounds", "messages kept by each end of each link, and the table of growth"),
    8: ("detector", "each fault has its incident with the right cause, and each incident its fault"),
    9: ("budget", "n/a: single dials are not seen from outside; tests/core, tests/simulation"),
    10: ("blacklist safety", "no penalty longer than asked for, own ones as set; the mesh becomes whole all the same"),
    11: ("supervision", "one process a name, lives one after the other, order of start and stop, nothing left behind"),
    12: (
        "liveness",
        "the mesh is whole after each round, calls and messages of a calm succeed (same trace twice: n/a)",
    ),
}
_ABSENT = frozenset({6, 9})
_MIB = 1024 * 1024


def table(outcome: Outcome) -> str:
    """Return the figures of ``outcome``, one a line, then the invariants and what is wrong."""
    lines = [f"{name:<46}{value}" for name, value in _rows(outcome)]
    lines += ["", *_growth(outcome.trends), "", *_invariants(outcome.checks), ""]
    faults = outcome.faults
    lines += [f"wrong: {text}" for text in faults.texts]
    if more := faults.count - len(faults.texts):
        lines.append(f"wrong: {more} times more")
    if faults.count:
        lines.append(f"Seed {outcome.options.seed}; logs, incidents and the order of events: {outcome.folder}")
    else:
        lines.append("Nothing was lost, doubled or left behind; every fault is explained by an incident.")
    return "\n".join(lines) + "\n"


def _rows(outcome: Outcome) -> Iterator[tuple[str, str]]:
    yield "time, seed", f"{outcome.seconds / 60:.1f} min, {outcome.options.seed}"
    yield "rounds, lives of the supervisor", f"{outcome.rounds}, {outcome.lives}"
    yield "faults", f"{outcome.done.total()}"
    for kind in Kind:
        skipped = outcome.skipped[kind]
        yield f"  {kind}", f"{outcome.done[kind]}" + (f" ({skipped} skipped)" if skipped else "")
    if not outcome.has_disk:
        yield "  (no room for logs)", "by RLIMIT_FSIZE: no file system can be mounted here"
    yield "operations", _counts(outcome.operations)
    yield "messages accepted, handled", f"{outcome.accepted:,}, {outcome.delivered:,}"
    yield "  reported by a PeerLost", f"{outcome.reported:,} in {outcome.tails:,}"
    yield "  refused", _counts(outcome.unsent)
    yield "calls", _counts(outcome.calls)
    yield "turns of timers", f"{outcome.ticks:,}"
    yield "incidents explained", _counts(outcome.explained)
    yield "faults without an incident, excused", _counts(outcome.excused)
    yield "logs that could not be written for a while", str(outcome.lost_logs)
    yield "reconnects of links, at most in one life", f"{outcome.reconnects:,}"
    for what, durations in sorted(outcome.recoveries.items()):
        ordered = sorted(durations)
        p50, p99 = (ordered[min(len(ordered) - 1, len(ordered) * share // 100)] for share in (50, 99))
        yield what, f"p50 {p50:.3f}, p99 {p99:.3f}, longest {ordered[-1]:.3f} s ({len(ordered)})"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in sorted(counts.items())) or "none"


def _growth(trends: list[Trend]) -> Iterator[str]:
    if not trends:
        yield "growth: too few calms in the first life of the supervisor to tell"
        return
    yield f"{'growth, ' + str(trends[0].samples) + ' samples':<46}{'first third':>14}{'last third':>14}{'allowed':>12}"
    for trend in trends:
        values = [_size(trend.name, value) for value in (trend.first, trend.last)]
        allowed = "+" + _size(trend.name, trend.allowed)
        yield f"  {trend.name:<44}{values[0]:>14}{values[1]:>14}{allowed:>12}" + ("  GROWS" if trend.is_growing else "")


def _size(name: str, value: float) -> str:
    return f"{value / _MIB:.1f} MiB" if name.endswith("SS") else f"{value:g}"


def _invariants(checks: Mapping[int, int]) -> Iterator[str]:
    for number, (name, how) in INVARIANTS.items():
        times = "-" if number in _ABSENT else f"{checks.get(number, 0):,}"
        yield f"{number:>4} {name:<28}{times:>11}  {how}"
