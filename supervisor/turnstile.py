"""What takes long is done once a turn of the event loop, however much of it there is to do."""

from __future__ import annotations

import asyncio


class Turnstile:
    """Lets one pass in each turn of the running loop.

    Whoever is not let in comes again: the readiness of a descriptor is level-triggered, so that the next turn is now.
    A death and the birth that follows it take one to two milliseconds; when twenty commands end at once, nobody else
    is kept waiting for longer than that.
    """

    def __init__(self) -> None:
        self._is_taken = False

    def lets_in(self) -> bool:
        """Return whether the caller is the first one of this turn."""
        if self._is_taken:
            return False
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._free)  # comes before the next turn's callbacks
        return True

    def _free(self) -> None:
        self._is_taken = False
