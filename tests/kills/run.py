"""A storm of kills over one mesh, drawn from a seed, and what is found wrong, in sentences."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.outside import proc
from tests.outside.mesh import OutsideMesh, Stuck, Table, hit, refused

from meshvisor.supervisor.snapshot import WorkerStatus

from .checks import Watch

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
SLOTS = 16
_PATIENCE = 30.0
_CALM = 1.0
"""Seconds in which spares are made again and sockets closed, before descriptors are counted."""
_LIMIT = 3
"""The restart limit of the second part, in which the next kill must end the mesh."""


class Kind(StrEnum):
    """What a step of the storm kills."""

    ONE = "one"
    SEVERAL = "several at once"
    STARTING = "one, and its replacement while that starts"
    RESTART = "one, and another during the restart"


@dataclass(frozen=True, slots=True)
class Options:
    """What to run."""

    kills: int
    strategy: str = "one_for_one"
    seed: int = 0


@dataclass(slots=True)
class Outcome:
    """What has become of it. ``restarts``: by how many lives the slots are older than one each; ``seconds``: the storm
    alone."""

    options: Options
    refused: list[str] = field(default_factory=list)
    steps: Counter[Kind] = field(default_factory=Counter)
    kills: int = 0
    stop_kills: int = 0
    restarts: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def _sections(strategy: str, max_restarts: int) -> dict[str, Table]:
    worker: Table = {"backoff": {"initial": "5ms", "max": "20ms"}, "stop_timeout": "2s", "settings": {"slow": 0.01}}
    return {
        "supervisor": {"strategy": strategy, "max_restarts": max_restarts, "max_restarts_window": "10000s"},
        "workers.watch": {**worker, "class": "probe:Watcher"},
        "workers.base": {**worker, "class": "probe:Probe", "replicas": 3},
        "workers.middle": {**worker, "class": "probe:Probe", "replicas": 6, "depends_on": ["base", "watch"]},
        "workers.top": {**worker, "class": "probe:Probe", "replicas": 6, "depends_on": ["middle"]},
    }


def run(options: Options) -> Outcome:
    """Run the storm, then the restart limit. Nothing is left running, whatever comes of it."""
    outcome = Outcome(options)
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        outcome.refused = refused(Path(name), {"mesh": {"name": "x"}, **_sections(options.strategy, 1)})
    if outcome.refused:
        return outcome
    for part, max_restarts in ((_storm, 1_000_000), (_limit, _LIMIT)):
        with tempfile.TemporaryDirectory(prefix="kills-") as name:
            sections = _sections(options.strategy, max_restarts)
            with OutsideMesh(Path(name), f"kills-{os.getpid()}", sections) as mesh:
                try:
                    part(_Storm(mesh, outcome))
                except Stuck as stuck:
                    outcome.faults.append(str(stuck))
    return outcome


class _Storm:
    """One mesh under fire."""

    def __init__(self, mesh: OutsideMesh, outcome: Outcome) -> None:
        self.mesh = mesh
        self.outcome = outcome
        self.rng = random.Random(outcome.options.seed)
        self.killed: set[tuple[str, int]] = set()
        self.watch = Watch(proc.identity)
        mesh.on_report = self.watch.take
        mesh.start()
        self.settle()

    # Looking.

    def slots(self) -> list[WorkerStatus]:
        """Return what the supervisor says of the slots; it may still have to open its control socket."""
        return list(self.mesh.until(self.mesh.status, _PATIENCE, "an answer of the supervisor", often=True).workers)

    def settle(self) -> None:
        """Wait until every slot is ready and linked with every other, in a life that nobody has killed."""

        def is_calm() -> bool:
            slots = self.slots()
            return len(slots) == SLOTS and all(map(self._is_well, slots)) and self.mesh.meshed(None, SLOTS) is not None

        self.mesh.until(is_calm, _PATIENCE, "calm (every slot ready and linked)", often=True)

    def _is_well(self, slot: WorkerStatus) -> bool:
        life = self.mesh.lives.get(slot.name)
        return (
            slot.ready
            and (slot.name, slot.incarnation) not in self.killed
            and life is not None
            and (life.incarnation, life.pid) == (slot.incarnation, slot.pid)
        )

    def look(self) -> None:
        """Check what may not be at any moment; ask twice, since a process ends while one looks."""
        names = list(self.mesh.lives)
        doubles = proc.namesakes(self.mesh.name, names)
        self._fault_if(
            doubles and proc.namesakes(self.mesh.name, names), lambda found: f"two processes are called {found}"
        )

    def look_after(self) -> None:
        """Check what may not be when all is calm."""
        self.look()
        deadline = time.monotonic() + 1
        while (zombies := proc.zombies_of(self.mesh.pid)) and time.monotonic() < deadline:
            self.mesh.rest(0.01)
        self._fault_if(zombies, lambda found: f"zombies are left: {found}")

    def _fault_if(self, found: list[str] | list[int], text: Callable[[str], str]) -> None:
        if found:
            self.outcome.faults.append(text(", ".join(map(str, found))))

    # Killing.

    def kill(self, slot: WorkerStatus) -> bool:
        """Kill the present life of a slot, once; return whether it was alive."""
        life = (slot.name, slot.incarnation)
        if slot.pid is None or life in self.killed or not proc.belongs(slot.pid, self.mesh.name):
            return False
        if hit(slot.pid) is None:
            return False
        self.killed.add(life)
        return True

    def step(self) -> None:
        """Kill something, as drawn."""
        kind = self.rng.choices(list(Kind), (5, 2, 2, 2))[0]
        slots = self.slots()
        if kind is Kind.SEVERAL:
            for slot in self.rng.sample(slots, self.rng.randint(2, 4)):
                self.kill(slot)
        else:
            victim = self.rng.choice(slots)
            self.kill(victim)
            if kind is Kind.STARTING:
                self.kill_starting(victim.name)
            elif kind is Kind.RESTART:
                self.mesh.rest(self.rng.uniform(0, 0.03))
                self.kill(self.rng.choice(self.slots()))
        self.outcome.steps[kind] += 1
        self.look()

    def kill_starting(self, name: str) -> None:
        """Kill the replacement that is being started in ``name``, at any moment until it is ready."""

        def replacement() -> WorkerStatus | None:
            slot = next(slot for slot in self.slots() if slot.name == name)
            return slot if slot.pid is not None and (name, slot.incarnation) not in self.killed else None

        found = self.mesh.until(replacement, _PATIENCE, f"the replacement of {name}", often=True)
        self.mesh.rest(self.rng.uniform(0, 0.02))
        self.kill(found)


def _storm(storm: _Storm) -> None:
    mesh, outcome = storm.mesh, storm.outcome
    for group in ("watch", "base-0", "middle-0", "top-0"):  # what is opened once is open after that
        storm.kill(next(slot for slot in storm.slots() if slot.name == group))
        storm.settle()
    mesh.rest(_CALM)
    baseline = Counter(map(_kind_of, proc.descriptors(mesh.pid)))
    began = time.monotonic()
    while len(storm.killed) < outcome.options.kills:
        storm.step()
        storm.settle()
        storm.look_after()
    outcome.seconds = time.monotonic() - began
    outcome.kills = len(storm.killed)
    outcome.restarts = sum(slot.incarnation - 1 for slot in storm.slots())
    if outcome.options.strategy == "one_for_one":
        for slot in storm.slots():
            lives = 1 + sum(name == slot.name for name, _ in storm.killed)
            if slot.incarnation != lives:
                outcome.faults.append(f"{slot.name} is in life {slot.incarnation} after {lives - 1} kills")
    _compare_descriptors(storm, baseline)
    _stop_under_fire(storm)
    outcome.faults += storm.watch.faults


def _kind_of(descriptor: str) -> str:
    return descriptor.partition(":")[0] if descriptor.startswith(("socket:", "pipe:", "pidfd:")) else descriptor


def _compare_descriptors(storm: _Storm, baseline: Counter[str]) -> None:
    deadline = time.monotonic() + 2
    while (now := Counter(map(_kind_of, proc.descriptors(storm.mesh.pid)))) != baseline:
        if time.monotonic() > deadline:
            more, fewer = now - baseline, baseline - now
            storm.outcome.faults.append(f"descriptors of the supervisor: more {dict(more)}, fewer {dict(fewer)}")
            return
        storm.mesh.rest(0.05)


def _stop_under_fire(storm: _Storm) -> None:
    """Ask for the stop and go on killing; it must end with 0, and be complete."""
    mesh, outcome = storm.mesh, storm.outcome
    before = len(storm.killed)
    slots = storm.slots()
    mesh.signal(signal.SIGTERM)
    for slot in storm.rng.sample(slots, 6):
        mesh.rest(storm.rng.uniform(0, 0.01))
        storm.kill(slot)
    outcome.stop_kills = len(storm.killed) - before
    _check_end(mesh, outcome, 0, "a stop under fire")


def _check_end(mesh: OutsideMesh, outcome: Outcome, expected: int, what: str) -> None:
    status = mesh.wait(_PATIENCE)
    if status != expected:
        outcome.faults.append(f"{what} ended with {status} instead of {expected}; last:\n{mesh.last_lines()}")
    if left := mesh.remaining():
        names = [f"{process.pid} ({proc.command_line(process.pid)})" for process in left]
        outcome.faults.append(f"{what} left processes behind: {', '.join(names)}")


def _limit(storm: _Storm) -> None:
    """With ``max_restarts = n``, n kills are repaired and the next ends the mesh with 3."""
    for number in range(_LIMIT + 1):
        storm.kill(storm.rng.choice(storm.slots()))
        if number < _LIMIT:
            storm.settle()
    _check_end(storm.mesh, storm.outcome, 3, f"the kill beyond the limit of {_LIMIT}")
    storm.outcome.faults += storm.watch.faults
