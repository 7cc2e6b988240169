"""meshvisor, as ``supervise run`` in a process of its own (only there it is a subreaper and has a zygote)."""

from __future__ import annotations

import os
import select
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.outside import proc
from tests.outside.mesh import OutsideMesh, Stuck, Table, hit, refused

from .table import Row

Samples = dict[str, list[float]]

STARTS: dict[str, tuple[Table, Table]] = {
    "spare": ({"spares": 1}, {"start_method": "zygote"}),
    "zygote": ({"spares": 0}, {"start_method": "zygote"}),
    "spawn": ({"spares": 0}, {"start_method": "spawn"}),
}
"""How a process comes into being: the keys of ``[supervisor]`` and of the worker."""

TO_START = "SIGKILL -> first line of the replacement (meshvisor: on_start, all imports done)"
TO_MESH = "SIGKILL -> all links of the replacement up at both ends"
FROM_STOP = "SIGSTOP -> replaced"
FROM_HANG = "the event loop hangs (time.sleep in a callback; hang_timeout = 100 ms)"
FORMATION = "mesh formed"
MEMORY = "PSS of a worker"
ORPHANS = "supervisor killed -> every worker gone"

_NOT_YET = "not in this version"
_PATIENCE = 10.0
_CALM = 0.25
"""Seconds between two rounds, in which spares are made again and sockets forgotten."""


@contextmanager
def _mesh(count: int, start: str, **worker: Any) -> Iterator[OutsideMesh | None]:
    """Run ``count`` probes that are all linked; None if this version has no such thing."""
    supervisor, keys = STARTS[start]
    sections: dict[str, Table] = {
        "supervisor": {**supervisor, "max_restarts": 1_000_000},
        "workers.node": {
            "class": "probe:Probe",
            "replicas": count,
            "backoff": {"reset_after": 0},
            "start_timeout": "60s",
            **keys,
            **worker,
        },
    }
    with tempfile.TemporaryDirectory(prefix="recovery-") as name:
        folder = Path(name)
        if refused(folder, {"mesh": {"name": "recovery"}, **sections}):
            yield None
            return
        with OutsideMesh(folder, f"recovery-{os.getpid()}", sections) as mesh:
            mesh.start()
            mesh.until(lambda: mesh.meshed(None, count), 120, "the mesh")
            mesh.rest(_CALM)
            yield mesh
            mesh.stop(60)


def best_start() -> str:
    """Return the quickest way of starting without spares that this version has."""
    with tempfile.TemporaryDirectory() as name:
        worker = {"class": "probe:Probe", "start_method": "zygote"}
        return "spawn" if refused(Path(name), {"mesh": {"name": "x"}, "workers.node": worker}) else "zygote"


def _ms(later: int, earlier: int) -> float:
    return (later - earlier) / 1e6


def _replaced(mesh: OutsideMesh, slot: str, count: int, incarnation: int) -> tuple[int, int]:
    """Wait until ``slot`` lives its next life; return when that began and when it was linked with all (ns)."""
    start = mesh.until(lambda: mesh.find("start", slot, incarnation), _PATIENCE, f"the replacement of {slot}")
    linked = mesh.until(lambda: mesh.meshed(slot, count), _PATIENCE, f"the links of {slot}")
    return start.at, linked


def _hurt(mesh: OutsideMesh, count: int, rounds: int, number: signal.Signals) -> tuple[list[float], list[float]]:
    """Send ``number`` to one slot after the other; return how long until they started, and were meshed, again."""
    starts, links = [], []
    for turn in range(rounds):
        life = mesh.lives[f"node-{turn % count}"]
        at = hit(life.pid, number)
        assert at is not None, f"{life.slot} had died by itself"
        start, linked = _replaced(mesh, life.slot, count, life.incarnation + 1)
        starts.append(_ms(start, at))
        links.append(_ms(linked, at))
        mesh.rest(_CALM)
    return starts, links


def kills(count: int, rounds: int) -> Iterator[Row]:
    """SIGKILL one worker after the other, with each way of starting."""
    for start in STARTS:
        name = f"meshvisor, N = {count}, {start}"
        with _mesh(count, start) as mesh:
            if mesh is None:
                yield Row(TO_START, name, note=_NOT_YET)
                yield Row(TO_MESH, name, note=_NOT_YET)
                continue
            starts, links = _hurt(mesh, count, rounds, signal.SIGKILL)
        yield Row(TO_START, name, starts)
        yield Row(TO_MESH, name, links)


