"""What is asked of meshvisor against others, clause by clause, as data (the design's "Where it must stand").

A clause names the samples that speak for us, the figure of them that counts and the bound on it; ``base`` makes that
figure a multiple of a contender's in the same discipline. ``rivals`` are patterns of the names beside which ours is
shown; the best of them is the best peer. ``unsteady`` says why two runs need not agree in ours, ``rivals_unsteady`` in
theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from . import disciplines as d

OURS = "meshvisor*"


@dataclass(frozen=True, slots=True)
class Bound:
    """``operator`` is ``<=`` or ``>=``; ``unit`` is for the reader, ``x`` for a multiple of the base."""

    operator: str
    value: float
    unit: str

    @property
    def more_is_better(self) -> bool:
        return self.operator == ">="

    def holds(self, figure: float) -> bool:
        """Return whether a figure is within the bound."""
        return figure >= self.value if self.more_is_better else figure <= self.value


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause of one line; ``part`` of a run measures it. ``rivals_in``: their discipline, if it is another one."""

    key: str
    what: str
    part: str
    discipline: str
    ours: str
    asked: Bound
    statistic: str = "p50"
    base: str = ""
    rivals: tuple[str, ...] = ("*",)
    rivals_in: str = ""
    unsteady: str = ""
    rivals_unsteady: str = ""

    @property
    def line(self) -> str:
        """The line that it is one of, by its key in ``LINES``."""
        return self.key.partition("-")[0]


LINES = {
    "start": "SIGKILL → `on_start` of the replacement, 16 workers",
    "mesh": "SIGKILL → all links of the replacement up at both ends, authenticated",
    "stop": "SIGSTOP → replaced and meshed, 16 workers",
    "hang": "hung event loop → verdict, `hang_timeout = 100ms`",
    "small": "64 B messages, one link, exactly once",
    "medium": "1 KiB messages, one link",
    "large": "1 MiB messages, one link",
    "rtt": "round trip of 64 B, `await`",
    "calls": "calls, 64 in flight, one link",
    "stall": "a reader that stalls",
    "idle": "idle mesh of 100 workers, 4,950 links, hang detection at 100 ms",
    "form": "mesh of 100 workers",
    "gone": "supervisor killed",
    "blacklist": "shared blacklist",
    "supervisor": "supervisor with 20 idle workers",
    "status": "`supervise status`",
}
"""The lines in order, by what the table calls them."""

_TAIL = "a tail is made of one or two samples, each of which any other process of the machine can delay"
_QUIET = "close to nothing: a fraction of it is noise"
_SHORT = "caches and the clock speed of the moment count at tens of nanoseconds"
_WAKE = "waking an idle core costs about 25 us each way, or nothing if it was not asleep"
_PHASE = "the others look by a clock, and are hurt at any moment of its period"
_TURN = "who gets the core, and when, is the scheduler's"

_PAIR = "pyzmq PAIR"
_SLOW = "pyzmq PAIR, asyncio"
_WIDE = "raw sockets, 1 MiB buffers"
_FORKED = ", from the first worker's fork (to 10 ms)"


def _most(value: float, unit: str) -> Bound:
    return Bound("<=", value, unit)


def _times(value: float) -> Bound:
    return Bound(">=", value, "x")


def _recovery() -> Iterator[Clause]:
    spare, zygote, spawn = (f"meshvisor, N = 16, {way}" for way in ("spare", "zygote", "spawn"))
    alike, fresh = ("*, with imports",), (spawn,)
    yield Clause("start-spare", "spare", "kill", d.TO_START, spare, _most(3, "ms"), rivals=alike)
    yield Clause("start-zygote", "zygote", "kill", d.TO_START, zygote, _most(8, "ms"), rivals=alike)
    for way, ours, middle, tail in (("spare", spare, 4, 8), ("zygote", zygote, 12, 25)):
        for statistic, value, why in (("p50", middle, ""), ("p99", tail, _TAIL)):
            key, what = f"mesh-{way}-{statistic}", f"16 workers, {way}, {statistic}"
            asked = _most(value, "ms")
            yield Clause(key, what, "kill", d.TO_MESH, ours, asked, statistic, rivals=fresh, unsteady=why)
    hundred = "meshvisor, N = 100, spare"
    yield Clause("mesh-100", "100 workers, spare", "growth", d.TO_MESH, hundred, _most(13, "ms"), rivals=())
    for way, ours, most in (("spare", spare, 4.5), ("zygote", zygote, 13.0)):
        meshed = f"{ours}, until all links are up"
        yield Clause(f"stop-{way}", way, "kill", d.FROM_STOP, meshed, _most(most, "ms"), rivals_unsteady=_PHASE)


def _hang() -> Iterator[Clause]:
    calm, busy = (f"meshvisor, N = 16, zygote{beside}, until verdict" for beside in ("", ", 8 busy processes"))
    frozen = d.FROM_STOP  # to the others it is all the same
    asked = _most(110, "ms")
    yield Clause(
        "hang-idle", "idle machine", "kill", d.FROM_HANG, calm, asked, rivals_in=frozen, rivals_unsteady=_PHASE
    )
    asked = _most(250, "ms")
    yield Clause("hang-busy", "8 busy processes", "kill", d.FROM_HANG, busy, asked, rivals_in=frozen, unsteady=_TURN)
    none = Bound("<=", 0, "verdicts")
    yield Clause("hang-false", "false verdicts under load", "liveness", d.FALSE, "meshvisor", none, "max", rivals=())


