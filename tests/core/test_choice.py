"""Which endpoints may be dialled now, and when the next one may (DESIGN 5.1; reliability notes 2.5)."""

from meshvisor.shared.core.choice import EndpointChoice, plan
from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.core.penalties import FailureSeverity, Penalties

A, B, C = (Endpoint.parse(f"memory:{name}") for name in "abc")


def choice(*endpoints: Endpoint, max_per_minute: int = 30) -> tuple[EndpointChoice, Penalties]:
    penalties = Penalties(10.0)
    return EndpointChoice(endpoints or (A, B, C), penalties, max_per_minute=max_per_minute), penalties


def test_the_preferred_come_first_and_in_the_order_given_within_one_priority() -> None:
    low, lower = Endpoint.parse("memory:low", priority=2), Endpoint.parse("memory:lower", priority=9)
    chosen, _ = choice(lower, B, low, A)
    assert chosen.candidates(0.0) == [B, A, low, lower]
    assert chosen.candidates(0.0, above=2) == [B, A]
    assert chosen.candidates(0.0, above=0) == []


def test_a_barred_endpoint_is_left_out_until_its_penalty_ends() -> None:
    chosen, penalties = choice()
    penalties.fail("memory:a", 0.0)
    assert chosen.candidates(9.9) == [B, C]
    assert chosen.candidates(10.0) == [A, B, C]
    assert (chosen.barred(9.9), chosen.barred(10.0)) == (1, 0)
    assert [chosen.barred_for(A, now) for now in (0.0, 7.5, 10.0)] == [10.0, 2.5, 0.0]
    assert chosen.barred_for(B, 0.0) == 0.0


def test_more_than_half_and_at_least_two_barred_are_all_tried_the_next_to_be_free_first() -> None:
    """The panic threshold; with one of two barred, or one of one, there is no panic."""
    chosen, penalties = choice()
    penalties.fail("memory:b", 0.0)
    penalties.fail("memory:a", 1.0)
    assert chosen.candidates(2.0) == [C, B, A]
    alone, penalties = choice(A)
    penalties.fail("memory:a", 0.0)
    assert alone.candidates(2.0) == []
    assert alone.wait(2.0) == 8.0
    two, penalties = choice(A, B)
    penalties.fail("memory:a", 0.0)
    assert two.candidates(2.0) == [B]


def test_half_of_them_barred_is_no_panic_however_many_that_are() -> None:
    """DESIGN 5.1: more than half of a peer's endpoints, and at least two."""
    five = [Endpoint.parse(f"memory:{name}") for name in "abcde"]
    for count in (4, 5):
        chosen, penalties = choice(*five[:count])
        for endpoint in five[:2]:
            penalties.fail(endpoint.key, 0.0)
        assert chosen.candidates(1.0) == five[2:count]


def test_a_pause_that_was_asked_for_is_kept_in_a_panic() -> None:
    chosen, penalties = choice(A, B)
    penalties.fail("memory:a", 0.0)
    penalties.bar("memory:b", 60.0, 0.0)
    assert chosen.candidates(1.0) == [A]


def test_an_endpoint_whose_dials_failed_too_often_waits_for_the_minute_to_end() -> None:
    chosen, _ = choice(A, max_per_minute=3)
    tracker = chosen.tracker(A)
    for at in (0.0, 1.0, 2.0):
        tracker.record_attempt(at)
        tracker.record_failure(at, 0.0)
    assert chosen.candidates(10.0) == []
    assert chosen.wait(10.0) == 50.0
    assert chosen.candidates(60.0) == [A]
    assert chosen.wait(60.0) == 0.0


def test_the_wait_is_that_of_the_first_to_be_free() -> None:
    chosen, penalties = choice(A, B)
    penalties.bar("memory:a", 30.0, 0.0)
    penalties.bar("memory:b", 20.0, 0.0)
    assert chosen.wait(5.0) == 15.0


def test_the_first_of_the_next_priority_waits_longer_however_far_the_number() -> None:
    """The step counts, not the number: priority 100 does not wait a hundred times as long."""
    far = Endpoint.parse("memory:far", priority=100)
    scheme = plan([A, B, far], delay=0.2, group_delay=0.15, max_concurrent=3)
    assert scheme.start(0.0) == [0]
    assert scheme.deadline() == 0.2
    assert scheme.start(0.2) == [1]
    assert scheme.deadline() == 0.55


def test_a_fatal_penalty_is_kept_in_a_panic_and_waited_for() -> None:
    chosen, penalties = choice(A, B)
    penalties.fail("memory:a", 0.0, FailureSeverity.FATAL)
    penalties.fail("memory:b", 0.0)
    assert chosen.candidates(1.0) == [B]
    penalties.bar("memory:b", 4.0, 1.0)
    assert chosen.candidates(2.0) == []
    # In a panic it is the pause that is waited for, not the rest of the penalty.
    assert chosen.wait(2.0) == 3.0
    assert chosen.candidates(5.0) == [B]
