"""What is written line by line to files that are rotated, read again meanwhile: the log of a slot, the incidents.

A place in them is a file (held open, so that its inode stays its own whatever it is called by now) and an offset. At a
file's end the next one is found by where that file is: the one after ``PATH.N`` is ``PATH.(N-1)``, and the last of all
is ``PATH``. A file that was emptied in place (``keep = 0``) is begun again.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import count, islice
from pathlib import Path

import msgspec

from ..shared.control.requests import Moment
from ..shared.core.malformed import MALFORMED
from ..shared.errors import SupervisorError

_PIECE = 65_536
_MISSED = "lines may be missing here: their file was rotated away before it could be read"
_LONGEST_LINE = 1024 * 1024  # much more than a log of ours has
_TRIES = 100  # that a file may be renamed between two looks


MISSED = "missed"
"""The stream of an entry that stands for lines which may have been gone before they could be read."""


class Entry(msgspec.Struct, frozen=True):
    """One line that a slot printed. ``at`` is in Unix seconds; ``incarnation`` is known from logs in JSON only."""

    at: float
    slot: str
    incarnation: int | None
    stream: str
    text: str


class _Line(msgspec.Struct):
    at: Moment
    stream: str
    text: str
    incarnation: int | None = None


_lines = msgspec.json.Decoder(_Line)


def parse(slot: str, line: bytes, before: float = 0.0) -> Entry:
    """Return what a line of a log of either format says; what is neither came ``before``, as far as anybody knows."""
    if line.startswith(b"{"):
        with suppress(*MALFORMED):
            found = _lines.decode(line)
            return Entry(found.at, slot, found.incarnation, found.stream, found.text)
    text = line.decode(errors="replace")
    moment, _, rest = text.partition(" ")
    stream, _, said = rest.partition(" ")
    if stream in ("stdout", "stderr"):
        with suppress(ValueError, OverflowError):
            return Entry(datetime.fromisoformat(moment).timestamp(), slot, None, stream, said)
    return Entry(before, slot, None, "stdout", text)


class Trail:
    """See the module. It begins before the oldest line that is kept, or where ``tail`` leaves it.

    Raises:
        SupervisorError: From whatever reads, if there is a file that we may not read.
    """

    def __init__(self, path: Path) -> None:
        self.has_missed = False  # perhaps: where it was has been rotated away, and so may be what came next
        self._path = path
        self._file = -1
        self._offset = 0
        self._rest = b""

    def close(self) -> None:
        """Close what is open; the next reading begins anew."""
        if self._file >= 0:
            os.close(self._file)
        self._file, self._offset, self._rest = -1, 0, b""

    def lines(self) -> Iterator[bytes]:
        """Yield what there is behind the present place, in order, and stay behind it; empty lines are left out."""
        while (data := self._read()) is not None:
            *complete, self._rest = (self._rest + data).split(b"\n")
            if len(self._rest) > _LONGEST_LINE or not data:  # no data: the file is over, and so is its last line
                complete.append(self._rest)
                self._rest = b""
            yield from filter(None, complete)

    def tail(self, lines: int) -> list[bytes]:
        """Return the last so many lines, in order, and go on behind them."""
        self.close()
        newest = self._open(self._path)
        if newest < 0:
            return []
        self._file, self._offset = newest, os.fstat(newest).st_size
        found = _last_lines(newest, self._offset, lines)
        opened = [newest]
        while len(found) < lines and (older := self._before(opened[-1])) >= 0:
            opened.append(older)
            found = _last_lines(older, os.fstat(older).st_size, lines - len(found)) + found
        for file in opened[1:]:
            os.close(file)
        return [line for line in found if line]

    def _read(self) -> bytes | None:
        """Return what comes next, nothing at the end of a file that has a successor, None if there is no more now."""
        if self._file < 0 and not self._go_on():
            return None
        is_newest = self._is_at(self._file, self._path)  # asked first: what is written until then is read below
        if data := os.pread(self._file, _PIECE, self._offset):
            self._offset += len(data)
            return data
        if is_newest:
            if os.fstat(self._file).st_size < self._offset:
                self._offset = 0
                return b""
            return None
        return b"" if self._go_on() else None

    def _go_on(self) -> bool:
        """Open the file after the present one, the oldest if that is none of ours any more; return if there is one."""
        for _ in range(_TRIES):
            number = self._number(self._file) if self._file >= 0 else None
            following = self._oldest() if number is None else number - 1
            if following is None:
                self.close()  # deleted: whoever waits for the end of its folder waits for us
                return False
            file = self._open(self._numbered(following))
            if file < 0:
                if following == 0:
                    return False  # it is just being begun
                continue
            if number is not None and not self._is_at(self._file, self._numbered(number)):
                os.close(file)  # all were renamed meanwhile
                continue
            if self._file >= 0:
                os.close(self._file)
                self.has_missed |= number is None and following > 0
            self._file, self._offset = file, 0
            return True
        return False

    def _before(self, file: int) -> int:
        """Open the file before an open one; -1: there is none."""
        for _ in range(_TRIES):
            number = self._number(file)
            if number is None or (older := self._open(self._numbered(number + 1))) < 0:
                break
            if self._is_at(file, self._numbered(number)):
                return older
            os.close(older)  # all were renamed meanwhile
        return -1

    def _number(self, file: int) -> int | None:
        """Return which of the files an open one is now: 0 is the newest, None: it has been deleted."""
        return next((number for number in self._numbers() if self._is_at(file, self._numbered(number))), None)

    def _oldest(self) -> int | None:
        return max(self._numbers(), default=None)

    def _numbers(self) -> Iterator[int]:
        if self._path.exists():
            yield 0
        for number in count(1):
            if not self._numbered(number).exists():
                return
            yield number

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

    def _is_at(self, file: int, path: Path) -> bool:
        with suppress(OSError):
            return os.path.samestat(os.fstat(file), os.stat(path))
        return False

    def _open(self, path: Path) -> int:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return -1
        except OSError as error:
            raise SupervisorError(f"cannot read {path}: {error.strerror}") from None


class SlotTrail:
    """The log of one slot, which is ``SLOT.log`` in ``log_dir``; reading raises as a ``Trail`` does."""

    def __init__(self, log_dir: Path, slot: str) -> None:
        self._slot = slot
        self._trail = Trail(log_dir / f"{slot}.log")
        self._at = 0.0
        self._going_on = self.entries()

    def close(self) -> None:
        """Close what is open; the next reading begins anew."""
        self._trail.close()
        self._going_on = self.entries()

    def entries(self) -> Iterator[Entry]:
        """Yield what there is behind the present place, in order, and stay behind it."""
        return map(self._parsed, self._trail.lines())

    def some(self, most: int) -> list[Entry]:
        """Return the next entries, about so many at most: whoever prints may print as fast as one reads."""
        found = list(islice(self._going_on, most))
        if len(found) < most:
            self._going_on = self.entries()
        if self._trail.has_missed:
            self._trail.has_missed = False
            found.insert(0, Entry(found[0].at if found else self._at, self._slot, None, MISSED, _MISSED))
        return found

    def tail(self, lines: int) -> list[Entry]:
        """Return the last so many lines, in order, and go on behind them."""
        self._going_on = self.entries()
        return [self._parsed(line) for line in self._trail.tail(lines)]

    def _parsed(self, line: bytes) -> Entry:
        entry = parse(self._slot, line, self._at)
        self._at = entry.at
        return entry


def _last_lines(file: int, size: int, lines: int) -> list[bytes]:
    """Return the last so many lines of the first ``size`` bytes of ``file``."""
    pieces: deque[bytes] = deque()
    begin, ends = size, 0
    while begin > 0 and ends <= lines:
        begin, end = max(0, begin - _PIECE), begin
        pieces.appendleft(os.pread(file, end - begin, begin))
        ends += pieces[0].count(b"\n")
    data = b"".join(pieces)
    found = data.removesuffix(b"\n").split(b"\n") if data else []
    return found[max(0, len(found) - lines) :]
