"""What an operator sees of the blacklist, and does with it.

It is done on the shared memory itself: the supervisor hands out the descriptors (attach.py) and has no part in what
follows, so that listing a full table or waiting for its lock never takes time from supervision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..shared.core.penalties import MAX_PENALTY, FailureSeverity
from ..shared.errors import SupervisorError
from ..shared.memory.entry import Penalty
from .cells import clean
from .columns import table
from .event import duration
from .style import RED, YELLOW

if TYPE_CHECKING:  # ``status`` shows penalties and has nothing to do with the shared memory
    from ..shared.memory.blacklist import SharedBlacklist

_HEADERS = ("BARRED", "SEVERITY", "FOR", "STRIKES", "REPORTERS", "BY", "RETRY-AFTER")
_NUMBERS = frozenset({"FOR", "STRIKES", "REPORTERS"})
_COLOURS = {FailureSeverity.HARD: YELLOW, FailureSeverity.FATAL: RED}

_PATIENCE = 1.0
_PAUSE = 0.005
_SLACK = 0.05  # seconds that a penalty may have run since it was set


def penalties(found: Iterable[Penalty], *, colour: bool = False) -> list[str]:
    """Return the lines of a table of penalties."""
    found = list(found)
    rows = [
        (
            clean(penalty.key),  # anything, for any process of ours may write it
            penalty.severity.value,
            duration(penalty.remaining),
            str(penalty.strikes),
            str(penalty.reporters),
            clean(penalty.source) or "-",
            "yes" if penalty.retry_after else "-",
        )
        for penalty in found
    ]
    severities = [_COLOURS.get(penalty.severity) for penalty in found]
    return table(_HEADERS, rows, numbers=_NUMBERS, marks=(1, severities), colour=colour)


def bar(blacklist: SharedBlacklist, key: str, severity: FailureSeverity, seconds: float) -> Penalty:
    """Bar ``key`` for at least ``seconds`` (at most 300) and return the penalty that holds now.

    Raises:
        SupervisorError: If the table cannot be written.
    """
    wanted = min(seconds, MAX_PENALTY) - _SLACK

    def is_done() -> bool:
        blacklist.set_penalty(key, severity, seconds)
        now = blacklist.get_penalty(key)
        return seconds <= _SLACK or (now is not None and now.remaining >= wanted and now.severity.rank >= severity.rank)

    _insist(is_done)
    return blacklist.get_penalty(key) or Penalty(key, severity, 0.0, False, "", 0, 0)


def lift(blacklist: SharedBlacklist, key: str | None = None) -> list[str]:
    """Lift the penalty of ``key``, or all; return the keys that were barred.

    Raises:
        SupervisorError: If the table cannot be written.
    """
    before = [penalty.key for penalty in blacklist.active() if key in (None, penalty.key)]

    def is_done() -> bool:
        if key is None:
            blacklist.clear()
        else:
            blacklist.clear_penalty(key)
        # What somebody else has barred since is another penalty.
        return not set(before) & {penalty.key for penalty in blacklist.active()}

    _insist(is_done)
    return before


def _insist(is_done: Callable[[], bool]) -> None:
    """Try again while another process holds the table's lock; it does so for microseconds, unless it is stopped."""
    deadline = time.monotonic() + _PATIENCE
    while not is_done():
        if time.monotonic() >= deadline:
            raise SupervisorError("another process holds the blacklist's lock and does not go on (is one stopped?)")
        time.sleep(_PAUSE)
