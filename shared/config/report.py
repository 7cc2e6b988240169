"""Collecting the faults of a file, each with its place."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import Fault
from .lines import KeyPath, LineIndex

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_KEY = 80


class Unfit(ValueError):
    """A value that cannot be what its key wants; raised by parsers, turned into a fault by whoever knows the place."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)


class Report:
    """The faults found so far."""

    def __init__(self, lines: LineIndex) -> None:
        self._lines = lines
        self._faults: list[Fault] = []

    def add(self, path: KeyPath, message: str, hint: str | None = None) -> None:
        """Add a fault of the value at ``path``."""
        self._faults.append(Fault(self._lines.line(path), dotted(path), message, hint))

    def line(self, path: KeyPath) -> int:
        """Return the line of ``path``."""
        return self._lines.line(path)

    @property
    def faults(self) -> list[Fault]:
        """All faults, in the order of the file."""
        return sorted(self._faults, key=lambda fault: fault.line)


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file: what a parser needs to know beside the value. ``folder`` is the file's, absolute."""

    report: Report
    folder: Path
    path: KeyPath = ()

    def __truediv__(self, part: str | int) -> Where:
        return Where(self.report, self.folder, (*self.path, part))

    def fault(self, message: str, hint: str | None = None) -> None:
        """Report that what is here is wrong."""
        self.report.add(self.path, message, hint)


def dotted(path: KeyPath) -> str:
    """Return ``path`` as one would write it: ``workers.counter.depends_on[1]``, unusual keys in quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + _written(part)
    return text


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of ``known`` that ``word`` was most likely meant to be, or None."""
    known = list(known)
    folded = {name.casefold().replace("-", "_"): name for name in known}
    if same := folded.get(word.casefold().replace("-", "_")):
        return same
    matches = difflib.get_close_matches(word[:_LONGEST_KEY], known, n=1, cutoff=0.6)
    return matches[0] if matches else None


def _written(key: str) -> str:
    if len(key) > _LONGEST_KEY:
        key = key[:_LONGEST_KEY] + "…"
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=not key.isprintable())
