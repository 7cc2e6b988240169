"""The tally finds what it is there to find; the traffic is what it says it is."""

import pytest
from tests.cuts.traffic import Tally, Traffic, size, total_size


def tally_of(numbers: list[int], messages: int) -> Tally:
    tally = Tally(messages)
    for number in numbers:
        tally.take(number, b"body", b"body")
    return tally


@pytest.mark.parametrize(
    ("arrived", "lost", "doubled", "misordered"),
    [
        ([1, 2, 3, 4], 0, 0, 0),
        ([1, 2, 3], 1, 0, 0),
        ([1, 3, 4], 1, 0, 0),
        ([], 4, 0, 0),
        ([1, 2, 2, 3, 4], 0, 1, 0),
        ([1, 2, 3, 4, 4], 0, 1, 0),
        ([1, 3, 2, 4], 0, 0, 1),
        ([4, 3, 2, 1], 0, 0, 3),
        ([1, 3, 2, 2, 4], 0, 1, 1),
    ],
)
def test_each_fault_of_order_is_counted_as_what_it_is(
    arrived: list[int], lost: int, doubled: int, misordered: int
) -> None:
    tally = tally_of(arrived, 4)

    assert (tally.lost, tally.doubled, tally.misordered, tally.damaged) == (lost, doubled, misordered, 0)
    assert tally.received == len(arrived)


def test_another_body_under_a_number_is_damage_and_the_message_stays_missing() -> None:
    tally = Tally(1)

    tally.take(1, b"another", b"body")

    assert (tally.damaged, tally.lost) == (1, 1)


def test_a_number_beyond_the_last_is_damage() -> None:
    assert tally_of([1, 2], 1).damaged == 1


def test_nothing_new_can_follow_the_last_number() -> None:
    assert not tally_of([1, 2, 3], 4).has_last
    assert tally_of([1, 4], 4).has_last


def test_a_message_begins_with_its_number_and_has_its_length() -> None:
    traffic = Traffic("host")

    for number in (1, 2, 113, 4_999, 9_998):
        body = traffic.body(number)
        assert body[:8] == number.to_bytes(8, "big")
        assert len(body) == size(number)


def test_one_message_in_4999_is_longer_than_64_kib() -> None:
    assert [number for number in range(1, 10_001) if size(number) > 65_536] == [4_999, 9_998]
    assert {size(number) for number in range(1, 4_999)} == set(range(8, 121))


def test_the_sides_say_different_things_under_the_same_number() -> None:
    assert Traffic("host").body(5)[8:] != Traffic("manager").body(5)[8:]
    assert Traffic("host").body(5) == Traffic("host").body(5)


def test_the_total_is_the_sum_of_the_lengths() -> None:
    assert total_size(3) == size(1) + size(2) + size(3) == 17 + 26 + 35
