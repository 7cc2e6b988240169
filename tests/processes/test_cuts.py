"""Two processes, and a connection between them that is cut again and again: a tenth of ``python -m tests.cuts``."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from tests.cuts.run import Options, run

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_100000_messages_each_way_survive_20_cuts_exactly_once_and_in_order(transport: Literal["unix", "tcp"]) -> None:
    outcome = asyncio.run(run(Options(messages=100_000, cuts=20, transport=transport, seed=20)))

    assert outcome.faults == []
    assert sum(outcome.made.values()) == 20


@pytest.mark.slow
def test_the_command_says_in_a_table_what_it_found_and_exits_with_0() -> None:
    command = [sys.executable, "-m", "tests.cuts", "--messages", "5000", "--cuts", "3", "--transport", "tcp"]

    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=50)

    assert (done.returncode, done.stderr) == (0, "")
    assert "cuts                              3 of 3\n" in done.stdout
    assert done.stdout.endswith("Every message arrived exactly once, in order.\n")


@pytest.mark.slow
def test_a_run_with_more_cuts_than_there_is_traffic_for_fails_and_says_so() -> None:
    command = [sys.executable, "-m", "tests.cuts", "--messages", "300", "--cuts", "50"]

    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=50)

    assert done.returncode == 1
    assert "of 50 cuts were made" in done.stdout
