"""All targets, by name, in the order in which they are run."""

from __future__ import annotations

from tests.fuzz import calls, control, door, memory, outside, printed, settings, wire
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for room in (wire, door, control, settings, memory, printed, outside, calls)
    for target in room.TARGETS
}
