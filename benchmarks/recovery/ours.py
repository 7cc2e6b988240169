"""meshvisor, as ``supervise run`` in a process of its own (only there it is a subreaper and has a zygote)."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from tests.outside import proc
from tests.outside.mesh import OutsideMesh, Stuck, Table, hit

from ..disciplines import FORMATION, FROM_HANG, FROM_STOP, MEMORY, ORPHANS, TO_MESH, TO_START
from ..table import Row

Samples = dict[str, list[float]]

STARTS: dict[str, tuple[Table, Table]] = {
    "spare": ({"spares": 1}, {"start_method": "zygote"}),
    "zygote": ({"spares": 0}, {"start_method": "zygote"}),
    "spawn": ({"spares": 0}, {"start_method": "spawn"}),
}
"""How a process comes into being: the keys of ``[supervisor]`` and of the worker."""

PATIENCE = 10.0
CALM = 0.25
"""Seconds between two rounds, in which spares are made again and sockets forgotten."""

PROGRAMS = Path(__file__).with_name("programs")


@contextmanager
def running(count: int, start: str, loop: str = "asyncio", **worker: Any) -> Iterator[OutsideMesh]:
    """Run ``count`` probes that are all linked, on event loops of that kind."""
    supervisor, keys = STARTS[start]
    kind: Table = {"class": "probe:Probe"}
    if loop == "uvloop":
        kind = {"class": "uvloop_probe:Probe", "env": {"PYTHONPATH": str(PROGRAMS)}}
    sections: dict[str, Table] = {
        "supervisor": {**supervisor, "max_restarts": 1_000_000},
        "workers.node": {
            **kind,
            "replicas": count,
            "backoff": {"reset_after": 0},
            "start_timeout": "60s",
            **keys,
            **worker,
        },
    }
    with (
        tempfile.TemporaryDirectory(prefix="recovery-") as name,
        OutsideMesh(Path(name), f"recovery-{os.getpid()}", sections) as mesh,
    ):
        mesh.start()
        mesh.until(lambda: mesh.meshed(None, count), 120, "the mesh")
        mesh.rest(CALM)
        yield mesh
        mesh.stop(60)


def milliseconds(later: int, earlier: int) -> float:
    """Return what lies between two times of the monotonic clock in nanoseconds."""
    return (later - earlier) / 1e6


def _replaced(mesh: OutsideMesh, slot: str, count: int, incarnation: int) -> tuple[int, int]:
    """Wait until ``slot`` lives its next life; return when that began and when it was linked with all (ns)."""
    start = mesh.until(lambda: mesh.find("start", slot, incarnation), PATIENCE, f"the replacement of {slot}")
    linked = mesh.until(lambda: mesh.meshed(slot, count), PATIENCE, f"the links of {slot}")
    return start.at, linked


def hurt(mesh: OutsideMesh, count: int, rounds: int, number: signal.Signals) -> tuple[list[float], list[float]]:
    """Send ``number`` to one slot after the other; return how long until they started, and were meshed, again."""
    starts, links = [], []
    for turn in range(rounds):
        life = mesh.lives[f"node-{turn % count}"]
        at = hit(life.pid, number)
        assert at is not None, f"{life.slot} had died by itself"
        start, linked = _replaced(mesh, life.slot, count, life.incarnation + 1)
        starts.append(milliseconds(start, at))
        links.append(milliseconds(linked, at))
        mesh.rest(CALM)
    return starts, links


def kills(count: int, rounds: int, ways: Iterable[str] = tuple(STARTS)) -> Iterator[Row]:
    """SIGKILL one worker after the other, with each way of starting."""
    for start in ways:
        with running(count, start) as mesh:
            starts, links = hurt(mesh, count, rounds, signal.SIGKILL)
        name = f"meshvisor, N = {count}, {start}"
        yield Row(TO_START, name, starts)
        yield Row(TO_MESH, name, links)


def stops(count: int, rounds: int, ways: Iterable[str] = tuple(STARTS)) -> Iterator[Row]:
    """SIGSTOP one worker after the other."""
    for start in ways:
        names = [f"meshvisor, N = {count}, {start}, until {what}" for what in ("on_start", "all links are up")]
        with running(count, start) as mesh:
            try:
                found = hurt(mesh, count, rounds, signal.SIGSTOP)
            except Stuck:
                mesh.kill()
                yield from (Row(FROM_STOP, name, note=f"not within {PATIENCE:g} s") for name in names)
                return
        yield from (Row(FROM_STOP, name, samples) for name, samples in zip(names, found, strict=True))


def hangs(count: int, rounds: int, ways: Iterable[str] = tuple(STARTS), loads: Iterable[int] = (0,)) -> Iterator[Row]:
    """Have the loops of one worker after the other sleep for ever, beside as many busy processes as each load says.

    The verdict is the first line that the supervisor prints about the slot after the order was obeyed.
    """
    names = ("verdict", "killed", "on_start of the replacement", "all its links up")
    for start in ways:
        with running(count, start, hang_timeout="100ms") as mesh:
            victims = cycle(range(count))
            for load in loads:
                found: Samples = {name: [] for name in names}
                with busy(load):
                    for victim in islice(victims, rounds):
                        times = _hang(mesh, f"node-{victim}", count)
                        for name, value in zip(names, times, strict=True):
                            found[name].append(value)
                        mesh.rest(CALM)
                beside = f", {load} busy processes" if load else ""
                name = f"meshvisor, N = {count}, {start}{beside}"
                yield from (Row(FROM_HANG, f"{name}, until {what}", found[what]) for what in names)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Have ``count`` processes spin meanwhile."""
    hogs = [subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for hog in hogs:
            with suppress(ProcessLookupError):
                hog.kill()
            hog.wait()


def _hang(mesh: OutsideMesh, slot: str, count: int) -> tuple[float, float, float, float]:
    life = mesh.lives[slot]
    pidfd = os.pidfd_open(life.pid)
    try:
        mesh.order(slot, "sleep")
        at = mesh.until(lambda: mesh.find("sleep", slot, life.incarnation), PATIENCE, f"the hang of {slot}").at
        death = select.poll()
        death.register(pidfd, select.POLLIN)

        def verdict() -> int:
            return next((line.at for line in mesh.lines if line.slot == slot and line.at > at), 0)

        said = mesh.until(verdict, PATIENCE, f"a verdict on {slot}")
        mesh.until(lambda: death.poll(0), PATIENCE, f"the death of {slot}", often=True)
        died = time.monotonic_ns()
    finally:
        os.close(pidfd)
    start, linked = _replaced(mesh, slot, count, life.incarnation + 1)
    return milliseconds(said, at), milliseconds(died, at), milliseconds(start, at), milliseconds(linked, at)


def lives(count: int, rounds: int, start: str = "zygote") -> Iterator[Row]:
    """Form a mesh, weigh it, and kill its supervisor."""
    found: Samples = {"fork": [], "command": [], "pss": [], "gone": []}
    for _ in range(rounds):
        with running(count, start) as mesh:
            workers = formation(mesh, count, found)
            found["pss"].append(sum(proc.pss(worker.pid) for worker in workers) / len(workers) / 1e6)
            found["gone"].append(orphan(mesh))
    yield from life_rows(count, start, found)


def formation(mesh: OutsideMesh, count: int, found: Samples) -> list[proc.Identity]:
    """Add to ``found`` how long it took to form a mesh that runs, from two beginnings; return its workers."""
    formed = mesh.meshed(None, count)
    assert formed is not None
    workers = [one for life in mesh.lives.values() if (one := proc.identity(life.pid)) is not None]
    found["fork"].append(milliseconds(formed, min(worker.started_ns for worker in workers)))
    found["command"].append(milliseconds(formed, mesh.started_at))
    return workers


def orphan(mesh: OutsideMesh) -> float:
    """Kill the supervisor; return after how many ms all of the mesh was gone."""
    everything = proc.marked(mesh.name)
    at = time.monotonic_ns()
    mesh.signal(signal.SIGKILL)
    left = proc.wait_gone(everything, PATIENCE)
    took = milliseconds(time.monotonic_ns(), at) if not left else PATIENCE * 1000
    mesh.wait(PATIENCE)
    return took


def life_rows(count: int, start: str, found: Samples) -> Iterator[Row]:
    """Return what ``lives`` has found as rows."""
    name = f"meshvisor, N = {count}, {start}"
    yield Row(FORMATION, f"{name}, from the first worker's fork (to 10 ms)", found["fork"])
    yield Row(FORMATION, f"{name}, from the command (imports, zygote)", found["command"])
    yield Row(MEMORY, name, found["pss"], unit="MB")
    if found["gone"]:
        yield Row(ORPHANS, name, found["gone"])
