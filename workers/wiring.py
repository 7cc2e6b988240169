"""What the links of a worker, or of a spare, are made of: options, ways to others, and the mesh's blacklist."""

from __future__ import annotations

import logging
import os

from ..shared.control.lifeline import Assignment, Reserve
from ..shared.core.endpoint import Endpoint
from ..shared.errors import BlacklistError
from ..shared.memory.blacklist import SharedBlacklist
from ..shared.mesh.mesh import MeshOptions
from ..shared.transport.base import Listener, TransportAdapter, TransportConnection, TransportOptions
from .lifeline import Lifeline

log = logging.getLogger("meshvisor.worker")


def options_of(said: Assignment | Reserve) -> MeshOptions:
    """Return what the supervisor ``said`` of the links, as a mesh needs it."""
    return MeshOptions(
        node_id=said.name,
        incarnation=said.incarnation if isinstance(said, Assignment) else 1,
        epoch=said.epoch,
        listen=said.listen,
        secret=said.secret,
        heartbeat_interval=said.heartbeat_interval,
        heartbeat_timeout=said.heartbeat_timeout,
        blacklist_duration=said.blacklist_duration,
    )


def blacklist_of(lifeline: Lifeline, name: str) -> SharedBlacklist | None:
    """Return the mesh's blacklist, if its descriptors came; it is open as long as this process lives."""
    descriptors = [lifeline.descriptors.pop(part, -1) for part in ("blacklist", "wake")]
    try:
        return (
            None if descriptors[0] < 0 else SharedBlacklist.attach(descriptors[0], source=name, wake_fd=descriptors[1])
        )
    except BlacklistError as error:
        log.error("going on with penalties of our own: %s", error)
        return None
    finally:
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)


def adapters_for(listen: tuple[str, ...]) -> list[TransportAdapter]:
    """Return the adapters for where this node listens, and for where others do while a reload changes that."""
    used = {endpoint.partition(":")[0] for endpoint in listen}
    return [_load(transport) if transport in used else _OnDemand(transport) for transport in ("unix", "tcp")]


class _OnDemand:
    """An adapter that is loaded with the first endpoint that needs it: as a rule there is none."""

    def __init__(self, transport: str) -> None:
        self.transport = transport
        self._adapter: TransportAdapter | None = None

    async def connect(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection:
        """See ``TransportAdapter.connect``."""
        return await self._loaded().connect(endpoint, options)

    async def listen(self, endpoint: Endpoint, options: TransportOptions, /) -> Listener:
        """See ``TransportAdapter.listen``."""
        return await self._loaded().listen(endpoint, options)

    def _loaded(self) -> TransportAdapter:
        if self._adapter is None:
            self._adapter = _load(self.transport)
        return self._adapter


def _load(transport: str) -> TransportAdapter:
    if transport == "unix":
        from ..shared.transport.unix import UnixTransportAdapter

        return UnixTransportAdapter()
    from ..shared.transport.tcp import TcpTransportAdapter

    return TcpTransportAdapter()
