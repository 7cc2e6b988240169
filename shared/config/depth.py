"""How deep a file may go.

``tomllib`` takes time, and the lines of all keys memory, with the square of the parts of a dotted key: one of a few
kilobytes would keep a command busy for minutes. And what is nested deeper than this would not get through the decoders
on its way to a worker.
"""

from __future__ import annotations

import re

MAX_DEPTH = 64
"""The most tables that one value may be in."""

_PART = r"""(?>[A-Za-z0-9_-]++|"(?:\\.|[^"\\\n])*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+"""
_DEEP_KEY = re.compile(rf"(?:^|[\[{{,])[ \t]*+(?:{_PART}){{{MAX_DEPTH}}}", re.MULTILINE)


def line_of_deep_key(text: str) -> int | None:
    """Return the line (from 1) of the first key in a TOML text that has more than ``MAX_DEPTH`` parts, if any has."""
    match = _DEEP_KEY.search(text)
    return None if match is None else text.count("\n", 0, match.end()) + 1
