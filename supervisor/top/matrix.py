"""The links of a mesh as a matrix of cells. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from ..links import Condition, Pair, Pairs, worse
from ..snapshot import Answer, MeshLinks, NodeLinks, WorkerState

DOUBTFUL = 1.0
"""The phi from which on a link is doubted: of silences as long as that, one in ten is harmless."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One link. ``rtt`` is in seconds; ``is_doubted``: it is up, but an end is late, or suspicious of the other."""

    condition: Condition
    rtt: float | None = None
    is_doubted: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """The links that are wanted, how many are up, and in doubt; ``rtts`` are the shortest first.

    ``conditions`` are those that occur.
    """

    wanted: int
    up: int
    doubted: int
    rtts: tuple[float, ...]
    conditions: frozenset[Condition]


@dataclass(frozen=True, eq=False)
class Matrix:
    """``cells[i][j]`` is the link of the nodes ``names[i]`` and ``names[j]``; None on the diagonal.

    ``workers`` are whose slots these are. What it is altogether is found out once, and looked at each second.
    """

    names: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    cells: tuple[tuple[Cell | None, ...], ...] = ()

    def each(self) -> list[tuple[str, str, Cell]]:
        """Return each link once, with the names of its ends."""
        found = []
        for (i, one), (j, other) in combinations(enumerate(self.names), 2):
            if (cell := self.cells[i][j]) is not None:
                found.append((one, other, cell))
        return found

    @cached_property
    def summary(self) -> Summary:
        """Return how many there are in which way."""
        cells = [cell for _, _, cell in self.each() if cell.condition is not Condition.NONE]
        up = [cell for cell in cells if cell.condition is Condition.UP]
        rtts = sorted(cell.rtt for cell in up if cell.rtt is not None)
        conditions = frozenset(cell.condition for _, _, cell in self.each())
        return Summary(len(cells), len(up), sum(cell.is_doubted for cell in up), tuple(rtts), conditions)

    @cached_property
    def by_worker(self) -> Matrix:
        """The worst link of all between two workers; those within one are on the diagonal."""
        groups = dict(zip(self.names, self.workers, strict=True))
        worst: dict[tuple[str, str], Cell] = {}
        for one, other, cell in self.each():
            for key in {(groups[one], groups[other]), (groups[other], groups[one])}:
                worst[key] = _worse(worst[key], cell) if key in worst else cell
        names = tuple(dict.fromkeys(self.workers))
        return Matrix(names, names, tuple(tuple(worst.get((one, other)) for other in names) for one in names))


def matrix_of(links: MeshLinks) -> Matrix:
    """Return the matrix of all nodes, in their order."""
    pairs, nodes = Pairs(links), links.nodes
    rows: list[list[Cell | None]] = [[None] * len(nodes) for _ in nodes]
    for (i, one), (j, other) in combinations(enumerate(nodes), 2):
        pair = pairs[one.name, other.name]
        rows[i][j] = rows[j][i] = Cell(pair.condition, pair.rtt, _is_doubted(pair, one, other))
    names, workers = tuple(node.name for node in nodes), tuple(node.worker for node in nodes)
    return Matrix(names, workers, tuple(map(tuple, rows)))


def _worse(one: Cell, other: Cell) -> Cell:
    rtt = max((cell.rtt for cell in (one, other) if cell.rtt is not None), default=None)
    return Cell(worse(one.condition, other.condition), rtt, one.is_doubted or other.is_doubted)


def _is_doubted(pair: Pair, one: NodeLinks, other: NodeLinks) -> bool:
    """Return whether a link that is up may not be: the board's word on both ends, and that of the ends that ping."""
    if pair.condition is not Condition.UP:
        return False
    is_late = WorkerState.SUSPECT in (one.state, other.state) or Answer.SILENT in (one.answer, other.answer)
    return is_late or any(end is not None and end.phi >= DOUBTFUL for end in pair.ends)
