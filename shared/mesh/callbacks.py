"""Functions of the application that want to hear of something."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger("meshvisor")

News = TypeVar("News")


class Callbacks(Generic[News]):
    """Calls all of its functions, whatever one of them does."""

    def __init__(self) -> None:
        self._functions: list[Callable[[News], None]] = []

    def add(self, function: Callable[[News], None]) -> Callable[[], None]:
        """Add ``function``; return what takes it away again."""
        self._functions.append(function)

        def remove() -> None:
            with contextlib.suppress(ValueError):
                self._functions.remove(function)

        return remove

    def notify(self, news: News) -> None:
        """Call every function with ``news``; one that raises is logged and the others still run."""
        for function in list(self._functions):
            try:
                function(news)
            except Exception:
                log.exception("a callback raised")
