"""What the children print: cut into lines, kept in files, passed on, and never in the way of supervision.

The pipes are read without blocking, a bounded piece per turn of the loop, so that a flood in one slot delays nothing
else. A line longer than ``MAX_LINE`` is cut into marked pieces. A text that ends with a carriage return alone is
progress: shown in place and overwritten by the next, so it is passed on and not kept.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from ..shared.config.model import LogFormat, LogOptions
from .rotation import RotatedFile

MAX_LINE = 65_536
"""Longest line, in bytes, that is not cut."""
PROGRESS = "progress"
TAIL_LINES = 20
CUT = " […]"
_TAIL_WIDTH = 2000
# What is read per turn of the loop: at worst a line per byte, each of which is work for whoever listens.
_READ_SIZE = 4096
# How much of what a dead process left is handed over before its replacement starts; the rest follows after.
_DRAIN_LINES = 2000
_PIPE_SIZE = 1_048_576  # as much as a pipe can hold without privileges
_LINGER = 0.25
_DEFAULT_OPTIONS = LogOptions()

Lines = list[tuple[str, str]]
"""What was printed, as pairs of a kind (the stream's name or ``progress``) and a text without its end."""


class LineCutter:
    """Cuts the bytes of one stream into lines. Bytes that are no UTF-8 are replaced."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._rest = b""
        self._returned: bytes | None = None  # what came before a carriage return that was the last byte so far

    def feed(self, data: bytes) -> Lines:
        """Take in what was read and return the lines it completes."""
        if self._returned is not None and data:
            # It was a line after all if a newline follows; if not, it has been shown and is overwritten.
            self._rest = self._returned if data.startswith(b"\n") else b""
            self._returned = None
        *complete, rest = (self._rest + data).split(b"\n")
        lines: Lines = []
        for line in complete:
            self._add_line(lines, line.removesuffix(b"\r").rpartition(b"\r")[2])
        self._rest = self._show_progress(lines, rest)
        while len(self._rest) > MAX_LINE:
            self._rest = self._cut(lines, self._rest)
        return lines

    def finish(self) -> Lines:
        """Return the last line, if it never got its end."""
        lines: Lines = []
        if self._rest:
            self._add_line(lines, self._rest)
        self._rest = b""
        return lines

    def _add_line(self, lines: Lines, line: bytes) -> None:
        while len(line) > MAX_LINE:
            line = self._cut(lines, line)
        lines.append((self._stream, line.decode(errors="replace")))

    def _show_progress(self, lines: Lines, rest: bytes) -> bytes:
        """Pass the latest progress of an unfinished line on and return what comes after it."""
        if b"\r" not in rest:
            return rest
        before, _, after = rest.rpartition(b"\r")
        text = before.rpartition(b"\r")[2]
        if not after:
            self._returned = text
        if text.strip():
            lines.append((PROGRESS, text[:MAX_LINE].decode(errors="replace")))
        return after

    def _cut(self, lines: Lines, line: bytes) -> bytes:
        end = MAX_LINE
        while end > MAX_LINE - 4 and line[end] & 0xC0 == 0x80:  # never within a character
            end -= 1
        lines.append((self._stream, line[:end].decode(errors="replace") + CUT))
        return line[end:]


class LogFile:
    """The log of one slot, rotated by size: ``SLOT.log``, then ``SLOT.log.1`` (the latest) and so on.

    A line is ``TIME STREAM TEXT``, or a JSON object with ``at`` (Unix seconds), ``slot``, ``incarnation``, ``stream``
    and ``text``. Whatever the disk does, writing goes on with the next line: ``lost`` is called once per row of
    failures, ``restored`` with the number of lines lost when it is over.
    """

    def __init__(
        self,
        path: Path,
        lost: Callable[[str], None],
        options: LogOptions = _DEFAULT_OPTIONS,
        *,
        slot: str = "",
        restored: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.lines = self.size = 0
        """Lines, and bytes, that were written so far."""
        self._slot = slot
        self._is_json = options.format is LogFormat.JSON
        self._file = RotatedFile(path, max_size=options.max_size, keep=options.keep, lost=lost, restored=restored)

    def write(self, lines: Lines, incarnation: int = 0) -> None:
        """Append ``lines``, each with the time and the stream it came from; progress is left out."""
        kept = [line for line in lines if line[0] != PROGRESS]
        if kept:
            data = self._json(kept, incarnation) if self._is_json else self._text(kept)
            self._file.append(data, len(kept))
            self.lines += len(kept)
            self.size += len(data)

    def reconfigure(self, options: LogOptions) -> None:
        """Go on as ``options`` have it; what is written already stays as it is."""
        self._is_json = options.format is LogFormat.JSON
        self._file.max_size, self._file.keep = options.max_size, options.keep

    def close(self) -> None:
        """Close the file; the next write opens it again."""
        self._file.close()

    def _text(self, lines: Lines) -> bytes:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return "".join(f"{now} {stream} {line}\n" for stream, line in lines).encode(errors="replace")

    def _json(self, lines: Lines, incarnation: int) -> bytes:
        fields = {"at": round(time.time(), 3), "slot": self._slot, "incarnation": incarnation}
        objects = ({**fields, "stream": stream, "text": text} for stream, text in lines)
        return b"".join(msgspec.json.encode(one) + b"\n" for one in objects)


class Pump:
    """Reads one pipe of one process until it ends, and hands over what was printed."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, descriptor: int, stream: str, printed: Callable[[Lines], None]
    ) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._cutter = LineCutter(stream)
        self._printed = printed
        self._linger: asyncio.TimerHandle | None = None
        self._lines = 0
        loop.add_reader(descriptor, self._read)

    @property
    def is_open(self) -> bool:
        """Whether more may come."""
        return self._descriptor >= 0

    def drain(self) -> None:
        """The process is dead: hand over what it left in the pipe, and close once the other ends are closed too.

        A descendant that escaped may hold the pipe open; it gets a moment, during which nobody waits for it.
        """
        self._catch_up(_DRAIN_LINES)
        if self.is_open and self._linger is None:
            self._linger = self._loop.call_later(_LINGER, self.finish)

    def finish(self) -> None:
        """Hand over all that is in the pipe now, however fast somebody refills it, and close."""
        if self.is_open:
            self._catch_up(_PIPE_SIZE, _waiting_in(self._descriptor))
            self.close()

    def close(self) -> None:
        """Hand over the last words and stop reading."""
        if self._descriptor < 0:
            return
        if self._linger is not None:
            self._linger.cancel()
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        self._pass_on(self._cutter.finish())

    def _catch_up(self, lines: int, remaining: int = _PIPE_SIZE) -> None:
        enough = self._lines + lines
        while self.is_open and remaining > 0 and self._lines < enough and (count := self._read()):
            remaining -= count

    def _read(self) -> int:
        """Read a piece; return its size, or 0 when there is nothing now, or nothing any more."""
        try:
            data = os.read(self._descriptor, _READ_SIZE)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self.close()
            return 0
        self._pass_on(self._cutter.feed(data))
        return len(data)

    def _pass_on(self, lines: Lines) -> None:
        if lines:
            self._lines += len(lines)
            self._printed(lines)


