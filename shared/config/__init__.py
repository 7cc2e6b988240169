"""``mesh.toml``: its model, and the loader that turns a file into one (or into a list of its faults)."""

from .loader import load_config, locate
from .model import (
    Backoff,
    MeshConfig,
    MeshSection,
    OnLimit,
    RestartPolicy,
    StartMethod,
    StrategyName,
    SupervisorSection,
    TransportName,
    WorkerConfig,
)

__all__ = [
    "Backoff",
    "MeshConfig",
    "MeshSection",
    "OnLimit",
    "RestartPolicy",
    "StartMethod",
    "StrategyName",
    "SupervisorSection",
    "TransportName",
    "WorkerConfig",
    "load_config",
    "locate",
]
