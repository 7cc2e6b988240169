"""How a worker ends, and what is said about it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from enum import Enum, auto


class Manner(Enum):
    """What is still done before the process exits; a later one overrides an earlier one."""

    STOP = auto()  # on_stop, finish calls, drain, say goodbye
    EXIT = auto()  # the same without on_stop: a SystemExit
    CRASH = auto()  # nothing


@dataclass(frozen=True, slots=True)
class Ending:
    """The exit status, and the manner of getting there."""

    status: int
    manner: Manner


def exit_status(stop: SystemExit) -> int:
    """Return the status that ``stop`` stands for, as the interpreter has it."""
    if stop.code is None:
        return 0
    return stop.code & 0xFF if isinstance(stop.code, int) else 1


def user_traceback(error: BaseException) -> str:
    """Return the traceback of ``error`` as text, from the first frame on that is not ours."""
    first = error.__traceback__
    while first is not None and _is_machinery(first.tb_frame.f_globals.get("__name__")):
        first = first.tb_next
    return "".join(traceback.format_exception(type(error), error, first))


def _is_machinery(module: object) -> bool:
    return isinstance(module, str) and module.split(".")[0] in ("meshvisor", "importlib", "asyncio")
