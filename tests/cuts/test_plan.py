"""Cuts are drawn from the seed alone, all kinds of them, and in places where there is still something to cut."""

from collections import Counter

from tests.cuts.plan import Kind, draw

HALF_OPEN = {Kind.HALF_OPEN_UP, Kind.HALF_OPEN_DOWN, Kind.HALF_OPEN_BOTH}


def test_the_same_seed_draws_the_same_cuts_and_another_seed_others() -> None:
    assert draw(7, 20, 10_000_000) == draw(7, 20, 10_000_000)
    assert draw(7, 20, 10_000_000) != draw(8, 20, 10_000_000)


def test_of_twenty_cuts_each_kind_has_its_part() -> None:
    kinds = Counter(cut.kind for cut in draw(1, 20, 10_000_000))

    assert kinds == {
        Kind.RESET: 7,
        Kind.CLOSE: 7,
        Kind.HALF_OPEN_UP: 2,
        Kind.HALF_OPEN_DOWN: 2,
        Kind.HALF_OPEN_BOTH: 2,
    }


def test_cuts_come_in_the_order_of_their_places_and_before_the_end() -> None:
    places = [cut.at for cut in draw(3, 200, 10_000_000)]

    assert places == sorted(places)
    assert places[0] >= 100_000
    assert places[-1] < 9_000_000


def test_a_half_open_connection_is_half_open_on_both_channels() -> None:
    cuts = draw(5, 60, 10_000_000)

    assert all(cut.whole for cut in cuts if cut.kind in HALF_OPEN)
    assert {cut.whole for cut in cuts if cut.kind not in HALF_OPEN} == {True, False}
