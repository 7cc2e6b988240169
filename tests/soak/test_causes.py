"""Faults and incidents that do not belong together are found."""

from collections import Counter

from tests.soak.causes import Causes
from tests.soak.ledger import Faults
from tests.soak.plan import Kind

from meshvisor.supervisor.snapshot import ExitCause

LIFE = ("a", 1)


def causes() -> Causes:
    return Causes(Faults(), Counter())


def killed(found: Causes, cause: ExitCause = ExitCause.SIGNALED) -> list[str]:
    """Return what is wrong once an incident of ``LIFE`` was told."""
    found.incident(LIFE, cause, None, "SIGKILL", 10.5)
    found.settle()
    return found.faults.texts


def test_a_fault_and_its_incident_explain_each_other_and_the_time_between_them_is_told() -> None:
    told: list[tuple[Kind, float]] = []
    found = Causes(Faults(), Counter(), lambda kind, seconds: told.append((kind, seconds)))
    found.hit(LIFE, Kind.KILL, 10.0)
    assert found.waiting() == ["a (incarnation 1): SIGKILL of a worker"]
    assert killed(found) == []
    assert told == [(Kind.KILL, 0.5)]
    assert found.explained == {ExitCause.SIGNALED: 1}


def test_an_incident_without_a_fault_is_one() -> None:
    assert killed(causes()) == ["8: nothing was done to a (incarnation 1), and it ended: signaled"]


def test_an_incident_with_another_cause_is_a_fault() -> None:
    found = causes()
    found.hit(LIFE, Kind.STOP, 10.0)
    assert killed(found, ExitCause.HUNG) == ["8: a (incarnation 1) ended: hung, after SIGSTOP of a worker"]


def test_after_two_faults_in_one_life_either_explains_its_end() -> None:
    found = causes()
    found.hit(LIFE, Kind.SLEEP, 10.0)
    found.hit(LIFE, Kind.KILL, 10.1)
    assert killed(found, ExitCause.HUNG) == []


def test_a_fault_without_an_incident_is_a_fault_unless_the_life_was_ending_anyway() -> None:
    found = causes()
    found.hit(LIFE, Kind.SPIN, 10.0)
    found.hit(("b", 2), Kind.KILL, 10.0, is_doubtful=True)
    found.settle()
    assert found.faults.texts == ["8: no incident explains what was done to a (incarnation 1): " + Kind.SPIN]
    assert found.waiting() == []


def test_what_the_operator_replaces_may_end_as_planned_and_others_may_not() -> None:
    found = causes()
    found.hit(("node-1", 1), Kind.KILL, 10.0)
    found.hit(("store-1", 1), Kind.KILL, 10.0)
    found.doubt({"node"})
    assert found.waiting() == ["store-1 (incarnation 1): SIGKILL of a worker"]


def test_one_life_has_one_incident() -> None:
    found = causes()
    found.hit(LIFE, Kind.KILL, 10.0)
    found.incident(LIFE, ExitCause.SIGNALED, None, "SIGKILL", 10.1)
    assert killed(found) == ["11: a (incarnation 1) ended twice"]


def test_a_start_for_which_means_are_missing_is_an_incident_of_its_own_while_they_are() -> None:
    found = causes()
    found.is_scarce = True
    found.incident(LIFE, ExitCause.EXITED, None, None, 10.0)
    assert found.faults.texts == []
    found.is_scarce = False
    found.incident(LIFE, ExitCause.EXITED, None, None, 10.0)
    assert len(found.faults.texts) == 1


def test_of_a_supervisor_that_is_gone_no_incident_is_expected() -> None:
    found = causes()
    found.hit(LIFE, Kind.KILL, 10.0)
    found.drop()
    found.settle()
    assert found.faults.texts == []
