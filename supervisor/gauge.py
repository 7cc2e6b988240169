"""Measures a mesh when somebody asks: it reads what is kept anyway, and costs nothing else."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Iterable
from importlib.metadata import version

import msgspec

from . import procfs
from .figures import MeshFigures, Tally
from .hub import Hub
from .lookout import Lookout
from .slot import Slot
from .survey import Survey
from .tables import Tables

_AT_ONCE = 10  # slots that are looked at before others get the loop


class Gauge:
    """Measures the mesh ``name`` of ``slots``. Its counters begin when it is made."""

    def __init__(self, name: str, slots: Iterable[Slot], hub: Hub, survey: Survey) -> None:
        self._name = name
        self._slots = slots
        self._hub = hub
        self._survey = survey
        self._tally = Tally()
        hub.events.add(self._tally.heard)

    async def read(self, tables: Tables, lookout: Lookout, uptime: float, *, each: bool) -> MeshFigures:
        """Return all figures; with those of ``each`` link, or with what each worker's links carry together."""
        nodes = await self._survey.links(each=each)
        if not each:  # others may just have asked for more
            nodes = tuple(msgspec.structs.replace(node, links=()) for node in nodes)
        slots = []
        for number, slot in enumerate(list(self._slots), 1):
            slots.append(slot.figures())
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        own, cost = procfs.usage(os.getpid()), resource.getrusage(resource.RUSAGE_SELF)
        return MeshFigures(
            mesh=self._name,
            release=version("meshvisor"),
            uptime=uptime,
            cpu=cost.ru_utime + cost.ru_stime,
            rss=own[1] if own else 0,
            lag=lookout.take_lag(),
            events_dropped=self._hub.dropped,
            incidents=dict(self._tally.incidents),
            slots=tuple(slots),
            nodes=nodes,
            blacklist=tables.figures(),
        )
