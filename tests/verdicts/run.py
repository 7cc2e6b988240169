"""A mesh of busy workers, and one that is made to hang: what does the supervisor say of whom?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.outside.mesh import OutsideMesh, Report, Stuck, Table, hit, refused

from .judge import EXPECTED, Tally, Trial, Verdict, verdict_of

_VICTIM = "victim"
_HOGS = 8
_OVERLOAD = 2.0
_PATIENCE = 15.0
_ORDERS = {Trial.SLEEP: "sleep", Trial.DEADLOCK: "deadlock", Trial.SPIN: "spin"}


@dataclass(frozen=True, slots=True)
class Options:
    """What to run; time-outs are in seconds. ``trials`` are shared by the kinds of trial."""

    minutes: float
    hang_timeout: float = 0.1
    busy_timeout: float = 1.0
    trials: int = 100


@dataclass(slots=True)
class Outcome:
    """What has become of it. ``watched``: seconds of being busy and well; ``false``: what was said of the innocent."""

    options: Options
    refused: list[str] = field(default_factory=list)
    watched: float = 0.0
    false: list[str] = field(default_factory=list)
    tallies: dict[Trial, Tally] = field(default_factory=lambda: {trial: Tally() for trial in Trial})
    faults: list[str] = field(default_factory=list)

    @property
    def right(self) -> int:
        return sum(tally.right(trial) for trial, tally in self.tallies.items())

    @property
    def trials(self) -> int:
        return sum(len(tally.verdicts) for tally in self.tallies.values())

    @property
    def is_good(self) -> bool:
        """No false verdict at all, and 99 of 100 right ones."""
        return not self.refused and not self.false and not self.faults and self.right * 100 >= self.trials * 99


def _sections(options: Options) -> dict[str, Table]:
    limits = {"hang_timeout": options.hang_timeout, "busy_timeout": options.busy_timeout}
    common: Table = {**limits, "backoff": {"reset_after": 0}, "start_timeout": "60s"}

    def busy(work: str, replicas: int = 1, **settings: str) -> Table:
        return {**common, "class": "probe:Busy", "replicas": replicas, "settings": {"work": work, **settings}}

    return {
        "supervisor": {"max_restarts": 1_000_000},
        "workers.slices": busy("slices", 2),
        "workers.thread": busy("thread", 2),
        "workers.loop-gil": busy("loop-gil"),
        "workers.thread-gil": busy("thread-gil"),
        "workers.left": busy("chat", partner="right"),
        "workers.right": busy("chat", partner="left"),
        f"workers.{_VICTIM}": {**common, "class": "probe:Probe"},
    }


_SLOTS = 9


def run(options: Options) -> Outcome:
    """Watch the busy, then try the guilty. Nothing is left running, whatever comes of it."""
    outcome = Outcome(options)
    with tempfile.TemporaryDirectory(prefix="verdicts-") as name:
        folder = Path(name)
        outcome.refused = refused(folder, {"mesh": {"name": "x"}, **_sections(options)})
        if outcome.refused:
            return outcome
        with OutsideMesh(folder, f"verdicts-{os.getpid()}", _sections(options)) as mesh:
            try:
                mesh.start()
                mesh.until(lambda: _count(mesh, "ready") == _SLOTS, 60, "the mesh")
                _until_watched(mesh, after=mesh.started_at)
                _watch(mesh, outcome)
                for turn in range(options.trials):
                    _try(mesh, outcome, list(Trial)[turn % len(Trial)])
                if (status := mesh.stop()) != 0:
                    outcome.faults.append(f"the run ended with {status} instead of 0; last:\n{mesh.last_lines()}")
            except Stuck as stuck:
                outcome.faults.append(str(stuck))
    return outcome


def _count(mesh: OutsideMesh, kind: str) -> int:
    return sum(report.kind == kind for report in mesh.reports)


def _watch(mesh: OutsideMesh, outcome: Outcome) -> None:
    """Leave everybody at work; whoever is replaced meanwhile was misjudged."""
    outcome.watched = outcome.options.minutes * 60
    mesh.rest(outcome.watched)
    _note_false(mesh, outcome, "busy", innocent=set(mesh.lives))


def _note_false(mesh: OutsideMesh, outcome: Outcome, what: str, innocent: set[str]) -> None:
    """Note who of ``innocent`` has been replaced since the last time, and look no further than now the next time."""
    for slot in innocent & {report.slot for report in mesh.reports if _is_replacement(report)}:
        said = [str(verdict_of(incident)) for incident in mesh.incidents(slot)[-1:]] or ["replaced"]
        outcome.false.append(f"{what}: {slot} ({said[0]})")
    mesh.reports.clear()


def _is_replacement(report: Report) -> bool:
    return report.kind == "start" and report.incarnation > 1


def _try(mesh: OutsideMesh, outcome: Outcome, trial: Trial) -> None:
    tally = outcome.tallies[trial]
    if trial is Trial.OVERLOAD:
        with _hogs():
            mesh.rest(_OVERLOAD)
        was_replaced = any(map(_is_replacement, mesh.reports))
        tally.verdicts.append(Verdict.OTHER if was_replaced else Verdict.NONE)
        mesh.reports.clear()
        return
    verdict, took = _accuse(mesh, trial)
    tally.verdicts.append(verdict)
    if verdict is EXPECTED[trial]:
        tally.times.append(took)
    mesh.until(lambda: mesh.find("ready", _VICTIM), 60, "the replacement of the victim")
    _until_watched(mesh, after=mesh.lives[_VICTIM].at)
    _note_false(mesh, outcome, trial, innocent=set(mesh.lives) - {_VICTIM})


def _accuse(mesh: OutsideMesh, trial: Trial) -> tuple[Verdict, float]:
    """Make the victim misbehave; return what was said of it, and after how many ms the first word was."""
    life = mesh.lives[_VICTIM]
    before = len(mesh.incidents(_VICTIM))
    if trial is Trial.STOP:
        at = hit(life.pid, signal.SIGSTOP) or 0
    else:
        order = _ORDERS[trial]
        mesh.order(_VICTIM, order)
        at = mesh.until(lambda: mesh.find(order, _VICTIM), _PATIENCE, f"the victim's {order}").at
    try:
        mesh.until(lambda: mesh.find("start", _VICTIM, life.incarnation + 1), _PATIENCE, "a verdict")
    except Stuck:
        hit(life.pid)
        return Verdict.NONE, 0.0
    said = next((line.at for line in mesh.lines if line.slot == _VICTIM and line.at > at), time.monotonic_ns())
    return _verdict(mesh, before), (said - at) / 1e6


def _until_watched(mesh: OutsideMesh, after: int) -> None:
    """Wait until the supervisor has said that the victim is ready: before that it judges nobody."""

    def is_said() -> bool:
        return any(line.slot == _VICTIM and line.at > after and "ready" in line.text for line in mesh.lines)

    mesh.until(is_said, 60, "the word that the victim is ready")


def _verdict(mesh: OutsideMesh, before: int) -> Verdict:
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        if len(incidents := mesh.incidents(_VICTIM)) > before:
            return verdict_of(incidents[before])
        mesh.pump(0.01)
    return Verdict.OTHER


@contextmanager
def _hogs() -> Iterator[None]:
    """Load the machine."""
    hogs = [subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"]) for _ in range(_HOGS)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
