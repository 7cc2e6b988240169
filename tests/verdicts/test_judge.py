"""Incidents are read as the verdicts they stand for."""

from typing import Any

import pytest
from tests.verdicts.judge import Tally, Trial, Verdict, verdict_of


@pytest.mark.parametrize(
    ("incident", "verdict"),
    [
        ({"cause": "hung", "text": "hung, blocked: no turn of the loop for 112 ms"}, Verdict.BLOCKED),
        ({"cause": "hung", "text": "hung, running: computing for 1.0 s"}, Verdict.RUNNING),
        ({"cause": "hung", "text": None}, Verdict.BLOCKED),
        ({"cause": "frozen", "text": ""}, Verdict.FROZEN),
        ({"cause": "signaled", "text": "running"}, Verdict.OTHER),
    ],
)
def test_an_incident_stands_for_a_verdict(incident: dict[str, Any], verdict: Verdict) -> None:
    assert verdict_of(incident) is verdict


def test_only_the_expected_verdict_is_right() -> None:
    tally = Tally([Verdict.BLOCKED, Verdict.RUNNING, Verdict.NONE])
    assert [tally.right(trial) for trial in Trial] == [1, 1, 1, 0, 1]
