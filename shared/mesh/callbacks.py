"""Functions of the application that want to hear of something."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger("meshvisor")

News = TypeVar("News")


class Callbacks(Generic[News]):
    """Calls all of its functions, whatever one of them does."""

    def __init__(self) -> None:
        self._functions: dict[object, Callable[[News], None]] = {}

    def add(self, function: Callable[[News], None]) -> Callable[[], None]:
        """Add ``function``; return what takes it away again (as often as it is called: that once)."""
        ticket = object()
        self._functions[ticket] = function

        def remove() -> None:
            self._functions.pop(ticket, None)

        return remove

    def notify(self, news: News) -> None:
        """Call every function with ``news``; one that raises is logged and the others still run.

        One that was taken away by another one meanwhile is not called any more.
        """
        for ticket, function in list(self._functions.items()):
            if ticket not in self._functions:
                continue
            try:
                function(news)
            except Exception:
                log.exception("a callback raised")
