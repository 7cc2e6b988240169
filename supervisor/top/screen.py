"""The terminal of ``supervise top``: the alternate screen, keys as they are typed, and everything as it was at the end.

Only lines that have changed are written: over a slow line a calm mesh costs a clock. Signals are told by a pipe, so
that whoever waits for keys and answers waits for them, too.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Self

from rich.console import Console
from rich.text import Text

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"  # the alternate screen, no cursor, no wrapping
_LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGTSTP)


class Screen:
    """A terminal, from ``with`` to the end of its block, however that ends.

    ``signals`` are those that have arrived and that nobody has taken out yet.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.signals: list[signal.Signals] = []
        self._output = sys.stdout.fileno()
        self._input = sys.stdin.fileno() if sys.stdin is not None and os.isatty(sys.stdin.fileno()) else -1
        self._terminal = self._input  # also when nothing comes from it any more
        self._cooked: list[object] | None = None
        self._shown: list[str] = []
        self._wake, self._woken = -1, -1
        self._handlers: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        self._wake, self._woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        for number in _SIGNALS:
            self._handlers[number] = signal.signal(number, self._arrived)
        self._begin()
        return self

    def __exit__(self, *details: object) -> None:
        self._end()
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal has returned
        os.close(self._wake)
        os.close(self._woken)

    @property
    def descriptors(self) -> list[int]:
        """What becomes readable when there are keys or signals."""
        return [self._wake, *([self._input] if self._input >= 0 else [])]

    def size(self) -> tuple[int, int]:
        """Return columns and lines."""
        try:
            columns, lines = os.get_terminal_size(self._output)
        except OSError:
            columns, lines = 80, 24
        return columns or 80, lines or 24

    def show(self, lines: Sequence[Text]) -> None:
        """Show ``lines`` from the top; those that are shown already are left alone."""
        texts = [self._ansi(line) for line in lines]
        out = []
        for row, text in enumerate(texts):
            if row >= len(self._shown) or self._shown[row] != text:
                out.append(f"\x1b[{row + 1};1H\x1b[K{text}")
        if len(texts) < len(self._shown):
            out.append(f"\x1b[{len(texts) + 1};1H\x1b[J")
        self._shown = texts
        self._write("".join(out))

    def forget(self) -> None:
        """The terminal has another size, or somebody else has written on it: show everything anew."""
        self._shown = []
        self._write("\x1b[2J")

    def read(self) -> bytes:
        """Return what was typed, and forget the wake-ups; nothing if there is nothing."""
        with suppress(BlockingIOError):
            os.read(self._wake, 4096)
        if self._input < 0 or not _is_ready(self._input, select.POLLIN):
            return b""
        try:
            typed = os.read(self._input, 4096)
        except OSError:
            typed = b""
        if not typed:
            self._is_gone()
        return typed

    def suspend(self) -> None:
        """Give the terminal back, stop as the shell expects it of Ctrl-Z, and take it again when it goes on."""
        self._end()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._arrived)
        self._begin()

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(signal.Signals(number))

    def _begin(self) -> None:
        if self._input >= 0:
            self._cooked = termios.tcgetattr(self._input)
            tty.setcbreak(self._input, termios.TCSANOW)
        self._shown = []
        self._write(_ENTER)

    def _end(self) -> None:
        self._write(_LEAVE)
        if self._cooked is not None:
            with suppress(termios.error):
                termios.tcsetattr(self._terminal, termios.TCSANOW, self._cooked)  # type: ignore[arg-type]
            self._cooked = None

    def _ansi(self, line: Text) -> str:
        with self.console.capture() as captured:
            self.console.print(line, end="", soft_wrap=True, highlight=False)
        return captured.get()

    def _write(self, text: str) -> None:
        rest = memoryview(text.encode(errors="replace"))
        while rest:
            try:
                rest = rest[os.write(self._output, rest) :]
            except BlockingIOError:  # somebody else made it non-blocking
                _is_ready(self._output, select.POLLOUT, None)
            except OSError:
                self._is_gone()
                return

    def _is_gone(self) -> None:
        """End as if the hang-up had been told, if the terminal is not there any more."""
        self._input = -1
        self.signals.append(signal.SIGHUP)


def _is_ready(descriptor: int, what: int, timeout: float | None = 0) -> bool:
    poll = select.poll()
    poll.register(descriptor, what)
    return bool(poll.poll(timeout))
