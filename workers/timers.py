"""Methods that run again and again: what ``@every`` marks, and when the next run is due.

Runs are due at the moment when the worker is ready and at whole intervals after it. One that would begin while the one
before still runs is left out: a timer never overlaps itself and never makes up for what it missed.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

Timer = TypeVar("Timer", bound=Callable[..., Awaitable[None]])

_MARK = "__meshvisor_every__"


def every(interval: float | str) -> Callable[[Timer], Timer]:
    """Run this method of a ``Worker`` again and again, from when the worker is ready until it is asked to stop.

    The first run begins at once, further ones at whole intervals after that, by the monotonic clock; one that is due
    while the last one still runs is left out. An exception ends the process, as in any hook.

    Args:
        interval: Seconds, or a duration as in mesh.toml: ``"250ms"``, ``"2s"``, ``"5m"``.

    Raises:
        ValueError: If it is no duration, or not more than 0.
        TypeError: If the method is not ``async def``, or takes arguments.
    """
    seconds = _seconds(interval)

    def mark(function: Timer) -> Timer:
        name = getattr(function, "__qualname__", repr(function))
        if not inspect.iscoroutinefunction(inspect.unwrap(function)):
            raise TypeError(f"@every is for `async def` methods, and {name} is none")
        if len(inspect.signature(function).parameters) != 1:
            raise TypeError(f"{name} is run by @every and can take no arguments")
        setattr(function, _MARK, seconds)
        return function

    return mark


def timers(cls: type) -> dict[str, float]:
    """Return the methods of ``cls`` that are marked, there or in a base class, and their intervals in seconds."""
    bases = reversed(cls.__mro__)
    marked = {name: value for base in bases for name, value in vars(base).items() if hasattr(value, _MARK)}
    return {name: getattr(value, _MARK) for name, value in marked.items()}


async def keep_time(interval: float, run: Callable[[], Awaitable[bool]]) -> None:
    """Call ``run`` now and at whole intervals from now on, until it returns False."""
    now = asyncio.get_running_loop().time
    due = now()
    while await run():
        due = following(due, interval, now())
        await asyncio.sleep(due - now())


def following(due: float, interval: float, now: float) -> float:
    """Return when the run after the one that was ``due`` begins, if that has ended ``now``."""
    return due + interval * max(1, math.ceil((now - due) / interval))


def _seconds(interval: float | str) -> float:
    value = interval
    if isinstance(value, str):
        from ..shared.config.values import seconds  # Not loaded by workers that have no use for it.

        try:
            value = seconds(value)
        except ValueError:
            value = math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f'@every takes seconds, or a duration such as "250ms" or "5m", more than 0; not {interval!r}')
    return float(value)
