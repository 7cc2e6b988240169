"""An event loop whose timers know no time.

uvloop gives a plain ``Handle``, without ``when()``, for what is due within half a millisecond.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class _Bare(asyncio.Handle):
    def __init__(self, timer: asyncio.TimerHandle) -> None:
        super().__init__(timer.cancel, (), asyncio.get_running_loop())
        self._timer = timer

    def cancel(self) -> None:
        self._timer.cancel()
        super().cancel()


@contextmanager
def bare_timers() -> Iterator[None]:
    """Have the running loop give such timers meanwhile; they fire and are cancelled as ever."""
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def bare(when: float, callback: Callable[..., object], *arguments: Any, **more: Any) -> asyncio.Handle:
        return _Bare(call_at(when, callback, *arguments, **more))

    loop.call_at = bare  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        loop.call_at = call_at  # type: ignore[method-assign]
