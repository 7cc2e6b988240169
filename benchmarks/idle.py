"""What a mesh costs that has nothing to do: ``python -m benchmarks.idle [--seconds S] [--loop uvloop] [N ...]``.

``supervise run`` with N workers and no spares, all linked with each other and watched for hangs at 100 ms. Once all
links are up and the mesh has rested, the processor time of its processes is taken over ``--seconds``, and their memory
(proportional set size: what is shared is divided among those that share it).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.outside.mesh import OutsideMesh
from tests.outside.proc import pss

from .recovery.ours import running

REST = 3.0
"""Seconds until a mesh that has formed is idle."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Percent of one core for all workers and for the supervisor; MB of a worker and of the supervisor."""

    workers: float
    supervisor: float
    worker_memory: float
    supervisor_memory: float


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, all of its threads, to the nanosecond."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    return total / 1e9


def percent(pids: Sequence[int], seconds: float) -> list[float]:
    """Return how much of one core each process uses over the next ``seconds``."""
    before = [cpu_seconds(pid) for pid in pids]
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return [100 * (cpu_seconds(pid) - first) / took for pid, first in zip(pids, before, strict=True)]


def weigh(mesh: OutsideMesh, seconds: float) -> Idle:
    """Leave a mesh in peace, then measure it for ``seconds``."""
    time.sleep(REST)
    status = mesh.status()
    assert status is not None
    workers = [worker.pid for worker in status.workers if worker.pid is not None]
    own, *theirs = percent([status.pid, *workers], seconds)
    memory = [pss(pid) / 1e6 for pid in (status.pid, *workers)]
    return Idle(sum(theirs), own, sum(memory[1:]) / len(workers), memory[0])


def measure(count: int, seconds: float, loop: str = "asyncio") -> Idle:
    """Run an idle mesh of ``count`` workers and measure it."""
    with running(count, "zygote", loop, hang_timeout="100ms") as mesh:
        return weigh(mesh, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("counts", metavar="N", type=int, nargs="*", default=[20, 100])
    arguments = parser.parse_args()
    print(f"{'workers':>7} {'links':>6}   {'CPU, % of one core':^24}   {'PSS, MB':^24}")
    print(f"{'':7} {'':6}   {'all workers':>11} {'supervisor':>12}   {'a worker':>11} {'supervisor':>12}")
    for count in arguments.counts:
        found = measure(count, arguments.seconds, arguments.loop)
        cpu = f"{found.workers:11.2f} {found.supervisor:12.2f}"
        memory = f"{found.worker_memory:11.1f} {found.supervisor_memory:12.1f}"
        print(f"{count:7} {count * (count - 1) // 2:6}   {cpu}   {memory}", flush=True)


if __name__ == "__main__":
    main()
