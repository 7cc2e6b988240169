"""Happy Eyeballs as a table of moments: who is tried when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshvisor.shared.core.dialplan import DialPlan


def test_he1_attempts_begin_in_order_each_when_the_one_before_has_taken_the_delay() -> None:
    plan = DialPlan(3, delay=0.25, max_concurrent=3)
    assert plan.start(10.0) == [0]
    assert plan.deadline() == 10.25
    assert plan.start(10.125) == []
    assert plan.start(10.25) == [1]
    assert plan.deadline() == 10.5
    assert plan.start(10.5) == [2]
    assert plan.deadline() is None
    assert plan.start(99.0) == []


def test_he1_he2_the_next_attempt_begins_at_once_when_one_fails() -> None:
    plan = DialPlan(3, delay=0.25, max_concurrent=3)
    plan.start(10.0)
    plan.failed(0, 10.125)
    deadline = plan.deadline()
    assert deadline is not None
    assert deadline <= 10.125
    assert plan.start(10.125) == [1]
    assert plan.deadline() == 10.375


def test_he3_an_attempt_that_fails_late_lets_the_next_begin_while_another_one_runs() -> None:
    plan = DialPlan(3, delay=0.25, max_concurrent=3)
    plan.start(10.0)
    plan.start(10.25)
    plan.failed(0, 10.375)
    assert plan.start(10.375) == [2]
    assert not plan.is_exhausted


def test_two_failures_at_once_begin_one_attempt_after_which_the_delay_counts_again() -> None:
    plan = DialPlan(4, delay=0.25, max_concurrent=4)
    plan.start(10.0)
    plan.start(10.25)
    plan.failed(0, 10.375)
    plan.failed(1, 10.375)
    assert plan.start(10.375) == [2]
    assert plan.deadline() == 10.625


def test_never_more_than_the_maximum_run_at_a_time() -> None:
    plan = DialPlan(3, delay=0.25, max_concurrent=2)
    assert plan.start(10.0) + plan.start(10.25) == [0, 1]
    assert plan.deadline() is None
    assert plan.start(99.0) == []
    plan.failed(1, 99.0)
    assert plan.start(99.0) == [2]


def test_one_at_a_time_waits_for_each_failure() -> None:
    plan = DialPlan(2, delay=0.25, max_concurrent=1)
    assert plan.start(10.0) == [0]
    assert plan.start(10.25) == []
    plan.failed(0, 12.0)
    assert plan.start(12.0) == [1]


def test_without_a_delay_as_many_begin_as_may_run() -> None:
    assert DialPlan(5, delay=0.0, max_concurrent=3).start(10.0) == [0, 1, 2]


def test_a_plan_is_exhausted_when_every_candidate_was_tried_and_failed() -> None:
    plan = DialPlan(2, delay=0.25, max_concurrent=2)
    seen = []
    for candidate, now in ((0, 10.0), (1, 11.0)):
        seen.append(plan.is_exhausted)
        plan.start(now)
        plan.failed(candidate, now)
    assert [*seen, plan.is_exhausted] == [False, False, True]
    assert plan.deadline() is None


def test_a_plan_without_candidates_is_exhausted_from_the_start() -> None:
    plan = DialPlan(0, delay=0.25, max_concurrent=2)
    assert plan.is_exhausted
    assert plan.start(10.0) == []
    assert plan.deadline() is None


@pytest.mark.parametrize("candidate", [0, 1, 7])
def test_a_failure_that_is_told_twice_or_of_nobody_begins_nothing_beyond_the_maximum(candidate: int) -> None:
    plan = DialPlan(3, delay=0.25, max_concurrent=1)
    plan.start(10.0)
    plan.failed(0, 10.0)
    plan.start(10.0)
    plan.failed(candidate if candidate != 1 else 0, 10.0)
    assert plan.start(10.0) == []


@given(st.integers(0, 6), st.integers(1, 4), st.lists(st.tuples(st.floats(0, 0.5), st.booleans()), max_size=30))
def test_whatever_fails_when_all_are_tried_once_in_order_under_the_maximum(
    count: int, most: int, steps: list[tuple[float, bool]]
) -> None:
    plan = DialPlan(count, delay=0.25, max_concurrent=most)
    now, begun, running = 10.0, list[int](), list[int]()
    for gap, fails in [*steps, *[(1.0, True)] * (2 * count)]:
        now += gap
        new = plan.start(now)
        assert plan.start(now) == []  # asked twice, nothing more begins
        begun += new
        running += new
        assert len(running) <= most
        if fails and running:
            plan.failed(running.pop(0), now)
    assert begun == list(range(count))
    assert plan.is_exhausted == (not running)
