"""The supervisor of a mesh is killed at a random moment, again and again, and what is left of the mesh is counted.

The mesh has workers on two levels and a command with a child of its own. The processes that the supervisor started
must be gone within a second. The command's child is a descendant that it did not start: a guardian (the zygote) ends
that one with its group; without one, or when it is killed too, the next start does, and has to say so.
"""

from __future__ import annotations

import os
import random
import re
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.outside import proc
from tests.outside.mesh import OutsideMesh, Stuck, Table, hit
from tests.outside.proc import Identity

WITHIN = 1.0
"""Seconds after which nothing may be left."""
_SECOND_LOOK = 0.03
"""Seconds after which one looks again: a process that was between fork and exec had no mark yet."""
_SLOTS = 8
_PATIENCE = 30.0
_GRANDCHILD = "sleep 987654"


class Moment(StrEnum):
    """What the mesh is doing when it is hit."""

    START = "start"
    RUNNING = "running"
    RESTART = "restart"
    STOP = "stop"


class Target(StrEnum):
    """What is killed. A zygote that is killed alone is followed by its supervisor a little later."""

    SUPERVISOR = "supervisor"
    ZYGOTE = "zygote, then supervisor"
    BOTH = "both at once"


@dataclass(slots=True)
class Outcome:
    """What has become of it; ``gone`` are the seconds after which everything was."""

    times: int
    seed: int
    hits: Counter[tuple[Moment, Target]] = field(default_factory=Counter)
    gone: list[float] = field(default_factory=list)
    grandchildren: int = 0
    zygotes: int = 0
    faults: list[str] = field(default_factory=list)


def _sections() -> dict[str, Table]:
    return {
        "supervisor": {"max_restarts": 1_000_000},
        "workers.base": {"class": "probe:Probe", "replicas": 4, "settings": {"slow": 0.01}},
        "workers.top": {"class": "probe:Probe", "replicas": 3, "depends_on": ["base"]},
        "workers.command": {"command": ["sh", "-c", f"{_GRANDCHILD} & wait"]},
    }


def run(times: int, seed: int = 0, targets: tuple[Target, ...] = tuple(Target)) -> Outcome:
    """Kill ``times`` supervisors, and check the last start. Nothing is left running, whatever comes of it."""
    outcome = Outcome(times, seed)
    rng = random.Random(seed)
    with (
        tempfile.TemporaryDirectory(prefix="orphans-") as name,
        OutsideMesh(Path(name), f"orphans-{os.getpid()}", _sections()) as mesh,
    ):
        try:
            left: set[int] = set()
            for turn in range(times):
                moment, target = list(Moment)[turn % len(Moment)], targets[turn // len(Moment) % len(targets)]
                left = _turn(mesh, outcome, rng, moment, target, left)
            _last(mesh, outcome)
        except Stuck as stuck:
            outcome.faults.append(str(stuck))
    return outcome


def _turn(
    mesh: OutsideMesh, outcome: Outcome, rng: random.Random, moment: Moment, target: Target, before: set[int]
) -> set[int]:
    """Start, kill and count; ``before`` is what the turn before has left to this start, and what is returned so too."""
    mesh.start()
    if moment is Moment.START:
        mesh.until(lambda: mesh.lines, _PATIENCE, "the first sign of the supervisor")
        mesh.rest(rng.uniform(0, 0.4))
    else:
        _wait_ready(mesh)
    _bring_about(mesh, rng, moment)
    zygotes = proc.zygotes_of(mesh.pid)
    everything = proc.marked(mesh.name)
    at = _strike(mesh, rng, target, zygotes)
    outcome.zygotes += len(zygotes)
    outcome.hits[moment, target] += 1
    mesh.wait(_PATIENCE)
    if strangers := _found_by_the_start(mesh) - before:
        outcome.faults.append(f"a start found processes {strangers} of the run before, which had not been there")
    is_guarded = bool(zygotes) and target is Target.SUPERVISOR
    return _count(mesh, outcome, everything, at, is_guarded, f"{moment}, {target}")


def _found_by_the_start(mesh: OutsideMesh) -> set[int]:
    texts = (line.text.rpartition("left behind: ")[2] for line in mesh.lines if "left behind: " in line.text)
    return {int(pid) for text in texts for pid in re.findall(r"\d+", text)}


def _wait_ready(mesh: OutsideMesh) -> None:
    def is_ready() -> bool:
        status = mesh.status()
        return status is not None and len(status.workers) == _SLOTS and all(slot.ready for slot in status.workers)

    mesh.until(is_ready, _PATIENCE, "a ready mesh", often=True)


def _bring_about(mesh: OutsideMesh, rng: random.Random, moment: Moment) -> None:
    if moment is Moment.RESTART:
        victims = rng.sample(sorted(mesh.lives), 2)
        for victim in victims:
            hit(mesh.lives[victim].pid)
        mesh.rest(rng.uniform(0, 0.15))
    elif moment is Moment.STOP:
        mesh.signal(signal.SIGTERM)
        time.sleep(rng.uniform(0, 0.03))


def _strike(mesh: OutsideMesh, rng: random.Random, target: Target, zygotes: list[int]) -> float:
    """Kill ``target``; return when the supervisor was (monotonic seconds)."""
    if target is not Target.SUPERVISOR:
        for zygote in zygotes:
            hit(zygote)
    if target is Target.ZYGOTE:
        time.sleep(rng.uniform(0, 0.1))
    at = time.monotonic()
    mesh.signal(signal.SIGKILL)
    return at


def _count(
    mesh: OutsideMesh, outcome: Outcome, everything: list[Identity], at: float, is_guarded: bool, what: str
) -> set[int]:
    """Wait until everything is gone that must be, say what is not, and return what the next start will find."""
    deadline = at + WITHIN
    gone_at = at
    while True:
        known = {process for process in everything if process.is_alive}
        left = {one: proc.command_line(one.pid) for one in known | set(proc.marked(mesh.name))}
        due = {one: words for one, words in left.items() if is_guarded or words != _GRANDCHILD}
        now = time.monotonic()
        if now > deadline or (not due and now > gone_at + _SECOND_LOOK):
            break
        if due:
            proc.wait_gone(due, deadline - now)
            gone_at = time.monotonic()
        else:
            time.sleep(_SECOND_LOOK)
    if due:
        names = ", ".join(f"{one.pid} ({words})" for one, words in due.items())
        outcome.faults.append(f"{what}: after {WITHIN:g} s these are left: {names}")
    else:
        outcome.gone.append(gone_at - at)
    outcome.grandchildren += len(left) - len(due)
    return {one.pid for one in left}


def _last(mesh: OutsideMesh, outcome: Outcome) -> None:
    """Start once more: it must come up, and its end must leave nothing at all, of this run or the ones before."""
    mesh.start()
    _wait_ready(mesh)
    if (status := mesh.stop()) != 0:
        outcome.faults.append(f"the last run ended with {status}; last:\n{mesh.last_lines()}")
    if left := mesh.remaining(WITHIN):
        outcome.faults.append(f"after an orderly end these are left: {[proc.command_line(one.pid) for one in left]}")
