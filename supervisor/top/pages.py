"""What lies over the main view of ``supervise top``, and is left with Escape: texts that can be scrolled. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.text import Text

from .keys import Key
from .picture import fitted, foot_line

_HINT = "↑↓ pgup pgdn g G scroll   esc back   q quit"
_PLAIN_HINT = "j k space g G scroll   esc back   q quit"

_HELP = """\
The keys

  up down, j k      select a slot          pgup pgdn, g G    further

  r                 restart the slot; a worker finishes what it is at, and its callers wait
  s                 stop it, until it is started again (asks first)
  S                 start it

  l                 what it prints         w, enter          why it ended last
  m                 the links of all       ?                 this
  q                 quit                   ctrl-z            back to the shell for a while

The columns

  INC    the incarnation: how many processes there have been in the slot
  LAG    how late its event loop was at its last turns
  IN/S   messages and calls that it received each second; OUT/S: that it sent
  RST    how often it was restarted, and when within the last 5 minutes

The links

  One cell for each pair of workers, both ends taken together; its colour is the last round trip known. Within one
  machine links do not ping: the liveness board vouches for both ends, and the round trip is that of the handshake.
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
        lines = [title, Text(), *shown, *[Text()] * (room - len(shown)), foot_line(hint, width)]
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
        if line.plain in (" The keys", " The columns", " The links"):
            line.stylize("bold")
    return Page("supervise top", lambda width: lines)


def _folded(line: Text, width: int) -> Sequence[Text]:
    """Return a line that is too long as several."""
    if line.cell_len <= width:
        return [line]
    return list(line.divide(range(width, len(line.plain), width)))
