"""Writers of shared memory are killed and stopped at random, and nobody else notices; see ``tests.memory_storm``."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_writers_that_are_killed_or_stopped_at_any_instruction_disturb_nobody() -> None:
    storm = [sys.executable, "-m", "tests.memory_storm", "--kills", "150", "--stops", "15", "--seed", "1"]
    done = subprocess.run(storm, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
