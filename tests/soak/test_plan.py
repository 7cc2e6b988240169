"""What a soak does is drawn from its seed."""

from collections import Counter
from itertools import islice, pairwise

from tests.soak.plan import ENDS, Kind, draw


def test_the_same_seed_draws_the_same_rounds_and_another_others() -> None:
    assert list(islice(draw(7, 4), 20)) == list(islice(draw(7, 4), 20))
    assert list(islice(draw(7, 4), 20)) != list(islice(draw(8, 4), 20))


def test_every_kind_has_its_turn_in_a_few_rounds() -> None:
    kinds = Counter(fault.kind for each in islice(draw(1, 5), 20) for fault in each.faults)
    assert set(kinds) == set(Kind)
    assert kinds[Kind.KILL] > kinds[Kind.DISK]


def test_the_first_supervisor_lives_as_long_as_asked_and_the_others_for_two_to_four_rounds() -> None:
    ends = [number for number, each in enumerate(islice(draw(3, 10), 60), 1) if each.faults[-1].kind in ENDS]
    assert ends[0] == 10
    assert {later - earlier for earlier, later in pairwise(ends)} == {2, 3, 4}


def test_the_supervisor_ends_with_a_round_never_within_one() -> None:
    for each in islice(draw(3, 2), 60):
        assert not any(fault.kind in ENDS for fault in each.faults[:-1])
