"""``supervise run`` and its mesh under fire: a small part of what the commands named below do at length."""

from pathlib import Path

import pytest
from tests.kills import run as kills
from tests.orphans import run as orphans
from tests.outside.mesh import refused
from tests.verdicts import run as verdicts


@pytest.mark.slow
def test_no_slot_is_doubled_or_forgotten_under_random_kills_and_the_limit_is_exact() -> None:
    """The whole: ``python -m tests.kills --kills 500 --strategy all``."""
    outcome = kills.run(kills.Options(kills=12, seed=7))

    assert outcome.faults == []
    assert outcome.restarts == outcome.kills >= 12


@pytest.mark.slow
def test_nothing_outlives_a_supervisor_that_is_killed_at_any_moment() -> None:
    """The whole: ``python -m tests.orphans --times 100``."""
    outcome = orphans.run(times=4, seed=7, targets=(orphans.Target.SUPERVISOR,))

    assert outcome.faults == []
    assert {moment for moment, _ in outcome.hits} == set(orphans.Moment)


@pytest.mark.slow
def test_the_busy_are_left_alone_and_the_guilty_are_told_apart(tmp_path: Path) -> None:
    """The whole: ``python -m tests.verdicts --minutes 10``."""
    options = verdicts.Options(minutes=0.05, hang_timeout=0.2, trials=5)
    if refused(tmp_path, {"mesh": {"name": "x"}, "workers.a": {"class": "a:B", "hang_timeout": options.hang_timeout}}):
        pytest.skip("hang_timeout is not supported yet")

    outcome = verdicts.run(options)

    assert (outcome.false, outcome.faults, outcome.right) == ([], [], 5)
