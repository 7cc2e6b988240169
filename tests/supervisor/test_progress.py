"""What is told of the slots that a change concerns."""

from meshvisor.shared.control.requests import Step
from meshvisor.supervisor.event import Event
from meshvisor.supervisor.progress import Progress
from meshvisor.supervisor.snapshot import WorkerState, WorkerStatus


def event(name: str, slot: str, incarnation: int = 2) -> Event:
    return Event(1.0, name, slot, incarnation)


def status(name: str, state: WorkerState = WorkerState.READY) -> WorkerStatus:
    return WorkerStatus(name, state, 1, 3, 0, 1.0, True, 0.0, 0, 0, 0, None)


def test_each_step_is_told_with_its_own_time() -> None:
    told: list[Step] = []
    progress = Progress({"a", "b"}.__contains__, told.append, 1.0)
    for now, name, slot in [
        (1.0, "slot-stopping", "a"),
        (1.5, "slot-exited", "a"),
        (1.5, "slot-starting", "a"),
        (2.0, "slot-ready", "a"),
        (2.0, "slot-stopping", "b"),
        (2.25, "slot-stopped", "b"),
    ]:
        progress.heard(event(name, slot), now)
    assert told == [Step("a", "ready", 2, 1.0), Step("b", "stopped", 2, 0.25)]
    assert progress.steps([]) == tuple(told)


def test_what_happens_to_others_is_not_told() -> None:
    told: list[Step] = []
    progress = Progress({"a"}.__contains__, told.append, 1.0)
    progress.heard(event("slot-ready", "b"), 1.0)
    progress.heard(event("mesh-ready", "", 0), 1.0)
    assert (told, progress.steps([])) == ([], ())


def test_a_slot_that_goes_back_is_not_told_as_one_that_has_been_changed() -> None:
    told: list[Step] = []
    progress = Progress({"a"}.__contains__, told.append, 1.0)
    progress.heard(event("slot-stopping", "a", 1), 1.0)
    progress.heard(Event(1.0, "slot-exited", "a", 2, {"trial": True}), 1.5)
    progress.heard(event("slot-ready", "a", 3), 2.0)
    progress.heard(event("slot-ready", "a", 4), 3.0)
    assert told == [Step("a", "ready", 3, 1.0, is_back=True), Step("a", "ready", 4, 2.0)]


def test_what_had_begun_before_counts_from_the_change_on() -> None:
    progress = Progress({"a"}.__contains__, lambda step: None, 1.0)
    progress.heard(event("slot-stopped", "a"), 3.0)
    assert progress.steps([]) == (Step("a", "stopped", 2, 2.0),)


def test_a_slot_with_nothing_to_do_is_as_it_was() -> None:
    progress = Progress({"a", "b"}.__contains__, lambda step: None, 1.0)
    progress.heard(event("slot-ready", "a"), 1.0)
    steps = progress.steps([status("a"), status("b", WorkerState.STOPPED)])
    assert steps == (Step("a", "ready", 2, 0.0), Step("b", "stopped", 3, None))


def test_what_befalls_a_slot_on_its_way_is_no_step_and_does_not_begin_one() -> None:
    told: list[Step] = []
    progress = Progress({"a"}.__contains__, told.append, 1.0)
    progress.heard(event("slot-suspect", "a"), 1.25)
    progress.heard(event("slot-stopping", "a"), 2.0)
    progress.heard(event("slot-exited", "a"), 2.5)
    assert told == []
    progress.heard(event("slot-stopped", "a"), 3.0)
    assert told == [Step("a", "stopped", 2, 1.0)]


def test_only_the_latest_step_of_a_slot_counts_in_the_end() -> None:
    progress = Progress({"a"}.__contains__, lambda step: None, 1.0)
    progress.heard(event("slot-ready", "a", 2), 1.0)
    progress.heard(event("slot-starting", "a", 3), 4.0)
    progress.heard(event("slot-ready", "a", 3), 4.5)
    assert progress.steps([]) == (Step("a", "ready", 3, 0.5),)
