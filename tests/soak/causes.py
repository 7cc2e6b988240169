"""Every fault is explained by an incident, and every incident by a fault. Pure.

What was done to one life of a slot is known by its name and incarnation; an incident names the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from meshvisor.supervisor.snapshot import ExitCause

from .ledger import Faults
from .plan import Kind

Life = tuple[str, int]

EXPECTED: dict[Kind, frozenset[ExitCause]] = {
    Kind.KILL: frozenset({ExitCause.SIGNALED}),
    Kind.SEGV: frozenset({ExitCause.SIGNALED}),
    Kind.RAISE: frozenset({ExitCause.EXITED}),
    Kind.EXIT: frozenset({ExitCause.EXITED}),
    Kind.STOP: frozenset({ExitCause.FROZEN}),
    Kind.SLEEP: frozenset({ExitCause.HUNG}),
    Kind.DEADLOCK: frozenset({ExitCause.HUNG}),
    Kind.SPIN: frozenset({ExitCause.HUNG}),
    Kind.GROW: frozenset({ExitCause.MEMORY}),
    Kind.SWELL: frozenset({ExitCause.MEMORY}),
    Kind.COMMAND: frozenset({ExitCause.SIGNALED}),
    Kind.SICK: frozenset({ExitCause.HUNG}),
}
"""What the incident after a fault may say; after several in one life, what any of them may."""


@dataclass(slots=True)
class _Hit:
    """What was done to one life, and when (Unix seconds). ``is_doubtful``: it may have been ending anyway."""

    at: float
    kinds: list[Kind]
    is_doubtful: bool

    @property
    def causes(self) -> frozenset[ExitCause]:
        return frozenset[ExitCause]().union(*(EXPECTED[kind] for kind in self.kinds))


@dataclass(slots=True)
class Causes:
    """Matches the two. ``detected`` is called with the first kind and the seconds until the incident.

    ``is_scarce``: processes cannot be started now, and that is an incident, too. ``is_unrecorded``: there is no room
    for incidents now, and what is not written down is no fault.
    """

    faults: Faults
    checks: Counter[int]
    detected: Callable[[Kind, float], None] = lambda kind, seconds: None
    explained: Counter[ExitCause] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    is_scarce: bool = False
    is_unrecorded: bool = False
    _hits: dict[Life, _Hit] = field(default_factory=dict)
    _over: dict[Life, None] = field(default_factory=dict)

    def hit(self, life: Life, kind: Kind, at: float, *, is_doubtful: bool = False) -> None:
        """Expect the incident of a fault. ``is_doubtful``: it need not come, the life was about to end as planned."""
        is_doubtful = is_doubtful or self.is_unrecorded
        if life in self._hits:
            self._hits[life].kinds.append(kind)
            self._hits[life].is_doubtful |= is_doubtful
        else:
            self._hits[life] = _Hit(at, [kind], is_doubtful)

    def is_hit(self, life: Life) -> bool:
        """Return whether something was done to this life already."""
        return life in self._hits or life in self._over

    def doubt(self, groups: Collection[str] | None = None) -> None:
        """Expect no incident of these workers (None: of any) for certain: they are being replaced, or nobody writes."""
        for (slot, _), hit in self._hits.items():
            hit.is_doubtful |= groups is None or slot.partition("-")[0] in groups

    def drop(self) -> None:
        """Forget all: the supervisor is gone, and what it had no time to write down is no fault."""
        self.excused["the supervisor ended first"] += len(self._hits)
        self._hits.clear()
        self._over.clear()

    def incident(self, life: Life, cause: ExitCause, code: int | None, signal: str | None, at: float) -> None:
        """Take an incident in."""
        self.checks[8] += 1
        slot, incarnation = life
        if cause is ExitCause.EXITED and code is None and signal is None and self.is_scarce:
            self.excused["not started, for want of means"] += 1
            return
        if life in self._over:
            self.faults.add(f"11: {slot} (incarnation {incarnation}) ended twice")
            return
        self._over[life] = None
        hit = self._hits.pop(life, None)
        if hit is None:
            self.faults.add(f"8: nothing was done to {slot} (incarnation {incarnation}), and it ended: {cause}")
        elif cause not in hit.causes:
            what = ", ".join(hit.kinds)
            self.faults.add(f"8: {slot} (incarnation {incarnation}) ended: {cause}, after {what}")
        else:
            self.explained[cause] += 1
            self.detected(hit.kinds[0], at - hit.at)

    def is_waiting(self, life: Life) -> bool:
        """Return whether this life must still end."""
        return life in self._hits

    def waiting(self) -> list[str]:
        """Return whom an incident must still come of."""
        return [
            f"{slot} (incarnation {incarnation}): {', '.join(hit.kinds)}"
            for (slot, incarnation), hit in self._hits.items()
            if not hit.is_doubtful
        ]

    def settle(self) -> None:
        """Judge the faults that no incident has explained, and forget them."""
        for text in self.waiting():
            self.faults.add(f"8: no incident explains what was done to {text}")
        for hit in self._hits.values():
            if hit.is_doubtful:
                self.excused["ended as planned, or not written down"] += 1
        self._hits.clear()
        self._over.clear()
