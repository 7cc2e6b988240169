"""How long a mesh is without a worker that was killed, and what its processes cost: ``python -m benchmarks.births``.

A mesh of ``--workers`` real workers, supervised as ``supervise run`` does it. Workers are killed one after the other; a
worker notes the time when its ``on_start`` begins. The ways to make its successor take turns: ``spawn`` (a program
started anew), ``zygote`` (a fork), ``spare`` (a fork that was made before).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from meshvisor.shared.config.model import (
    Backoff,
    MeshConfig,
    MeshSection,
    StartMethod,
    SupervisorSection,
    WorkerConfig,
)
from meshvisor.supervisor.supervisor import Supervisor

from .disciplines import BIRTHS
from .table import Row

_APPLICATION = """
import os, time
from meshvisor import Worker

class Clock(Worker):
    async def on_start(self):
        os.write(1, b"BORN %d\\n" % time.monotonic_ns())
"""


class Mesh:
    """A running mesh, and the births in it."""

    def __init__(self, directory: Path, way: str, workers: int) -> None:
        method = StartMethod.SPAWN if way == "spawn" else StartMethod.ZYGOTE
        worker = WorkerConfig(
            "w",
            directory,
            class_path="births_application:Clock",
            replicas=workers,
            start_method=method,
            start_timeout=120.0,
            backoff=Backoff(initial=1e-6, max=1e-6),
        )
        section = SupervisorSection(
            runtime_dir=directory / way, max_restarts=10**6, spares=1 if way == "spare" else 0, log_dir=directory / way
        )
        config = MeshConfig(directory / "mesh.toml", MeshSection("births"), section, (worker,))
        self.supervisor = Supervisor(config, adopt=True)
        self._born: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self.supervisor.subscribe_output(self._printed)

    def _printed(self, slot: str, kind: str, line: str) -> None:
        if line.startswith("BORN"):
            self._born.put_nowait((slot, int(line.split()[1])))

    async def kill(self) -> float:
        """Kill one worker and return the milliseconds until its successor's ``on_start``."""
        while not self._born.empty():
            self._born.get_nowait()
        victim = random.choice(self.supervisor.status().workers)
        assert victim.pid is not None
        begin = time.monotonic_ns()
        os.kill(victim.pid, signal.SIGKILL)
        _, born = await self._born.get()
        return (born - begin) / 1e6

    def memory(self) -> float:
        """Return the mean proportional set size of a worker in MB."""
        pids = [worker.pid for worker in self.supervisor.status().workers]
        return statistics.mean(_pss(pid) for pid in pids if pid is not None) / 1024


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


async def _measure(way: str, workers: int, kills: int, pause: float) -> tuple[float, float, list[float]]:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "births_application.py").write_text(_APPLICATION)
        mesh = Mesh(Path(directory), way, workers)
        begin = time.perf_counter()
        async with mesh.supervisor:
            formed = time.perf_counter() - begin
            await asyncio.sleep(1.0)
            memory, times = mesh.memory(), []
            for _ in range(kills):
                times.append(await mesh.kill())
                await asyncio.sleep(pause)
        return formed * 1000, memory, times


def rows(quick: bool) -> Iterator[Row]:
    """Measure each way of being born once, in a mesh of 16."""
    for way in ("spare", "zygote", "spawn"):
        _, _, times = asyncio.run(_measure(way, 16, 2 if quick else 5, 0.3))
        yield Row(BIRTHS, f"meshvisor, N = 16, {way}", times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between two kills")
    parser.add_argument("ways", nargs="*", default=["spawn", "zygote", "spare"])
    arguments = parser.parse_args()
    results: dict[str, list[tuple[float, float, list[float]]]] = {way: [] for way in arguments.ways}
    for _ in range(arguments.rounds):
        for way in arguments.ways:
            results[way].append(asyncio.run(_measure(way, arguments.workers, arguments.kills, arguments.pause)))
    print(f"{'':8} {'ready, ms':>10} {'PSS, MB':>8}   kill to on_start, ms: p50, min, max")
    for way, rounds in results.items():
        times = [one for _, _, times in rounds for one in times]
        formed = statistics.median(formed for formed, _, _ in rounds)
        memory = statistics.median(memory for _, memory, _ in rounds)
        spread = f"{statistics.median(times):8.2f} {min(times):8.2f} {max(times):8.2f}" if times else ""
        print(f"{way:8} {formed:10.0f} {memory:8.1f}   {spread}")


if __name__ == "__main__":
    main()