def _waiting_in(pipe: int) -> int:
    """Return how many bytes are in a pipe."""
    count = bytearray(struct.calcsize("i"))
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return int(struct.unpack("i", count)[0])


class Capture:
    """What one process prints; ``tail`` are its last lines."""

    def __init__(self, pumps: list[Pump], tail: deque[str]) -> None:
        self.tail = tail
        self._pumps = pumps

    def drain(self) -> None:
        """Read what it left in its pipes: it has died."""
        for pump in self._pumps:
            pump.drain()


class Output:
    """Everything that the processes of one slot print, over all its incarnations."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: LogFile, printed: Callable[[str, str], None]) -> None:
        self.log = log
        self._loop = loop
        self._printed = printed
        self._pumps: list[Pump] = []
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    @property
    def tail(self) -> list[str]:
        """The last lines of the present incarnation."""
        return list(self._tail)

    def begin(self) -> None:
        """Begin a new incarnation, which has printed nothing yet."""
        self._tail = deque(maxlen=TAIL_LINES)

    def attach(
        self, stdout: int, stderr: int, incarnation: int = 0, heard: Callable[[str], None] = lambda text: None
    ) -> Capture:
        """Begin to read the pipes of a new incarnation; what earlier ones left in theirs is read to its end.

        ``heard`` is called with each line of this incarnation.
        """
        capture = self.capture(stdout, stderr, incarnation, heard)
        self.present(capture)
        return capture

    def capture(self, stdout: int, stderr: int, incarnation: int, heard: Callable[[str], None]) -> Capture:
        """Begin to read the pipes of a process beside the present incarnation."""
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        take = partial(self._take, incarnation, tail, heard)
        pumps = [Pump(self._loop, stdout, "stdout", take), Pump(self._loop, stderr, "stderr", take)]
        self._pumps = [*(pump for pump in self._pumps if pump.is_open), *pumps]
        return Capture(pumps, tail)

    def present(self, capture: Capture) -> None:
        """Take a process for the present incarnation."""
        self._tail = capture.tail

    def reconfigure(self, options: LogOptions) -> None:
        """Keep the log as ``options`` have it from now on."""
        self.log.reconfigure(options)

    def close(self) -> None:
        """Read what is left, for the last time."""
        for pump in self._pumps:
            pump.finish()
        self.log.close()

    def _take(self, incarnation: int, tail: deque[str], heard: Callable[[str], None], lines: Lines) -> None:
        self.log.write(lines, incarnation)
        for kind, text in lines:
            if kind != PROGRESS:
                tail.append(text[:_TAIL_WIDTH])
                heard(text)
            self._printed(kind, text)
