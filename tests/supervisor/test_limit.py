"""What an end means under the restart limit: for the mesh, or for its slot alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from meshvisor.shared.config.model import OnLimit, RestartPolicy, SupervisorSection, WorkerConfig
from meshvisor.supervisor.child import Child, Ending, Exit
from meshvisor.supervisor.limit import Judgement, Limit

GO_ON, PARK, GIVE_UP = Judgement.GO_ON, Judgement.PARK, Judgement.GIVE_UP
KILLED = Exit(signal="SIGKILL")


def slot(name: str = "a", **options: Any) -> Any:
    return SimpleNamespace(
        name=name, child=Child(WorkerConfig(name, Path("/"), command=(name,), **options), lambda: 0.0)
    )


def crash(one: Any, now: float, exit: Exit = KILLED) -> Ending:
    """Have a slot become ready and crash at ``now``."""
    child: Child = one.child
    if child.deadline is not None:
        child.tick(child.deadline)
    child.release(now)
    child.become_ready(now)
    return child.end(exit, now)


def judge(limit: Limit, one: Any, now: float, exit: Exit = KILLED, others: tuple[Any, ...] = ()) -> Judgement:
    return limit.judge(one, crash(one, now, exit), (one, *others), now)


def limit(most: int, window: float = 10.0, on_limit: OnLimit = OnLimit.STOP) -> Limit:
    return Limit(SupervisorSection(max_restarts=most, max_restarts_window=window, on_limit=on_limit))


def test_one_more_than_the_limit_gives_the_mesh_up_for_good() -> None:
    """OTP (reliability.md 4.1): when the count exceeds intensity."""
    one, two, rule = slot("a"), slot("b"), limit(2)
    assert [judge(rule, one, 0.0), judge(rule, two, 1.0), judge(rule, one, 10.0)] == [GO_ON, GO_ON, GIVE_UP]
    assert rule.is_exceeded
    assert judge(rule, two, 1000.0) is GIVE_UP


def test_the_edge_of_the_window_belongs_to_it() -> None:
    """OTP (reliability.md 4.1): an incident exactly as old as the window still counts."""
    one, rule = slot(), limit(1, 5.0)
    assert [judge(rule, one, 0.0), judge(rule, one, 5.0)] == [GO_ON, GIVE_UP]
    one, rule = slot(), limit(1, 5.0)
    assert [judge(rule, one, 0.0), judge(rule, one, 5.001)] == [GO_ON, GO_ON]


def test_an_end_that_asks_for_no_restart_counts_for_nothing() -> None:
    """OTP (reliability.md 4.1): it is restarts that are limited."""
    rule = limit(0)
    assert judge(rule, slot(restart=RestartPolicy.ON_FAILURE), 0.0, Exit(code=0)) is GO_ON
    assert judge(rule, slot(restart=RestartPolicy.NEVER), 0.0) is GO_ON
    assert not rule.is_exceeded


def test_a_shortage_counts_for_nothing() -> None:
    one, rule = slot(), limit(0)
    one.child.release(0.0)
    assert rule.judge(one, one.child.end(Exit(failure="no memory", is_shortage=True), 0.0), [one], 0.0) is GO_ON


def test_under_park_each_slot_has_a_limit_of_its_own() -> None:
    one, two, rule = slot("a"), slot("b"), limit(1, on_limit=OnLimit.PARK)
    assert [judge(rule, one, 0.0), judge(rule, two, 0.0), judge(rule, one, 1.0)] == [GO_ON, GO_ON, PARK]
    assert not rule.is_exceeded
    assert judge(rule, two, 20.0) is GO_ON


def test_a_parked_slot_is_parked_again_at_its_first_crash_until_it_has_been_well() -> None:
    one, rule = slot(), limit(1, on_limit=OnLimit.PARK)
    for now in (0.0, 1.0):
        verdict = judge(rule, one, now)
    assert verdict is PARK
    one.child.park(1.0)
    assert judge(rule, one, 31.0) is PARK
    one.child.park(31.0)
    one.child.tick(61.0)
    one.child.release(61.0)
    one.child.become_ready(61.0)
    ending = one.child.end(KILLED, 71.0)  # reset_after has passed
    assert rule.judge(one, ending, [one], 71.0) is GO_ON


def test_a_new_limit_begins_to_count_anew_and_the_same_one_goes_on() -> None:
    one, rule = slot(), limit(1)
    assert judge(rule, one, 0.0) is GO_ON
    rule.configure(SupervisorSection(max_restarts=1, strategy="one_for_all"))  # type: ignore[arg-type]
    assert judge(rule, one, 1.0) is GIVE_UP
    one, rule = slot(), limit(1)
    assert judge(rule, one, 0.0) is GO_ON
    rule.configure(SupervisorSection(max_restarts=2))
    assert [judge(rule, one, now) for now in (1.0, 2.0, 3.0)] == [GO_ON, GO_ON, GIVE_UP]
