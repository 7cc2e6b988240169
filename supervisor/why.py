"""``supervise why``: finds the incident that is asked for, with or without a running supervisor."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..shared.errors import SupervisorError
from .client import Client
from .incidents import Incident, read_incidents
from .naming import slots_named
from .remains import remains_of
from .snapshot import WorkerStatus
from .story import Paper, no_incident, tell

_SHORTLY = 3600.0


@dataclass(frozen=True, slots=True)
class Past:
    """What a mesh remembers, and how its slots are now (nothing, if it does not run)."""

    slots: Sequence[str]
    incidents: Sequence[Incident]
    present: Sequence[WorkerStatus]

    @classmethod
    def of_mesh(cls, base: Path, name: str, file: Path | None) -> Past:
        """Read what the mesh called ``name`` remembers; without its file it must be running.

        Raises:
            NotRunning: If there is no file and the mesh does not run.
            ConfigError: If the file is not usable.
        """
        log_dir, slots = remains_of(base, name, file)
        present: Sequence[WorkerStatus] = ()
        with suppress(SupervisorError), Client(base, name) as client:  # the past can be told without the present
            present = client.status().workers
        return cls(slots, read_incidents(log_dir), present)

    def latest(self, name: str | None) -> Incident | None:
        """Return the latest incident: of any slot, or of the slot or worker that ``name`` means.

        Raises:
            UnknownSlot: If there is, and was, no such slot.
        """
        if name is None:
            return self.incidents[-1] if self.incidents else None
        known = [*self.slots, *(one.name for one in self.present), *(one.slot for one in self.incidents)]
        meant = slots_named(name, list(dict.fromkeys(known)))
        return next((one for one in reversed(self.incidents) if one.slot in meant), None)

    def latest_json(self, name: str | None) -> str:
        """Return the latest incident as JSON; ``null`` if there is none."""
        return msgspec.json.encode(self.latest(name)).decode()

    def story(self, name: str | None, paper: Paper) -> str:
        """Return the latest incident as a story; without a name also what has happened elsewhere."""
        incident = self.latest(name)
        if incident is None:
            present = next((one for one in self.present if one.name == name), None)
            return no_incident(name, present, paper)
        present = next((one for one in self.present if one.name == incident.slot), None)
        others = self._others(incident) if name is None else []
        return tell(incident, time.time(), present, others, paper)

    def _others(self, incident: Incident) -> list[Incident]:
        """Return the latest incident of each other slot that had one shortly before, the latest first."""
        latest = {one.slot: one for one in self.incidents if incident.at - one.at < _SHORTLY}
        latest.pop(incident.slot, None)
        return sorted(latest.values(), key=lambda one: -one.at)


def trace(client: Client, slot: str, *, as_json: bool) -> str:
    """Return where the process in ``slot`` is at this moment, ending with a newline."""
    text = client.traces(slot)
    return json.dumps({"slot": slot, "traces": text}) + "\n" if as_json else text.rstrip("\n") + "\n"
