"""``mesh.toml``: its model, and the loader that turns a file into one (or into a list of its faults).

The names below are loaded when they are first used: a command that only has to find a mesh needs none of the rules.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loader import build_config as build_config
    from .loader import load_config as load_config
    from .loader import locate_logs as locate_logs
    from .locating import locate as locate
    from .model import Backoff as Backoff
    from .model import Health as Health
    from .model import LogFormat as LogFormat
    from .model import LogOptions as LogOptions
    from .model import MeshConfig as MeshConfig
    from .model import MeshSection as MeshSection
    from .model import OnLimit as OnLimit
    from .model import Ready as Ready
    from .model import RestartPolicy as RestartPolicy
    from .model import StartMethod as StartMethod
    from .model import StrategyName as StrategyName
    from .model import SupervisorSection as SupervisorSection
    from .model import TransportName as TransportName
    from .model import WorkerConfig as WorkerConfig

_NAMES = {
    "loader": ["build_config", "load_config", "locate_logs"],
    "locating": ["locate"],
    "model": [
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
    ],
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value
