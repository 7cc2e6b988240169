"""What concerns more than one slot: who may start, what counts against the limit, and when a mesh is over.

The strategy is one_for_one: the end of one child restarts nobody else, so nothing is decided about siblings here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..shared.config.model import WorkerConfig
from .child import Child, Ending, State


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a whole mesh: the exit status of ``run``, and why, as a person would say it."""

    status: int
    reason: str


def may_start(worker: WorkerConfig, children: Mapping[str, Collection[Child]]) -> bool:
    """Return whether nothing that ``worker`` depends on is missing; ``children`` are all slots by worker.

    A dependency that is over, well or badly, holds nobody up; a one-shot that ended well counts as ready.
    """
    return all(child.holds_nobody_up for name in worker.depends_on for child in children[name])


def counts(ending: Ending, children: Iterable[Child]) -> bool:
    """Return whether an end counts against the restart limit.

    As in OTP it is restarts that are limited, so an end counts when it asks for one. Failed starts of a slot that
    was never ready count only while no slot is ready: one bad class leaves the rest running, and a mesh that is
    broken altogether ends. Whether it is cannot be said as long as another slot is still in its first start; a fast
    failure beside a slow start would otherwise end a mesh that has one bad class.
    """
    if ending.delay is None:
        return False
    return ending.ever_ready or not any(_is_hopeful(child) for child in children)


def _is_hopeful(child: Child) -> bool:
    return child.state is State.READY or (child.state is State.STARTING and child.incarnation == 1)


def verdict(slots: Sequence[tuple[WorkerConfig, Child]]) -> Verdict | None:
    """Return the end of the mesh, if it has come by itself.

    Significant slots (OTP's ``auto_shutdown``) end it when all of them have ended well, or one has failed.
    Without that, it ends when every slot has.
    """
    significant = [child for worker, child in slots if worker.significant]
    if any(child.state is State.FAILED for child in significant):
        return Verdict(1, "a significant worker failed")
    if significant and all(child.state is State.STOPPED for child in significant):
        return Verdict(0, "every significant worker has ended well")
    if all(child.is_over for _, child in slots):
        failed = any(child.state is State.FAILED for _, child in slots)
        return Verdict(1 if failed else 0, "every worker has ended" + (", not all of them well" if failed else ""))
    return None
