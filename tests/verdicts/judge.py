"""What verdict an incident stands for, and which one each trial is to end in. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What a supervisor can say of a process (DESIGN, section 5.3)."""

    BLOCKED = "hung, blocked"
    RUNNING = "hung, running"
    FROZEN = "frozen"
    NONE = "none"
    OTHER = "something else"


class Trial(StrEnum):
    """What is done to a worker, or to the machine."""

    SLEEP = "sleep in a callback"
    DEADLOCK = "deadlock on a lock"
    SPIN = "endless loop"
    STOP = "SIGSTOP"
    OVERLOAD = "overloaded machine"


EXPECTED: Mapping[Trial, Verdict] = {
    Trial.SLEEP: Verdict.BLOCKED,
    Trial.DEADLOCK: Verdict.BLOCKED,
    Trial.SPIN: Verdict.RUNNING,
    Trial.STOP: Verdict.FROZEN,
    Trial.OVERLOAD: Verdict.NONE,
}
_COMPUTES = re.compile(r"running|comput|busy")


def verdict_of(incident: Mapping[str, Any]) -> Verdict:
    """Return the verdict behind ``cause`` and ``text`` of an incident."""
    if incident["cause"] == "frozen":
        return Verdict.FROZEN
    if incident["cause"] == "hung":
        return Verdict.RUNNING if _COMPUTES.search(incident.get("text") or "") else Verdict.BLOCKED
    return Verdict.OTHER


@dataclass(slots=True)
class Tally:
    """The verdicts of one kind of trial; ``times`` are milliseconds to the first word about it."""

    verdicts: list[Verdict] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def right(self, trial: Trial) -> int:
        """Return how many verdicts are the expected one."""
        return self.verdicts.count(EXPECTED[trial])
