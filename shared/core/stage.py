"""How far a node is in its life."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """How far a node is in its life, by its own account."""

    STARTING = "starting"
    LISTENING = "listening"
    READY = "ready"
    STOPPING = "stopping"
