"""A short storm over the control socket; ``python -m tests.control_storm`` is the long one."""

import pytest
from tests.control_storm.run import Options, run

_BLOCKED = 0.05  # ten times what the long one allows: on a busy virtual machine CPU time is not exact


@pytest.mark.slow
def test_all_are_answered_or_refused_and_supervision_goes_on() -> None:
    outcome = run(Options(slots=10, requests=400, kills=4, garbage=1000, raw=100, half_open=100, seed=7))
    assert outcome.faults == []
    assert outcome.answers["garbage refused"] == 1000
    assert outcome.answers["done"] + outcome.answers["refused"] == 400
    assert max(outcome.turns.values()) < _BLOCKED
