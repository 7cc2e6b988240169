"""The retry budget: Finagle's rules (reliability.md §2.3), and what a full turn of its window leaves."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshvisor.shared.core.retry import RetryBudget


def test_a_new_budget_holds_its_reserve() -> None:
    assert RetryBudget().balance(0.0) == 100.0
    assert RetryBudget(ttl=5.0, min_per_second=0.5, ratio=0.0).balance(0.0) == 2.5


def test_the_reserve_is_spent_once_and_is_whole_again_after_ttl() -> None:
    budget = RetryBudget(ttl=10.0, min_per_second=0.5, ratio=0.0)
    assert [budget.try_withdraw(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert not budget.try_withdraw(9.9)
    assert budget.balance(10.0) == 5.0


def test_deposits_add_up_to_tokens_by_fractions() -> None:
    budget = RetryBudget(min_per_second=0.0, ratio=0.25)
    granted = []
    for _ in range(8):
        budget.deposit(0.0)
        granted.append(budget.try_withdraw(0.0))
    assert granted == [False, False, False, True] * 2


@given(st.floats(min_value=0.0, max_value=1000.0))
def test_the_share_of_retries_is_the_ratio_whatever_it_is(ratio: float) -> None:
    budget = RetryBudget(min_per_second=0.0, ratio=ratio)
    granted = 0
    for _ in range(200):
        budget.deposit(0.0)
        granted += budget.try_withdraw(0.0)
    assert abs(granted - min(1.0, ratio) * 200) <= 1.0


@pytest.mark.parametrize("ratio", [0.001, 0.1, 0.2, 0.3, 1 / 3, 0.35, 0.7, 0.9, 0.99, 1.0])
def test_of_ten_thousand_tries_the_ratio_is_granted_to_one(ratio: float) -> None:
    budget = RetryBudget(min_per_second=0.0, ratio=ratio)
    granted = 0
    for _ in range(10_000):
        budget.deposit(0.0)
        granted += budget.try_withdraw(0.0)
    assert abs(granted - ratio * 10_000) <= 1.0


def test_a_ratio_of_nothing_with_no_minimum_is_empty() -> None:
    budget = RetryBudget(min_per_second=0.0, ratio=0.0)
    budget.deposit(0.0)
    assert not budget.try_withdraw(0.0)
    assert budget.balance(0.0) == 0.0


def test_a_deposit_expires_after_ttl() -> None:
    budget = RetryBudget(ttl=3.0, min_per_second=0.0, ratio=1.0)
    budget.deposit(100.0)
    budget.deposit(101.0)
    assert budget.balance(102.999) == 2.0
    assert budget.balance(103.0) == 1.0
    assert budget.balance(104.0) == 0.0
    assert not budget.try_withdraw(104.0)


def test_a_retry_that_was_paid_by_expired_deposits_still_counts() -> None:
    budget = RetryBudget(ttl=10.0, min_per_second=0.0, ratio=1.0)
    budget.deposit(0.0)
    assert budget.try_withdraw(9.0)
    assert budget.balance(10.0) == 0.0
    budget.deposit(10.0)
    assert not budget.try_withdraw(10.0)
    assert budget.try_withdraw(19.0)


def test_events_within_a_hundredth_of_ttl_are_forgotten_together() -> None:
    budget = RetryBudget(ttl=10.0, min_per_second=0.0, ratio=1.0)
    for now in (0.0, 0.0625, 0.125):
        budget.deposit(now)
    assert budget.balance(9.9375) == 3.0
    assert budget.balance(10.0) == 1.0
    assert budget.balance(10.125) == 0.0


@given(st.lists(st.tuples(st.floats(min_value=0.0, max_value=3.0), st.booleans()), max_size=100))
def test_no_window_ever_holds_more_retries_than_reserve_and_share(events: list[tuple[float, bool]]) -> None:
    budget = RetryBudget(ttl=10.0, min_per_second=0.2, ratio=0.5)
    tries: list[float] = []
    retries: list[float] = []
    now = 0.0
    for gap, is_retry in events:
        now += gap
        if not is_retry:
            budget.deposit(now)
            tries.append(now)
        elif budget.try_withdraw(now):
            retries.append(now)
            # A hundredth of ttl is what may be forgotten early; one microsecond is for the sums of floats.
            remembered = sum(at > now - 9.9 + 1e-6 for at in retries)
            assert remembered <= 2.0 + 0.5 * sum(at > now - 10.0 - 1e-6 for at in tries)


def test_a_flood_leaves_the_memory_bounded() -> None:
    budget = RetryBudget(ttl=1.0, min_per_second=0.0, ratio=1.0)
    for event in range(50_000):
        budget.deposit(event / 5000)
    assert len(budget._slots) <= 101
    assert 4950 <= budget.balance(10.0) <= 5000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ttl", 0.999),
        ("ttl", 60.001),
        ("ttl", math.nan),
        ("min_per_second", -0.1),
        ("min_per_second", math.inf),
        ("ratio", -0.1),
        ("ratio", 1000.1),
        ("ratio", math.nan),
    ],
)
def test_arguments_out_of_bounds_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        RetryBudget(**{name: value})
