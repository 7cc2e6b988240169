"""What a wire does to packets, in literal times; and from one seed always the same."""

import random

import pytest
from tests.network.way import BLACK_HOLE, Conditions, Way


def way(conditions: Conditions | None = None) -> Way:
    made = Way()
    if conditions is not None:
        made.conditions = conditions
    return made


def test_on_a_perfect_wire_a_packet_arrives_at_once_and_once() -> None:
    assert way().carry(1000, 5.0, random.Random(1)) == [5.0]


def test_in_a_black_hole_nothing_arrives() -> None:
    rng = random.Random(1)
    assert [way(BLACK_HOLE).carry(1000, 5.0, rng) for _ in range(100)] == [[]] * 100


def test_a_third_of_the_packets_is_lost_where_one_says_so() -> None:
    rng, leaky = random.Random(1), way(Conditions(loss=0.3))
    lost = sum(not leaky.carry(1000, 5.0, rng) for _ in range(10_000))
    assert lost == pytest.approx(3000, abs=150)


def test_some_packets_arrive_twice_where_one_says_so() -> None:
    rng, doubling = random.Random(1), way(Conditions(duplication=0.2))
    counts = [len(doubling.carry(1000, 5.0, rng)) for _ in range(10_000)]
    assert set(counts) == {1, 2}
    assert counts.count(2) == pytest.approx(2000, abs=150)


def test_each_packet_takes_the_delay_and_a_part_of_the_jitter() -> None:
    rng, long = random.Random(1), way(Conditions(delay=0.5, jitter=0.25))
    arrivals = [at for _ in range(1000) for at in long.carry(1000, 5.0, rng)]
    assert 5.5 <= min(arrivals) < 5.51
    assert 5.74 < max(arrivals) <= 5.75


def test_a_narrow_way_takes_one_packet_after_the_other() -> None:
    narrow, rng = way(Conditions(bandwidth=1000)), random.Random(1)
    assert [narrow.carry(500, 5.0, rng) for _ in range(3)] == [[5.5], [6.0], [6.5]]
    assert narrow.carry(250, 10.0, rng) == [10.25]


def test_a_queue_that_is_full_lets_newcomers_drop_and_has_room_again_later() -> None:
    narrow, rng = way(Conditions(bandwidth=1000, queue=1000)), random.Random(1)
    assert [narrow.carry(500, 5.0, rng) for _ in range(3)] == [[5.5], [6.0], []]
    assert narrow.carry(500, 5.5, rng) == [6.5]


def test_the_same_seed_has_the_same_fate_for_each_packet() -> None:
    unruly = Conditions(loss=0.3, duplication=0.3, delay=0.1, jitter=0.1)

    def fates(seed: int) -> list[list[float]]:
        rng, made = random.Random(seed), way(unruly)
        return [made.carry(1000, float(step), rng) for step in range(100)]

    assert fates(1) == fates(1)
    assert fates(1) != fates(2)
