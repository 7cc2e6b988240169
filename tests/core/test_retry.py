"""Waits between tries: exponential, fully jittered, capped."""

from random import Random

import pytest

from meshvisor.shared.core.retry import Backoff


class Loaded:
    """Dice that always show ``value``."""

    def __init__(self, value: float) -> None:
        self._value = value

    def random(self) -> float:
        return self._value


def test_the_ceiling_doubles_from_the_initial_wait_up_to_the_cap() -> None:
    backoff = Backoff(0.5, 5.0)
    assert [backoff.next(Loaded(0.5)) for _ in range(6)] == [0.25, 0.5, 1.0, 2.0, 2.5, 2.5]
    assert backoff.tries == 6


@pytest.mark.parametrize(("die", "wait"), [(0.0, 0.0), (0.25, 0.125), (0.75, 0.375)])
def test_a_wait_is_drawn_from_all_of_the_interval(die: float, wait: float) -> None:
    assert Backoff(0.5, 5.0).next(Loaded(die)) == wait


def test_one_seed_gives_one_series() -> None:
    one, other = Backoff(0.1, 1.0), Backoff(0.1, 1.0)
    dice, same = Random(7), Random(7)
    assert [one.next(dice) for _ in range(20)] == [other.next(same) for _ in range(20)]


def test_a_cap_below_the_initial_wait_holds_from_the_start() -> None:
    assert Backoff(2.0, 0.5).next(Loaded(0.5)) == 0.25


def test_thousands_of_tries_neither_overflow_nor_pass_the_cap() -> None:
    backoff = Backoff(0.001, 2.0)
    assert {backoff.next(Loaded(0.5)) for _ in range(5000)} >= {1.0}
    assert backoff.next(Loaded(0.5)) == 1.0


def test_a_success_begins_again_with_the_shortest_wait() -> None:
    backoff = Backoff(0.5, 5.0)
    for _ in range(5):
        backoff.next(Loaded(0.5))
    backoff.reset()
    assert backoff.next(Loaded(0.5)) == 0.25
