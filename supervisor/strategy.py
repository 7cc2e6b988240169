"""What concerns more than one slot: who may start, who restarts with whom, what counts, and when a mesh is over.

The strategies are those of OTP's ``supervisor``, with one difference of place: children of OTP start one after the
other, slots start level by level along ``depends_on`` and in parallel within a level. Their order, for rest_for_one
and for stopping, is that of the levels, then of the file, then of the replicas.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..shared.config.model import RestartPolicy, StrategyName, WorkerConfig
from .child import Child, Ending, State

# States of a process that a strategy takes down with a sibling. One that is condemned ends by itself, as an incident
# of its own; one that waits for its next start, or is parked, keeps its wait.
_TAKEN_DOWN = frozenset({State.STARTING, State.READY})


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a whole mesh: the exit status of ``run``, and why, as a person would say it."""

    status: int
    reason: str


def may_start(worker: WorkerConfig, children: Mapping[str, Collection[Child]]) -> bool:
    """Return whether nothing that ``worker`` depends on is missing; ``children`` are all slots by worker.

    A dependency that is over, well or badly, holds nobody up; a one-shot that ended well counts as ready.
    """
    return all(child.holds_nobody_up for name in worker.depends_on for child in children.get(name, ()))


def concerned(strategy: StrategyName, failed: str, order: Sequence[str]) -> tuple[str, ...]:
    """Return the slots that restart together with the slot ``failed``, itself excluded, in the order of ``order``.

    one_for_one: nobody. one_for_all: all others. rest_for_one: those that come after it.
    """
    if strategy == StrategyName.ONE_FOR_ALL:
        return tuple(name for name in order if name != failed)
    if strategy == StrategyName.REST_FOR_ONE:
        return tuple(order[order.index(failed) + 1 :])
    return ()


def is_taken_down(child: Child) -> bool:
    """Return whether a strategy that restarts this slot with a sibling has to stop it first."""
    return child.state in _TAKEN_DOWN


def comes_back(child: Child) -> bool:
    """Return whether a slot that a strategy stops is started again: always, unless its policy is ``never``.

    OTP forgets a temporary child that it has terminated as a sibling.
    """
    return child.config.restart != RestartPolicy.NEVER


def counts(ending: Ending, children: Iterable[Child], *, is_park: bool = False) -> bool:
    """Return whether an end counts against the restart limit.

    As in OTP it is restarts that are limited, so an end counts when it asks for one that nobody had requested. Failed
    starts of a slot that was never ready count only while no slot is ready: one bad class leaves the rest running, and
    a mesh that is broken altogether ends. Whether it is cannot be said as long as another slot is still in its first
    start; a fast failure beside a slow start would otherwise end a mesh that has one bad class. A limit that only
    parks the slot itself (``is_park``) harms nobody else, and counts all of them.
    """
    if not ending.is_incident:
        return False
    return is_park or ending.ever_ready or not any(_is_hopeful(child) for child in children)


def _is_hopeful(child: Child) -> bool:
    return child.state is State.READY or (child.state is State.STARTING and child.incarnation == 1)


def verdict(slots: Sequence[tuple[WorkerConfig, Child]]) -> Verdict | None:
    """Return the end of the mesh, if it has come by itself.

    Significant slots (OTP's ``auto_shutdown``) end it when all of them have ended well, or one has failed.
    Without that, it ends when every slot has. One that an operator stopped has not ended: it may be started again.
    """
    significant = [child for worker, child in slots if worker.significant]
    if any(child.state is State.FAILED for child in significant):
        return Verdict(1, "a significant worker failed")
    if significant and all(_has_ended(child) and child.state is State.STOPPED for child in significant):
        return Verdict(0, "every significant worker has ended well")
    if all(_has_ended(child) for _, child in slots):
        failed = any(child.state is State.FAILED for _, child in slots)
        return Verdict(1 if failed else 0, "every worker has ended" + (", not all of them well" if failed else ""))
    return None


def _has_ended(child: Child) -> bool:
    return child.is_over and not child.is_held
