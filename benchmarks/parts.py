"""The parts of a run, in the order in which they are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from . import (
    births,
    blacklist_storm,
    calls,
    fanout,
    growth,
    liveness,
    operator,
    shared_memory,
    stall,
)
from .link import contest as links
from .recovery import contest as recovery
from .table import Row

Part = Callable[[bool], Iterator[Row]]
"""Measures, briefly if it is told so, and yields rows; several of one name and discipline become one."""

PARTS: dict[str, Part] = {
    "kill": recovery.rows,
    "peers": recovery.others,
    "link": links.rows,
    "calls": calls.rows,
    "stall": stall.rows,
    "memory": shared_memory.rows,
    "liveness": liveness.rows,
    "operator": operator.rows,
    "growth": growth.rows,
    "fanout": fanout.rows,
    "sizes": links.sizes,
    "births": births.rows,
    "storm": blacklist_storm.rows,
}

LONG = ("births", "storm")
"""Parts that are no row of the table, and for which a quick run has no time."""

NEEDS = {"kill": ("peers",)}
"""What a row of a part is compared with is measured by another one."""
