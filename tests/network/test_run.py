"""Faults are drawn from the seed alone; and the command says what they have come to."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.network.faults import ACTS, bounds
from tests.network.namespace import missing
from tests.network.plan import Fault, Kind, draw
from tests.network.report import table
from tests.network.run import Figures, Outcome

ROOT = Path(__file__).resolve().parents[2]


def test_the_same_seed_draws_the_same_faults_and_another_seed_others() -> None:
    def drawn(seed: int) -> list[Fault]:
        rng = random.Random(seed)
        return [draw(rng) for _ in range(50)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert {fault.kind for fault in drawn(1)} == set(Kind)


def test_each_kind_of_fault_can_be_begun_and_healed() -> None:
    assert set(ACTS) == set(Kind)


def test_the_survivor_of_a_vanished_machine_must_find_it_out_and_the_deaf_side_first() -> None:
    assert bounds(Fault(Kind.VANISHED, "host", 0.5), 0.5) == {"manager": 1.5}
    assert bounds(Fault(Kind.DEAF, "host", 0.5), 0.5) == {"host": 1.5, "manager": 3.0}
    assert bounds(Fault(Kind.LOSS, "host", 0.5), 0.5) == {}


def test_a_run_in_which_something_was_wrong_says_so() -> None:
    outcome = Outcome(7, wrong="message 3 came twice")
    outcome.figures[Kind.OUTAGE] = Figures(2, {"manager": [0.5, 0.6], "host": [0.7]}, [0.02])

    lines = table(outcome).splitlines()

    assert " ".join(lines[1].split()) == "nothing arrives, both ways 2 600 / 600 700 / 700 20 / 20"
    assert lines[-1] == "wrong: message 3 came twice"


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_the_command_says_in_a_table_what_it_found_and_exits_with_0() -> None:
    command = [sys.executable, "-m", "tests.network", "--seconds", "1", "--seed", "3"]

    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=50)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Every message arrived exactly once, in order.\n")