def stops(count: int, rounds: int) -> Iterator[Row]:
    """SIGSTOP one worker after the other."""
    for start in STARTS:
        names = [f"meshvisor, N = {count}, {start}, until {what}" for what in ("on_start", "all links are up")]
        with _mesh(count, start) as mesh:
            if mesh is None:
                yield from (Row(FROM_STOP, name, note=_NOT_YET) for name in names)
                continue
            try:
                found = _hurt(mesh, count, rounds, signal.SIGSTOP)
            except Stuck:
                mesh.kill()
                yield from (Row(FROM_STOP, name, note=f"not within {_PATIENCE:g} s") for name in names)
                return
        yield from (Row(FROM_STOP, name, samples) for name, samples in zip(names, found, strict=True))


def hangs(count: int, rounds: int) -> Iterator[Row]:
    """Have the loops of one worker after the other sleep for ever.

    The verdict is the first line that the supervisor prints about the slot after the order was obeyed.
    """
    names = ("verdict", "killed", "on_start of the replacement", "all its links up")
    for start in STARTS:
        with _mesh(count, start, hang_timeout="100ms") as mesh:
            if mesh is None:
                yield Row(FROM_HANG, f"meshvisor, N = {count}, {start}", note=_NOT_YET)
                continue
            found: Samples = {name: [] for name in names}
            for turn in range(rounds):
                times = _hang(mesh, f"node-{turn % count}", count)
                for name, value in zip(names, times, strict=True):
                    found[name].append(value)
                mesh.rest(_CALM)
        yield from (Row(FROM_HANG, f"meshvisor, N = {count}, {start}, until {name}", found[name]) for name in names)


def _hang(mesh: OutsideMesh, slot: str, count: int) -> tuple[float, float, float, float]:
    life = mesh.lives[slot]
    pidfd = os.pidfd_open(life.pid)
    try:
        mesh.order(slot, "sleep")
        at = mesh.until(lambda: mesh.find("sleep", slot, life.incarnation), _PATIENCE, f"the hang of {slot}").at
        death = select.poll()
        death.register(pidfd, select.POLLIN)

        def verdict() -> int:
            return next((line.at for line in mesh.lines if line.slot == slot and line.at > at), 0)

        said = mesh.until(verdict, _PATIENCE, f"a verdict on {slot}")
        mesh.until(lambda: death.poll(0), _PATIENCE, f"the death of {slot}", often=True)
        died = time.monotonic_ns()
    finally:
        os.close(pidfd)
    start, linked = _replaced(mesh, slot, count, life.incarnation + 1)
    return _ms(said, at), _ms(died, at), _ms(start, at), _ms(linked, at)


def lives(count: int, rounds: int) -> Iterator[Row]:
    """Form a mesh, weigh it, and kill its supervisor."""
    start = best_start()
    found: Samples = {"fork": [], "command": [], "pss": [], "gone": []}
    for _ in range(rounds):
        with _mesh(count, start) as mesh:
            assert mesh is not None
            formed = mesh.meshed(None, count)
            assert formed is not None
            workers = [one for life in mesh.lives.values() if (one := proc.identity(life.pid)) is not None]
            found["fork"].append(_ms(formed, min(worker.started_ns for worker in workers)))
            found["command"].append(_ms(formed, mesh.started_at))
            found["pss"].append(sum(proc.pss(worker.pid) for worker in workers) / len(workers) / 1e6)
            everything = proc.marked(mesh.name)
            at = time.monotonic_ns()
            mesh.signal(signal.SIGKILL)
            left = proc.wait_gone(everything, _PATIENCE)
            found["gone"].append(_ms(time.monotonic_ns(), at) if not left else _PATIENCE * 1000)
            mesh.wait(_PATIENCE)
    name = f"meshvisor, N = {count}, {start}"
    yield Row(FORMATION, f"{name}, from the first worker's fork (to 10 ms)", found["fork"])
    yield Row(FORMATION, f"{name}, from the command (imports, zygote)", found["command"])
    yield Row(MEMORY, name, found["pss"], unit="MB")
    yield Row(ORPHANS, name, found["gone"])
