"""A link is as well as the end that finds it worse."""

import pytest
from tests.supervisor.top.mesh import DOWN, UP, full, link, node

from meshvisor.shared.control.links import LinkStatus
from meshvisor.shared.core.states import ConnectionState as State
from meshvisor.supervisor.snapshot import Answer
from meshvisor.supervisor.top.matrix import Cell, Health, folded, matrix_of


def health(one: LinkStatus | None, other: LinkStatus | None, answer: Answer = Answer.FRESH) -> Health:
    ends = [() if end is None else (end,) for end in (one, other)]
    matrix = matrix_of([node("a", *ends[0]), node("b", *ends[1], answer=answer)])
    cell = matrix.cells[0][1]
    assert cell is not None
    assert cell is matrix.cells[1][0]
    return cell.health


@pytest.mark.parametrize(
    ("one", "other", "answer", "expected"),
    [
        (link("b"), link("a"), Answer.FRESH, Health.UP),
        (link("b", State.SWITCHING), link("a"), Answer.FRESH, Health.UP),
        (link("b", phi=3.0), link("a"), Answer.FRESH, Health.SUSPECT),
        (link("b", State.DEGRADED), link("a"), Answer.FRESH, Health.SUSPECT),
        (link("b", DOWN), link("a"), Answer.FRESH, Health.SUSPECT),
        (link("b"), None, Answer.SILENT, Health.SUSPECT),
        (link("b", State.CONNECTING), link("a", DOWN), Answer.FRESH, Health.COMING),
        (link("b", State.RECONNECTING), None, Answer.FRESH, Health.COMING),
        (link("b", DOWN), link("a", DOWN), Answer.FRESH, Health.DOWN),
        (None, None, Answer.FRESH, Health.DOWN),
        (link("b", DOWN), None, Answer.ABSENT, Health.OVER),
        (link("b", State.CLOSED), None, Answer.FRESH, Health.OVER),
        (link("b", UP), None, Answer.ABSENT, Health.UP),
    ],
)
def test_both_ends_are_taken_together(
    one: LinkStatus | None, other: LinkStatus | None, answer: Answer, expected: Health
) -> None:
    assert health(one, other, answer) is expected


def test_the_round_trip_is_that_of_whichever_end_has_one() -> None:
    matrix = matrix_of(
        [
            node("a", link("b", srtt=None), link("c", srtt=None)),
            node("b", link("a", srtt=0.002)),
            node("c", link("a", srtt=None)),
        ]
    )
    assert matrix.cells[0] == (None, Cell(Health.UP, 0.002), Cell(Health.UP, None))
    assert matrix.rtts() == [0.002]
    assert (matrix.count(Health.UP), matrix.count(Health.DOWN, Health.OVER), len(matrix.pairs())) == (2, 1, 3)


def test_workers_stand_for_all_their_slots_and_the_worst_link_counts() -> None:
    nodes = [*full("a-0", "a-1", "b"), node("c")]
    matrix = folded(matrix_of(nodes), {one.name: one.worker for one in nodes})
    up, down = Cell(Health.UP, 0.0004), Cell(Health.DOWN)
    assert matrix.names == ("a", "b", "c")
    assert matrix.cells == ((up, up, down), (up, None, down), (down, down, None))
