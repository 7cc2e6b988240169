"""What lies over the main view of ``supervise top``, and is left with Escape: texts that can be scrolled. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.text import Text

from .keys import Key
from .picture import fitted

_HINT = "↑↓ pgup pgdn g G scroll   esc back   q quit"
_PLAIN_HINT = "j k space g G scroll   esc back   q quit"

_HELP = """\
Keys
  up down, j k       select a slot           l            what it prints
  pgup pgdn, g G     further                 w, enter     why it ended last
  r                  restart it              m            the links of all
  s                  stop it (asks first)    ctrl-z       back to the shell
  S                  start it                q            quit

Columns
  INC      its incarnation: how many processes there have been in the slot
  LAG      how late its event loop was at its last turns
  IN/S     messages and calls it received a second; OUT/S: it sent
  RST      how often it was restarted; the bars: when it had incidents

Links
  A cell for each pair of workers, both ends taken together. Its colour is
  the last round trip known. Within one machine links do not ping, because
  the liveness board vouches for both ends: it is that of the handshake.
"""


@dataclass(slots=True)
class Page:
    """A text under a title. ``lines`` makes it for a width; ``follows``: it grows, and its end is what counts.

    ``back`` is how many lines lie below the window (``follows``), ``first`` how many above it.
    """

    title: str
    lines: Callable[[int], Sequence[Text]]
    follows: bool = False
    first: int = 0
    back: int = 0

    def picture(self, width: int, height: int, hint: str) -> list[Text]:
        """Return ``height`` lines."""
        content = [part for line in self.lines(width) for part in _folded(line, width)]
        room = max(0, height - 3)
        last = max(0, len(content) - room)
        self.back, self.first = min(self.back, last), min(self.first, last)
        first = last - self.back if self.follows else self.first
        shown = content[first : first + room]
        title = Text(f" {self.title}", style="bold")
        if last:
            title.append(f"   {first + 1}-{first + len(shown)} of {len(content)}", style="dim")
        lines = [title, Text(), *shown, *[Text()] * (room - len(shown)), Text(f" {hint}", style="dim")]
        return [fitted(line, width) for line in lines[:height]]

    def move(self, key: Key, height: int) -> None:
        """Scroll."""
        page = max(1, height - 4)
        steps = {Key.UP: -1, Key.DOWN: 1, Key.PAGE_UP: -page, Key.PAGE_DOWN: page, Key.HOME: -1_000_000_000}
        step = steps.get(key, 1_000_000_000)
        self.first, self.back = max(0, self.first + step), max(0, self.back - step)


def hint(*, unicode: bool) -> str:
    """Return what can be typed on a page."""
    return _HINT if unicode else _PLAIN_HINT


def help_page() -> Page:
    """Return what the keys and the columns are."""
    lines = [Text(f" {line}" if line else "") for line in _HELP.splitlines()]
    for line in lines:
        if line.plain in (" Keys", " Columns", " Links"):
            line.stylize("bold")
    return Page("supervise top", lambda width: lines)


def _folded(line: Text, width: int) -> Sequence[Text]:
    """Return a line that is too long as several."""
    if line.cell_len <= width:
        return [line]
    return list(line.divide(range(width, len(line.plain), width)))
