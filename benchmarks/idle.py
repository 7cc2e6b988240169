"""What a mesh costs that has nothing to do: ``python -m benchmarks.idle [--seconds S] [N ...]``.

``supervise run`` with N workers and no spares, all linked with each other and watched for hangs at 100 ms. Once all
links are up and the mesh has rested, the processor time of its processes is taken over ``--seconds``, and their memory
(proportional set size: what is shared is divided among those that share it).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from tests.outside.mesh import OutsideMesh, Table

_REST = 3.0


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, all of its threads, to the nanosecond."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    return total / 1e9


def pss(pid: int) -> float:
    """Return the proportional set size of a process in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def measure(count: int, seconds: float) -> tuple[float, float, float, float]:
    """Return percent of one core for all workers and for the supervisor, and MB of a worker and of the supervisor."""
    sections: dict[str, Table] = {
        "supervisor": {"spares": 0},
        "workers.node": {"class": "probe:Probe", "replicas": count, "hang_timeout": "100ms", "start_timeout": "60s"},
    }
    with (
        tempfile.TemporaryDirectory(prefix="idle-") as folder,
        OutsideMesh(Path(folder), f"idle-{os.getpid()}", sections) as mesh,
    ):
        mesh.start()
        mesh.until(lambda: mesh.meshed(None, count), 120, "the mesh")
        time.sleep(_REST)
        status = mesh.status()
        assert status is not None
        workers = [worker.pid for worker in status.workers if worker.pid is not None]
        before = [cpu_seconds(pid) for pid in (status.pid, *workers)]
        began = time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        spent = [cpu_seconds(pid) - first for pid, first in zip((status.pid, *workers), before, strict=True)]
        memory = [pss(pid) for pid in (status.pid, *workers)]
        mesh.stop(60)
    return 100 * sum(spent[1:]) / took, 100 * spent[0] / took, sum(memory[1:]) / count, memory[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("counts", metavar="N", type=int, nargs="*", default=[20, 100])
    arguments = parser.parse_args()
    print(f"{'workers':>7} {'links':>6}   {'CPU, % of one core':^24}   {'PSS, MB':^24}")
    print(f"{'':7} {'':6}   {'all workers':>11} {'supervisor':>12}   {'a worker':>11} {'supervisor':>12}")
    for count in arguments.counts:
        workers, supervisor, one, own = measure(count, arguments.seconds)
        links = count * (count - 1) // 2
        print(f"{count:7} {links:6}   {workers:11.2f} {supervisor:12.2f}   {one:11.1f} {own:12.1f}", flush=True)


if __name__ == "__main__":
    main()
