"""What two outputs of a command have in common although times, numbers and places are others: their shape."""

from __future__ import annotations

import re

_DAYS = "Mon|Tue|Wed|Thu|Fri|Sat|Sun"
_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_RULES = (
    (r'"/[^"]*"', "PATH"),
    (r", in \w+\)", ")"),  # where in the kernel a thread waits is told where the kernel tells it
    (r"\d[\d,.:]*", "N"),
    (r"·", "N"),  # a link that has carried nothing
    (r"\bN (?:us|µs|ms|s|min|m|h|B|KiB|MiB|GiB)(?!\w)", "N U"),
    (rf"\b(?:{_DAYS}) N (?:{_MONTHS}) N", "DAY"),
    (r"\s+", " "),
)


def shape(line: str) -> str:
    """Return a line with everything that may be different the next time replaced by what kind of thing it is."""
    for pattern, kind in _RULES:
        line = re.sub(pattern, kind, line)
    return line.strip()


def is_told(line: str) -> bool:
    """Whether a line of an example is the program's own: no gap, and not what a worker has printed."""
    return bool(line.strip()) and line.strip() != "..." and "│" not in line
