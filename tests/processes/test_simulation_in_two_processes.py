"""The trace of a simulated run depends on its seed alone: not on the process, hashes, addresses or the time of day."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def traces(salt: str) -> list[str]:
    """Return the traces of a few seeds in a process of its own, whose hashes are salted with ``salt``."""
    path = os.pathsep.join([str(ROOT / ".src"), str(ROOT)])
    code = "from tests.simulation.run import run; print(*(run(seed).trace for seed in (5, 17, 23)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_a_seed_means_one_run_in_every_process() -> None:
    first = traces("1")
    assert len(set(first)) == 3
    assert traces("2") == first
