"""The back-off: ceilings that double up to the cap, and a wait drawn from all of what is below."""

import random

from hypothesis import given
from hypothesis import strategies as st

from meshvisor.shared.core.retry import Backoff


class Constant:
    """Dice that always fall on the same side."""

    def __init__(self, value: float) -> None:
        self._value = value

    def random(self) -> float:
        return self._value


def test_the_ceilings_double_up_to_the_cap() -> None:
    backoff = Backoff(initial=0.5, cap=5.0)
    assert [backoff.next(Constant(0.5)) for _ in range(6)] == [0.25, 0.5, 1.0, 2.0, 2.5, 2.5]
    assert backoff.tries == 6


def test_the_jitter_is_full_so_that_a_wait_may_be_nothing() -> None:
    backoff = Backoff(initial=1.0, cap=8.0)
    assert [backoff.next(Constant(0.0)) for _ in range(5)] == [0.0] * 5


def test_a_reset_begins_again_with_the_shortest_wait() -> None:
    backoff = Backoff(initial=1.0, cap=8.0)
    for _ in range(5):
        backoff.next(Constant(0.5))
    backoff.reset()
    assert backoff.tries == 0
    assert backoff.next(Constant(0.5)) == 0.5


def test_thousands_of_tries_do_not_overflow() -> None:
    backoff = Backoff(initial=0.1, cap=30.0)
    waits = [backoff.next(Constant(0.5)) for _ in range(5000)]
    assert waits[-1] == 15.0


@given(st.integers(min_value=0, max_value=2**32))
def test_every_wait_is_from_zero_to_its_ceiling(seed: int) -> None:
    rng = random.Random(seed)
    backoff = Backoff(initial=0.5, cap=5.0)
    for ceiling in (0.5, 1.0, 2.0, 4.0, 5.0, 5.0):
        assert 0.0 <= backoff.next(rng) < ceiling
