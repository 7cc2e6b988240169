"""Most of a minute of ``python -m tests.soak``: all faults there are, and what must hold all the time."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(150)  # on a machine that has much else to do
def test_a_mesh_under_all_faults_there_are_keeps_its_promises() -> None:
    command = [sys.executable, "-m", "tests.soak", "--minutes", "0.6", "--seed", "8"]

    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=140)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.endswith("Nothing was lost, doubled or left behind; every fault is explained by an incident.\n")