def _links() -> Iterator[Clause]:
    for version in ("3.11", "3.13"):
        for way, base, value in (("await", _PAIR, 2.3), ("callback", _PAIR, 3.5), ("await", _SLOW, 45)):
            key = f"small-{version}-{way}{'-asyncio' if base == _SLOW else ''}"
            discipline = d.messages(64, version)
            what = f"Python {version}, {way}{' beside asyncio' if base == _SLOW else ''}"
            yield Clause(key, what, "link", discipline, f"meshvisor {way}", _times(value), base=base)
    medium, large = d.messages(1024), d.messages(1 << 20)
    yield Clause("medium", "await", "link", medium, "meshvisor await", _times(2), base=_PAIR)
    for key, base, value in (("large-wide", _WIDE, 0.9), ("large-plain", "raw sockets", 0.8)):
        yield Clause(key, "await", "link", large, "meshvisor await", _times(value), base=base)
    what = "memory for 16 MiB at both ends: no needless copy"
    yield Clause("large-copies", what, "stall", d.COPIES, "meshvisor", _most(1.05, "bodies"), rivals=())


def _round_trips() -> Iterator[Clause]:
    asked = {"across cores": (("asyncio", 1.5), ("uvloop", 1.35)), "one core": (("asyncio", 4.7), ("uvloop", 3.0))}
    others = (_SLOW, "asyncio streams")
    for cores, loops in asked.items():
        for loop, value in loops:
            key, ours = f"rtt-{cores.replace(' ', '-')}-{loop}", f"meshvisor await, {loop}"
            bound, why = Bound("<=", value, "x"), _WAKE if cores == "across cores" else ""
            what, discipline = f"{cores}, {loop}", d.round_trip(cores)
            yield Clause(key, what, "link", discipline, ours, bound, base=_WIDE, rivals=others, unsteady=why)


def _calls() -> Iterator[Clause]:
    for loop in ("asyncio", "uvloop"):
        for way, what, value in (("plain", "plain handler", 8), ("task", "a task per call", 5)):
            ours, base = f"meshvisor {way}, {loop}", "pyzmq asyncio"
            yield Clause(f"calls-{way}-{loop}", f"{what}, {loop}", "calls", d.CALLS, ours, _times(value), base=base)


def _stall() -> Iterator[Clause]:
    floor = ("the machine*",)
    ping, pause, growth = _most(100, "us"), _most(5, "ms"), _most(0.5, "MB")
    yield Clause("stall-ping", "ping on the control channel", "stall", d.PING, "meshvisor", ping, rivals=())
    what = "longest pause of the sender's loop"
    yield Clause("stall-loop", what, "stall", d.STALL, "meshvisor", pause, rivals=floor, unsteady=_TAIL)
    what = "growth of both processes"
    yield Clause("stall-growth", what, "stall", d.GROWTH, "meshvisor", growth, rivals=(), unsteady=_QUIET)


def _hundred() -> Iterator[Clause]:
    name = "meshvisor, N = 100"
    forked, fresh = f"{name}, zygote", f"{name}, spawn"
    stamps, beats = f"{name}, asyncio", f"{name}, uvloop"
    idle = _most(1, "%")
    yield Clause("idle-asyncio", "asyncio (turn stamps)", "growth", d.IDLE, stamps, idle, rivals=(), unsteady=_QUIET)
    yield Clause("idle-uvloop", "uvloop (beats)", "growth", d.IDLE, beats, _most(20, "%"), rivals=())
    formed, rivals = forked + _FORKED, (fresh + _FORKED,)
    what = "formed, from the first fork"
    yield Clause("form-time", what, "growth", d.FORMATION, formed, _most(850, "ms"), rivals=rivals)
    yield Clause("form-memory", "PSS of a worker", "growth", d.MEMORY, forked, _most(4, "MB"), rivals=(fresh,))
    yield Clause("gone", "100 workers gone", "growth", d.ORPHANS, forked, _most(150, "ms"))


def _blacklist() -> Iterator[Clause]:
    asked = (("check", d.CHECK, 100, _SHORT), ("read of a slot", d.READ, 500, ""), ("update", d.UPDATE, 1500, ""))
    for what, discipline, value, why in asked:
        key, bound = f"blacklist-{what.split()[0]}", _most(value, "ns")
        yield Clause(key, what, "memory", discipline, "meshvisor", bound, unsteady=why)


def _operator() -> Iterator[Clause]:
    ours, cpu, memory = "meshvisor, 20 linked workers, a spare", _most(0.5, "%"), _most(30, "MB")
    key = "supervisor-cpu"
    yield Clause(key, "processor time", "operator", d.SUPERVISOR_CPU, ours, cpu, unsteady=_QUIET)
    yield Clause("supervisor-memory", "PSS", "operator", d.SUPERVISOR_MEMORY, ours, memory)
    command, asked = "meshvisor: supervise status", _most(150, "ms")
    yield Clause("status", "wall time of the command, 20 workers", "operator", d.STATUS, command, asked)


CLAUSES: tuple[Clause, ...] = (
    *_recovery(),
    *_hang(),
    *_links(),
    *_round_trips(),
    *_calls(),
    *_stall(),
    *_hundred(),
    *_blacklist(),
    *_operator(),
)
