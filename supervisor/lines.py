"""``supervise logs``: finds the logs that are asked for and shows them, a batch of lines at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

import msgspec

from ..shared.errors import SupervisorError
from .cells import clean
from .client import Client
from .labels import Labels
from .logbook import Logbook, Selection, slots_with_logs
from .naming import UnknownSlot
from .remains import remains_of
from .style import DIM, YELLOW, Look, paint
from .trail import MISSED, Entry

_BATCH = 1000

Lines = Callable[[Iterable[Entry]], str]
"""What makes a text of entries, one line for each."""


class Source:
    """The logs of the slots that ``names`` mean (none: of all) in the mesh called ``mesh``.

    Raises:
        NotRunning: If there is no file and the mesh does not run.
        ConfigError: If the file is not usable.
        UnknownSlot: If there is, and was, no such slot.
    """

    def __init__(self, base: Path, mesh: str, file: Path | None, names: Sequence[str]) -> None:
        self.log_dir, configured = remains_of(base, mesh, file)
        self.slots = list(dict.fromkeys([*configured, *slots_with_logs(self.log_dir)]))
        try:
            self.selection = Selection(names, self.slots)
        except UnknownSlot:  # to be seen in neither place is a slot that was added, and has printed nothing yet
            self.slots = list(dict.fromkeys([*self.slots, *_running(base, mesh)]))
            self.selection = Selection(names, self.slots)

    def text_of(self, look: Look, *, times: bool) -> Lines:
        """Return what shows entries to a person."""
        return Page(self.slots, self.selection.slots, look, times=times).text

    def read(self, lines: int | None, *, followed_by: int | None = None) -> Iterator[list[Entry]]:
        """Yield batches: of the last so many lines (None: all there are), in the order of time.

        And after these, with ``followed_by``, of what comes, as long as that descriptor has somebody at its other end.
        """
        with closing(Logbook(self.log_dir, self.selection)) as book:
            if lines is None:
                entries = book.all() if followed_by is not None else book.all(time.time())
            else:
                entries = iter(book.latest(lines))
            while batch := list(islice(entries, _BATCH)):
                yield batch
            if followed_by is not None:
                yield from book.follow(followed_by)


def _running(base: Path, mesh: str) -> list[str]:
    with suppress(SupervisorError), Client(base, mesh) as client:
        return [worker.name for worker in client.status().workers]
    return []


class Page:
    """Shows entries behind the names of their slots, coloured as ``run`` colours ``slots``; ``times``: with the time.

    ``shown`` are those whose names decide how wide the names are.
    """

    def __init__(self, slots: Sequence[str], shown: Sequence[str], look: Look, *, times: bool) -> None:
        self._labels = Labels(slots, look, shown)
        self._look = look
        self._times = times

    def text(self, entries: Iterable[Entry]) -> str:
        """Return one line for each entry."""
        return "".join(self._line(entry) + "\n" for entry in entries)

    def _line(self, entry: Entry) -> str:
        text = clean(entry.text, keep_colours=self._look.colour)
        if "\x1b" in text:
            text += "\x1b[0m"
        when = paint(local_time(entry.at), DIM, on=self._look.colour) + " " if self._times else ""
        mark = self._labels.bar
        if entry.stream == MISSED:
            mark, text = self._labels.dot, paint(text, YELLOW, on=self._look.colour)
        return f"{when}{self._labels.of(entry.slot, mark)} {text}".rstrip(" ")


def json_lines(entries: Iterable[Entry]) -> str:
    """Return one JSON object a line for each entry."""
    return "".join(msgspec.json.encode(entry).decode() + "\n" for entry in entries)


def local_time(at: float) -> str:
    """Return a time of the clock on the wall, to the millisecond."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1000):03}"
