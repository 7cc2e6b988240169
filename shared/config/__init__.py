"""``mesh.toml``: its model, and the loader that turns a file into one (or into a list of its faults)."""

from .loader import build_config, load_config, locate, locate_logs
from .model import (
    Backoff,
    Health,
    LogFormat,
    LogOptions,
    MeshConfig,
    MeshSection,
    OnLimit,
    Ready,
    RestartPolicy,
    StartMethod,
    StrategyName,
    SupervisorSection,
    TransportName,
    WorkerConfig,
)

__all__ = [
    "Backoff",
    "Health",
    "LogFormat",
    "LogOptions",
    "MeshConfig",
    "MeshSection",
    "OnLimit",
    "Ready",
    "RestartPolicy",
    "StartMethod",
    "StrategyName",
    "SupervisorSection",
    "TransportName",
    "WorkerConfig",
    "build_config",
    "load_config",
    "locate",
    "locate_logs",
]
