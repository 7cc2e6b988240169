"""Colours, for terminals that want them, and what else the place that is written to can do."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

BOLD = "1"
DIM = "2"
RED = "31"
GREEN = "32"
YELLOW = "33"
SLOT_COLOURS = ("36", "33", "35", "34", "32", "96", "93", "95", "94", "92")  # no red: that is for trouble


def paint(text: str, colour: str | None, *, on: bool) -> str:
    """Return ``text`` in ``colour`` (the number of an ECMA-48 SGR), if colours are ``on``."""
    return f"\x1b[{colour}m{text}\x1b[0m" if on and colour is not None else text


def wants_colour(is_terminal: bool, environment: Mapping[str, str] = os.environ) -> bool:
    """Colours are for terminals that know them, unless NO_COLOR (https://no-color.org) is set to anything."""
    return is_terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


@dataclass(frozen=True, slots=True)
class Look:
    """What the place that is written to can do. ``columns``: a terminal's width now; None: it is no terminal."""

    colour: bool = False
    unicode: bool = True
    columns: Callable[[], int] | None = None

    @classmethod
    def of(cls, descriptor: int, encoding: str, environment: Mapping[str, str] = os.environ) -> Look:
        """Find out about an open descriptor."""
        is_terminal = os.isatty(descriptor)
        is_able = is_terminal and environment.get("TERM") != "dumb"
        return cls(
            colour=wants_colour(is_terminal, environment),
            unicode=encoding.lower().replace("-", "") == "utf8",
            columns=(lambda: _columns(descriptor)) if is_able else None,
        )


def _columns(descriptor: int) -> int:
    try:
        return os.get_terminal_size(descriptor).columns or 80
    except OSError:
        return 80
