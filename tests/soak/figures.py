"""What the processes of the mesh hold: read from /proc, when all is calm."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tests.outside import proc

from .growth import Sample


def sample(supervisor: int, hub: int, hub_tasks: int, runtime: Path) -> Sample:
    """Return the figures of this moment; those of a process that is just ending are left out."""
    sizes: dict[str, float] = {}
    counts: dict[str, float] = {}
    zygotes = proc.zygotes_of(supervisor)
    for name, pid in (("supervisor", supervisor), ("zygote", zygotes[0] if zygotes else 0), ("hub", hub)):
        with suppress(OSError):
            sizes[f"{name}: RSS"] = _rss(pid)
            if name == "supervisor":  # what others share with a forked process falls to it when they die
                sizes[f"{name}: PSS"] = proc.pss(pid)
            counts[f"{name}: descriptors"] = len(os.listdir(f"/proc/{pid}/fd"))
            counts[f"{name}: threads"] = len(os.listdir(f"/proc/{pid}/task"))
    counts["supervisor: children"] = len(proc.children(supervisor))
    counts["hub: tasks"] = hub_tasks
    counts["files in runtime_dir"] = _files(runtime)
    return Sample(sizes, counts)


def _rss(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _files(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))
