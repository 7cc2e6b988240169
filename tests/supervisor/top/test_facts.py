"""What is to be seen is made of what is answered now and was answered before."""

import pytest
from tests.supervisor.top.mesh import NOW, full, incident, node, seen, worker

from meshvisor.supervisor.snapshot import Answer, MeshLinks, MeshState, MeshStatus, WorkerState
from meshvisor.supervisor.top.facts import Observer, buckets


def links(at: float, carried: int, incarnation: int = 1, answer: Answer = Answer.FRESH, pid: int = 9) -> MeshLinks:
    return MeshLinks("demo", pid, at, (node("a", carried=carried, incarnation=incarnation, answer=answer),))


def status(pid: int = 9, slot_pid: int | None = 100) -> MeshStatus:
    return MeshStatus("demo", pid, MeshState.RUNNING, 1.0, (worker("a", pid=slot_pid),))


def test_nothing_is_known_before_the_first_answer() -> None:
    facts = Observer("demo").facts(5.0, NOW)
    assert (facts.state, facts.slots, facts.is_gone) == (None, (), False)


@pytest.mark.parametrize(
    ("answers", "rates"),
    [
        ([links(0.0, 0)], (None, None)),
        ([links(0.0, 0), links(2.0, 100)], (100.0, 50.0)),
        ([links(0.0, 100), links(2.0, 0, incarnation=2)], (None, None)),
        ([links(0.0, 100), links(2.0, 50)], (None, None)),
        ([links(0.0, 0), links(0.0, 100)], (None, None)),
        ([links(0.0, 0), links(1.0, 100), links(2.0, 100)], (0.0, 0.0)),
        ([links(0.0, 0), links(1.0, 100, pid=10)], (None, None)),
        ([links(0.0, 0), links(1.0, 100), links(1.001, 101)], (200.0, 100.0)),
        ([links(0.0, 0), links(1.0, 100), links(1.001, 101), links(2.0, 150)], (100.0, 50.0)),
        ([links(0.0, 0, answer=Answer.SILENT), links(1.0, 100)], (None, None)),
        ([links(0.0, 0), links(1.0, 0, answer=Answer.SILENT), links(2.0, 100)], (100.0, 50.0)),
        ([links(0.0, 0), links(1.0, 0, answer=Answer.SILENT)], (None, None)),
    ],
)
def test_rates_are_between_two_answers_of_one_life(
    answers: list[MeshLinks], rates: tuple[float | None, float | None]
) -> None:
    observer = Observer("demo")
    for answer in answers:
        observer.links(answer)
    observer.status(status(), 2.0)
    (slot,) = observer.facts(2.0, NOW).slots
    assert (slot.received, slot.sent) == rates
    observer.status(status(slot_pid=None), 2.0)
    (slot,) = observer.facts(2.0, NOW).slots
    assert (slot.received, slot.sent) == (None, None)


def test_another_supervisor_is_another_mesh() -> None:
    observer = Observer("demo")
    observer.status(status(), 1.0)
    observer.links(links(1.0, 0))
    observer.gone()
    assert observer.facts(4.0, NOW).is_gone
    assert observer.facts(4.0, NOW).silent_for == 3.0
    observer.status(status(pid=10), 5.0)
    facts = observer.facts(5.0, NOW)
    assert (facts.is_gone, facts.pid, facts.nodes) == (False, 10, ())


def test_incidents_are_the_latest_first_and_those_of_a_slot_are_its_own() -> None:
    past = tuple(incident("b" if number % 2 else "a", 400.0 - number) for number in range(300))
    facts, _ = seen(worker("a"), worker("b"), nodes=full("a", "b"), incidents=past)
    assert [one.at for one in facts.incidents[:2]] == [NOW - 101.0, NOW - 102.0]
    assert len(facts.incidents) == 200
    assert [len(slot.incidents) for slot in facts.slots] == [100, 100]
    assert facts.slot("b") is facts.slots[1]
    assert facts.slot("c") is None


def test_a_slot_that_waits_says_how_long() -> None:
    waiting = worker("a", WorkerState.BACKOFF, None)
    parked = worker("b", WorkerState.PARKED, None, next_try=7.0)
    past = (incident("a", 2.0, next_try=NOW + 3.0), incident("b", 2.0, next_try=NOW + 3.0))
    facts, _ = seen(waiting, parked, worker("c"), incidents=past)
    assert [slot.waits for slot in facts.slots] == [3.0, 7.0, None]


def test_moments_are_counted_in_equal_parts_of_the_past() -> None:
    assert buckets([NOW, NOW - 9.9, NOW - 10.0, NOW - 39.9, NOW - 40.0, NOW + 1.0], NOW, 4, 40.0) == [1, 0, 1, 2]
