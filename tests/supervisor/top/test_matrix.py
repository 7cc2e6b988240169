"""What is told of a link is as the pair of its ends has it, and whether that is in doubt."""

import pytest
from tests.supervisor.top.mesh import DOWN, full, link, node

from meshvisor.shared.control.links import LinkStatus
from meshvisor.supervisor.links import Condition
from meshvisor.supervisor.snapshot import Answer, MeshLinks, NodeLinks, WorkerState
from meshvisor.supervisor.top.matrix import Cell, Matrix, matrix_of


def matrix(*nodes: NodeLinks) -> Matrix:
    return matrix_of(MeshLinks("demo", 9, 1.0, nodes))


@pytest.mark.parametrize(
    ("end", "other", "is_doubted"),
    [
        (link("b"), node("b", link("a")), False),
        (link("b", phi=3.0), node("b", link("a")), True),
        (link("b"), node("b", link("a", phi=3.0)), True),
        (link("b"), node("b", answer=Answer.SILENT), True),
        (link("b"), node("b", link("a"), state=WorkerState.SUSPECT), True),
        (link("b", DOWN, phi=3.0), node("b", link("a")), False),
    ],
)
def test_a_link_is_doubted_while_it_is_up_and_an_end_is_late_or_silent(
    end: LinkStatus, other: NodeLinks, is_doubted: bool
) -> None:
    cell = matrix(node("a", end), other).cells[0][1]
    assert cell is not None
    assert (cell.is_doubted, cell.condition is Condition.UP) == (is_doubted, end.state is not DOWN)


def test_each_link_is_there_twice_and_counted_once() -> None:
    found = matrix(
        node("a", link("b", srtt=None), link("c", srtt=None)),
        node("b", link("a", srtt=0.002), link("c", DOWN)),
        node("c", link("a", srtt=None)),
        node("d", state=WorkerState.STOPPED, answer=Answer.ABSENT),
    )
    assert found.cells[0][:3] == (None, Cell(Condition.UP, 0.002), Cell(Condition.UP, None))
    assert found.cells[1][0] is found.cells[0][1]
    summary = found.summary
    assert (summary.wanted, summary.up, summary.doubted, summary.rtts) == (3, 2, 0, (0.002,))


def test_workers_stand_for_all_their_slots_and_the_worst_link_counts() -> None:
    nodes = [*full("a-0", "a-1", "b"), node("c")]
    found = matrix(*nodes).by_worker
    up, down = Cell(Condition.UP, 0.0004), Cell(Condition.UNKNOWN)
    assert found.names == ("a", "b", "c")
    assert found.cells == ((up, up, down), (up, None, down), (down, down, None))
