"""What must hold between the keys of ``mesh.toml``, beyond the form of each."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .model import DEFAULT_HANG_TIMEOUT, RestartPolicy, slot_names
from .names import NAME, NAME_RULE
from .report import Where, closest
from .schema import CLASS_ONLY, COMMAND_ONLY
from .values import is_loopback, show

LEAST_BEATS = 4
_MOST_HINTS = 100  # each costs a comparison with all workers, and nobody reads so many
_MOST_CIRCLES = 20  # each costs a walk along all dependencies


@dataclass(frozen=True, slots=True)
class WorkerTable:
    """One ``[workers.NAME]``: ``keys`` are those in the file, ``given`` those of them that could be read."""

    name: str
    where: Where
    keys: frozenset[str]
    given: Mapping[str, Any]


def check_mesh(mesh: Mapping[str, Any], keys: Collection[str], where: Where) -> None:
    """Report a host that strangers can reach without a secret, and heartbeats that cannot be.

    ``mesh`` is with its defaults; ``keys`` are those that the file has.
    """
    if "host" in mesh and not is_loopback(mesh["host"]) and "secret_file" not in keys:
        (where / "host").fault(f"{show(mesh['host'])} is not a loopback address and requires secret_file")
    interval, timeout = mesh.get("heartbeat_interval", 0.0), mesh.get("heartbeat_timeout", math.inf)
    if timeout <= interval:
        key = "heartbeat_timeout" if "heartbeat_timeout" in keys else "heartbeat_interval"
        text = f"heartbeat_timeout ({timeout:g} s) must be longer than heartbeat_interval ({interval:g} s)"
        (where / key).fault(text)


def check_worker(worker: WorkerTable) -> None:
    """Report what does not go together within one worker."""
    if not NAME.fullmatch(worker.name):
        worker.where.fault(f"the name of a worker {NAME_RULE}")
    _check_kind(worker)
    _check_memory(worker)
    if worker.given.get("significant") and worker.given.get("restart") is RestartPolicy.ALWAYS:
        (worker.where / "restart").fault('"always" never ends, and so cannot be significant', "on-failure")
    if "class" in worker.keys and worker.given.get("stop_signal") == "SIGKILL":
        (worker.where / "stop_signal").fault("a worker cannot answer SIGKILL; stop_timeout = 0 kills it at once")


def _check_memory(worker: WorkerTable) -> None:
    soft, hard = worker.given.get("memory_soft"), worker.given.get("max_memory")
    if soft is not None and hard is not None and soft >= hard:
        text = f"must be less than max_memory ({hard} bytes), or nobody is asked before the end; it is {soft} bytes"
        (worker.where / "memory_soft").fault(text)


def check_beats(beat: float, workers: Sequence[WorkerTable], where: Where) -> None:
    """Report a ``hang_timeout`` of less than ``LEAST_BEATS`` beats; ``where`` is mesh.beat."""
    least = LEAST_BEATS * beat
    for worker in workers:
        if "class" not in worker.keys or "hang_timeout" not in worker.given:
            continue
        timeout = worker.given["hang_timeout"]
        if timeout is not None and timeout < least:
            text = f'must be at least {LEAST_BEATS} times mesh.beat ({beat:g} s), that is {least:g} s, or "off"'
            (worker.where / "hang_timeout").fault(f"{text}, not {timeout:g} s")
    takes_default = [one.name for one in workers if "class" in one.keys and "hang_timeout" not in one.keys]
    if least > DEFAULT_HANG_TIMEOUT and takes_default:
        text = f"hang_timeout must be at least {LEAST_BEATS} times this, and is {DEFAULT_HANG_TIMEOUT:g} s"
        where.fault(f"{text} for {takes_default[0]}, which has none of its own")


def _check_kind(worker: WorkerTable) -> None:
    match "class" in worker.keys, "command" in worker.keys:
        case False, False:
            worker.where.fault("must have a class or a command")
        case True, True:
            (worker.where / "command").fault("a worker has a class or a command, not both")
        case True, False:
            _refuse(worker, COMMAND_ONLY, "is for commands, and this worker has a class")
        case _:
            _refuse(worker, CLASS_ONLY, "is for workers with a class, and this one has a command")


def _refuse(worker: WorkerTable, keys: Sequence[str], why: str) -> None:
    for key in keys:
        if key in worker.given:  # one that could not be read, or is refused anyway, has its fault already
            (worker.where / key).fault(why)


def check_slots(workers: Sequence[WorkerTable]) -> None:
    """Report a slot ``NAME-1`` beside a worker of that very name. (No other two slots can be called the same.)"""
    names = {worker.name for worker in workers}
    for worker in workers:
        for slot in slot_names(worker.name, worker.given.get("replicas", 1)):
            if slot != worker.name and slot in names:
                (worker.where / "replicas").fault(f"makes a slot {slot}, and there is a worker of that name")


def check_dependencies(workers: Sequence[WorkerTable]) -> None:
    """Report dependencies on workers that do not exist, and circles of them (each once, and not more than a few)."""
    names = {worker.name: None for worker in workers}
    edges: dict[str, list[str]] = {}
    unknown = 0
    for worker in workers:
        wanted: Sequence[str] = worker.given.get("depends_on", ())
        for index, name in enumerate(wanted):
            place = worker.where / "depends_on" / index
            if name == worker.name:
                place.fault(f"{name} cannot depend on itself")
            elif name not in names:
                unknown += 1
                others = [other for other in names if other != worker.name] if unknown <= _MOST_HINTS else []
                place.fault(f"there is no worker {show(name)}", closest(name, others))
        edges[worker.name] = [name for name in dict.fromkeys(wanted) if name in names and name != worker.name]
    edges = _without_loose_ends(edges)
    reported: set[str] = set()
    circles = 0
    for worker in workers:
        if worker.name not in edges or worker.name in reported or circles == _MOST_CIRCLES:
            continue
        if circle := _circle(worker.name, edges):
            circles += 1
            reported.update(circle)
            (worker.where / "depends_on").fault(f"goes round in a circle: {' -> '.join(circle)}")


def _without_loose_ends(edges: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the part of a graph in which all circles are: what nothing, or only that, leads to is none of it."""
    left = {here: list(there) for here, there in edges.items()}
    for _ in range(2):  # first from those that depend on nothing, then the other way round
        backwards: dict[str, list[str]] = {here: [] for here in left}
        for here, onwards in left.items():
            for there in onwards:
                backwards[there].append(here)
        open_ends = {here: len(onwards) for here, onwards in left.items()}
        loose = [here for here, count in open_ends.items() if not count]
        while loose:
            gone = loose.pop()
            for here in backwards.pop(gone):
                open_ends[here] -= 1
                if not open_ends[here]:
                    loose.append(here)
        left = {here: [there for there in theirs if there in backwards] for here, theirs in backwards.items()}
    return left


def _circle(start: str, edges: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Return the shortest way from ``start`` back to it, both ends included."""
    came_from: dict[str, str] = {}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for there in edges[here]:
            if there == start:
                way = [start, here]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if there not in came_from:
                came_from[there] = here
                queue.append(there)
    return None
