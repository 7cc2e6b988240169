"""What may never be seen from outside, however many processes are killed. Reports in, faults out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.outside.mesh import Report
from tests.outside.proc import Identity


@dataclass(slots=True)
class Watch:
    """Reads all reports of a mesh and collects what is wrong in ``faults``.

    A slot begins its lives in order, each after the process of the one before is gone; and whoever is linked to a slot
    hears of its lives in order, of the end of one before the begin of the next. ``identify`` returns the living process
    of a pid.
    """

    identify: Callable[[int], Identity | None]
    faults: list[str] = field(default_factory=list)
    _lives: dict[str, tuple[int, Identity | None]] = field(default_factory=dict)
    _links: dict[tuple[str, int, str], int] = field(default_factory=dict)
    _newest: dict[tuple[str, int, str], int] = field(default_factory=dict)

    def take(self, report: Report) -> None:
        """Take a report in; those of one process come in its order."""
        if report.kind == "start":
            self._started(report)
        elif report.kind == "up":
            self._linked(report)
        elif report.kind == "down":
            self._unlinked(report)
        elif report.kind == "back":
            self._fault(report, f"saw incarnation {report.peer_incarnation} of {report.peer} after a newer one")

    def forget(self, slot: str) -> None:
        """A slot was taken away: one that has its name later is another one, and begins with its first life."""
        self._lives.pop(slot, None)
        for table in (self._links, self._newest):
            for link in [link for link in table if slot in (link[0], link[2])]:
                del table[link]

    def _started(self, report: Report) -> None:
        incarnation, process = self._lives.get(report.slot, (0, None))
        if report.incarnation <= incarnation:
            self._fault(report, f"started after incarnation {incarnation}")
        if process is not None and process.is_alive:
            self._fault(report, f"started while process {process.pid} of incarnation {incarnation} was alive")
        self._lives[report.slot] = report.incarnation, self.identify(report.pid)

    def _linked(self, report: Report) -> None:
        link = report.slot, report.incarnation, report.peer
        if link in self._links:
            self._fault(report, f"linked to {_peer(report)} and to incarnation {self._links[link]} at once")
        elif report.peer_incarnation <= self._newest.get(link, 0):
            self._fault(report, f"linked to {_peer(report)} after incarnation {self._newest[link]}")
        self._links[link] = self._newest[link] = report.peer_incarnation

    def _unlinked(self, report: Report) -> None:
        if self._links.pop((report.slot, report.incarnation, report.peer), 0) != report.peer_incarnation:
            self._fault(report, f"heard of the end of {_peer(report)}, to which it was not linked")

    def _fault(self, report: Report, text: str) -> None:
        self.faults.append(f"{report.slot} (incarnation {report.incarnation}) {text}")


def _peer(report: Report) -> str:
    return f"incarnation {report.peer_incarnation} of {report.peer}"
