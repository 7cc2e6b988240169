"""Which adapter serves an endpoint."""

from __future__ import annotations

from collections.abc import Iterable

from .base import TransportAdapter
from .memory import MemoryTransportAdapter
from .tcp import TcpTransportAdapter
from .unix import UnixTransportAdapter


def adapters_by_name(adapters: Iterable[TransportAdapter] | None = None) -> dict[str, TransportAdapter]:
    """Return ``adapters`` by the transport they serve; without any, those that come with meshvisor."""
    chosen = adapters or (TcpTransportAdapter(), UnixTransportAdapter(), MemoryTransportAdapter())
    return {adapter.transport: adapter for adapter in chosen}
