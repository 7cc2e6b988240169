"""Tracebacks for people: the frames of their own code, and as few as possible of what is around it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

# As `traceback` writes it, and as `faulthandler` does.
_FRAME = re.compile(r'\s*File "(.*)", line \d+,? in .+')
_MACHINERY = re.compile(r"<frozen .*>|.*/meshvisor/(workers|shared)/.*|.*/lib/python3\.\d+/(?!site-packages/).*")
_LONGEST_ERROR = 1000  # characters: whoever raises may put anything into an error, and people are to read it
_FEW = 3  # fewer are not worth a line of their own


@dataclass(frozen=True, slots=True)
class Frame:
    """A line of a traceback. ``place``: the file, if it names one; ``is_machinery``: it is Python's own, or ours."""

    text: str
    place: str = ""
    is_machinery: bool = False


def error_of(traceback: str) -> str:
    """Return the line that says what was wrong: the last one, or for an ExceptionGroup the last one of its errors.

    Of a very long one it is the beginning.
    """
    lines = [
        line for line in (line.rstrip().lstrip(" |") for line in traceback.splitlines()) if line and line[:2] != "+-"
    ]
    return lines[-1][:_LONGEST_ERROR] if lines else ""


def without_machinery(traceback: str) -> list[Frame]:
    """Return the lines of ``traceback``; where it ends in the depths of an event loop, their number only."""
    frames: list[Frame] = []
    deep: list[Frame] = []
    for line in traceback.rstrip("\n").split("\n") if traceback.strip() else []:
        frame = _frame(line)
        if frame.is_machinery:
            deep.append(frame)
            continue
        is_over = not frame.place  # another thread begins, or the source of a frame is shown
        frames += _folded(frames, deep) if is_over and not line.startswith(" ") else deep
        deep = []
        frames.append(frame)
    return frames + _folded(frames, deep)


def _folded(above: list[Frame], deep: list[Frame]) -> list[Frame]:
    """Return ``deep`` as one line, behind its first frame if there is nothing else to be seen of a thread."""
    shown = 0 if above and above[-1].place else 1
    if len(deep) - shown < _FEW:
        return deep
    return [*deep[:shown], Frame(f"  ... and {len(deep) - shown} more, of Python and meshvisor", is_machinery=True)]


def _frame(line: str) -> Frame:
    match = _FRAME.fullmatch(line)
    return Frame(line, match[1], _MACHINERY.fullmatch(match[1]) is not None) if match else Frame(line)
