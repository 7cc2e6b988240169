"""The links of a mesh as pairs of nodes: what both ends say of one link, taken together. Pure: facts in, facts out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import msgspec
from msgspec.structs import asdict

from ..shared.control.links import LinkStatus, LinkTotals, named
from ..shared.core.states import ConnectionState
from .figures import MeshFigures
from .snapshot import Answer, MeshLinks, NodeLinks, WorkerState


class Condition(StrEnum):
    """How the link of two workers is, the better before the worse."""

    NONE = "none"  # one of them is stopped, failed or parked: there is to be no link
    UP = "up"
    MENDING = "mending"  # it has lost its connection, or fallen silent; nothing is lost while another is looked for
    COMING = "coming"  # one of them dials the other
    MISSING = "missing"  # one of them has no process that listens, and is to have one again
    UNKNOWN = "unknown"  # neither of them answers


_SEVERITY = {condition: rank for rank, condition in enumerate(Condition)}
_OVER = frozenset({WorkerState.STOPPED, WorkerState.FAILED, WorkerState.PARKED})
_OF_STATE = {
    ConnectionState.ESTABLISHED: Condition.UP,
    ConnectionState.SWITCHING: Condition.UP,
    ConnectionState.DEGRADED: Condition.MENDING,
    ConnectionState.RECONNECTING: Condition.MENDING,
    ConnectionState.CONNECTING: Condition.COMING,
    ConnectionState.HANDSHAKE: Condition.COMING,
}


@dataclass(frozen=True, slots=True)
class Pair:
    """One link: of the nodes ``one`` and ``other``, as their ends describe it (None: that end says nothing).

    ``rtt`` is in seconds; None if neither end knows it.
    """

    one: str
    other: str
    condition: Condition
    ends: tuple[LinkStatus | None, LinkStatus | None]

    @property
    def names(self) -> tuple[str, str]:
        """The names of the two."""
        return self.one, self.other

    @property
    def rtt(self) -> float | None:
        """The round trip, as the end says that measures it; None if none does."""
        return max((end.srtt for end in self.ends if end is not None and end.srtt is not None), default=None)

    def sent(self, sender: str) -> int:
        """Return how many messages and frames of calls ``sender`` has sent to the other one, as far as it is known."""
        mine, others = self.ends if sender == self.one else self.ends[::-1]
        if mine is not None:
            return mine.messages_out + mine.calls_out
        return 0 if others is None else others.messages_in + others.calls_in

    @property
    def worst(self) -> LinkStatus | None:
        """The end that sees the most trouble, if any end says anything."""
        told = [end for end in self.ends if end is not None]
        return max(told, key=lambda end: (_SEVERITY[_condition_of(end)], bool(end.failure)), default=None)


class Pairs(Mapping[tuple[str, str], Pair]):
    """All links of a mesh by the names of their nodes, in whichever order those are; iterated, each is there once."""

    def __init__(self, links: MeshLinks) -> None:
        ends = {(node.name, link.peer): link for node in links.nodes for link in node.links}
        self._pairs = {
            (one.name, other.name): Pair(one.name, other.name, _judge(one, other, *both), both)
            for one, other in combinations(links.nodes, 2)
            for both in [(ends.get((one.name, other.name)), ends.get((other.name, one.name)))]
        }

    def __getitem__(self, names: tuple[str, str]) -> Pair:
        return self._pairs[names] if names in self._pairs else self._pairs[names[::-1]]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)


def is_over(node: NodeLinks) -> bool:
    """Return whether nobody expects ``node`` to have links: it is stopped, failed or parked."""
    return node.state in _OVER


def worse(one: Condition, other: Condition) -> Condition:
    """Return the worse of two."""
    return max(one, other, key=_SEVERITY.__getitem__)


def carried(links: MeshLinks) -> LinkTotals:
    """Return what all workers that answered have carried, in their present incarnations."""
    return LinkTotals().plus(*(node.totals for node in links.nodes))


def to_json(facts: MeshLinks | MeshFigures) -> bytes:
    """Return ``facts`` as JSON in which the fields of links have their names, too."""
    nodes = [{**asdict(node), "links": [named(link) for link in node.links]} for node in facts.nodes]
    return msgspec.json.encode({**asdict(facts), "nodes": nodes})


def _judge(one: NodeLinks, other: NodeLinks, first: LinkStatus | None, second: LinkStatus | None) -> Condition:
    if is_over(one) or is_over(other):
        return Condition.NONE
    if Answer.ABSENT in (one.answer, other.answer):
        return Condition.MISSING
    told = [_condition_of(end) for end in (first, second) if end is not None]
    return max(told, key=_SEVERITY.__getitem__, default=Condition.UNKNOWN)


def _condition_of(end: LinkStatus) -> Condition:
    return _OF_STATE.get(end.state, Condition.MISSING)
