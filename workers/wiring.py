"""What the links of a worker, or of a spare, are made of: options, ways to others, and the mesh's blacklist."""

from __future__ import annotations

import logging
import os

from ..shared.control.lifeline import Assignment, Reserve
from ..shared.errors import BlacklistError
from ..shared.memory.blacklist import SharedBlacklist
from ..shared.mesh.mesh import MeshOptions
from ..shared.transport.base import TransportAdapter
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
    """Return the adapters for where this node listens; the others of the mesh listen alike."""
    adapters: list[TransportAdapter] = []
    for transport in {endpoint.partition(":")[0] for endpoint in listen}:
        if transport == "unix":
            from ..shared.transport.unix import UnixTransportAdapter

            adapters.append(UnixTransportAdapter())
        else:
            from ..shared.transport.tcp import TcpTransportAdapter

            adapters.append(TcpTransportAdapter())
    return adapters
