"""Where the metrics of a mesh are served: nowhere, at one address, or at another one after a reload.

What serves them is imported when it is needed: it takes a tenth of a second, and some megabytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from .figures import MeshFigures

if TYPE_CHECKING:
    from .scrape import MetricsServer

Measure = Callable[[bool], Awaitable[MeshFigures]]


class Outlet:
    """Serves what ``measure`` returns; its argument tells whether each link is wanted."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._server: MetricsServer | None = None

    async def open(self, address: str | None) -> None:
        """Serve at ``address``; None: nowhere.

        Raises:
            SupervisorError: If that is not possible there.
        """
        self._server = await self._serve(address)

    @asynccontextmanager
    async def moving(self, address: str | None, wanted: Callable[[], str | None]) -> AsyncIterator[None]:
        """Serve at ``address``, too, while the mesh goes over to it; after that, only where it is ``wanted``.

        Raises:
            SupervisorError: If that is not possible there; nothing is changed then.
        """
        old = self._server
        if address == (old.address if old is not None else None):
            yield
            return
        new = await self._serve(address)
        try:
            yield
        finally:
            self._server, other = (new, old) if wanted() == address else (old, new)
            if other is not None:
                await other.close()

    async def close(self) -> None:
        """Serve no more."""
        if self._server is not None:
            await self._server.close()
            self._server = None

    async def _serve(self, address: str | None) -> MetricsServer | None:
        if address is None:
            return None
        from .scrape import MetricsServer

        server = MetricsServer(address, self._measure)
        await server.start()
        return server
