"""The links of a mesh as a matrix: what each node knows of each other, both ends taken together. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations

from ...shared.control.links import LinkStatus
from ...shared.core.states import ConnectionState
from ..snapshot import Answer, NodeLinks

SUSPICIOUS = 1.0
"""From this phi on a link is shown as suspect: about one silence of this length in ten is harmless."""

_UP = frozenset({ConnectionState.ESTABLISHED, ConnectionState.SWITCHING})
_COMING = frozenset({ConnectionState.CONNECTING, ConnectionState.HANDSHAKE, ConnectionState.RECONNECTING})


class Health(Enum):
    """How a link is, from what is no trouble to what is."""

    OVER = "over"  # one of the two is not running, and nobody dials
    UP = "up"
    SUSPECT = "suspect"  # it is there, and silent or slow
    COMING = "coming"  # somebody dials
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Cell:
    """One link. ``rtt`` is in seconds, as the end that measured it has it."""

    health: Health
    rtt: float | None = None


@dataclass(frozen=True, slots=True)
class Matrix:
    """``cells[i][j]`` is the link of the nodes ``names[i]`` and ``names[j]``; None on the diagonal."""

    names: tuple[str, ...]
    cells: tuple[tuple[Cell | None, ...], ...]

    def count(self, *healths: Health) -> int:
        """Return how many links are in one of these ways."""
        return sum(cell.health in healths for _, _, cell in self.pairs())

    def pairs(self) -> list[tuple[str, str, Cell]]:
        """Return each link once, with the names of its ends."""
        found = []
        for (i, one), (j, other) in combinations(enumerate(self.names), 2):
            if (cell := self.cells[i][j]) is not None:
                found.append((one, other, cell))
        return found

    def rtts(self) -> list[float]:
        """Return the round trips that are known, the shortest first."""
        return sorted(cell.rtt for _, _, cell in self.pairs() if cell.rtt is not None)


def matrix_of(nodes: Sequence[NodeLinks]) -> Matrix:
    """Return the matrix of ``nodes``, in their order."""
    ends = {node.name: {link.peer: link for link in node.links} for node in nodes}
    rows: list[list[Cell | None]] = [[None] * len(nodes) for _ in nodes]
    for (i, one), (j, other) in combinations(enumerate(nodes), 2):
        both = (ends[one.name].get(other.name), ends[other.name].get(one.name))
        found = [end for end in both if end is not None]
        rtt = min((end.srtt for end in found if end.srtt is not None), default=None)
        rows[i][j] = rows[j][i] = Cell(_health(one, other, found), rtt)
    return Matrix(tuple(node.name for node in nodes), tuple(map(tuple, rows)))


def folded(matrix: Matrix, groups: Mapping[str, str]) -> Matrix:
    """Return the matrix of the groups that ``groups`` has for each name: the worst link of all between two of them.

    The links within a group are on the diagonal.
    """
    worst: dict[tuple[str, str], Cell] = {}
    for one, other, cell in matrix.pairs():
        for key in {(groups[one], groups[other]), (groups[other], groups[one])}:
            worst[key] = cell if key not in worst else _worse(worst[key], cell)
    names = tuple(dict.fromkeys(groups[name] for name in matrix.names))
    return Matrix(names, tuple(tuple(worst.get((one, other)) for other in names) for one in names))


def _worse(one: Cell, other: Cell) -> Cell:
    order = list(Health)
    if one.health is not other.health:
        return max(one, other, key=lambda cell: order.index(cell.health))
    return max(one, other, key=lambda cell: cell.rtt or 0.0)


def _health(one: NodeLinks, other: NodeLinks, ends: Sequence[LinkStatus]) -> Health:
    """Return how a link is; it is as well as the end that finds it worse, of those that can say anything."""
    states = {end.state for end in ends}
    if Answer.ABSENT in (one.answer, other.answer) and not states & _UP:
        return Health.OVER
    if not states:
        return Health.DOWN
    if states <= _UP:
        is_doubted = Answer.SILENT in (one.answer, other.answer) or any(end.phi >= SUSPICIOUS for end in ends)
        return Health.SUSPECT if is_doubted else Health.UP
    if ConnectionState.DEGRADED in states or states & _UP:
        return Health.SUSPECT
    if states & _COMING:
        return Health.COMING
    return Health.OVER if states == {ConnectionState.CLOSED} else Health.DOWN
