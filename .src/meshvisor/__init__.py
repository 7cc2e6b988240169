"""meshvisor: a crash-proof mesh of supervised Python processes.

The names below are loaded when they are first used: every worker process imports this module before anything
else, and must not pay for the supervisor's half of the package (nor the supervisor for the workers').
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .shared.config import MeshConfig as MeshConfig
    from .shared.config import load_config as load_config

_HOMES = {
    "MeshConfig": "shared.config",
    "load_config": "shared.config",
}

__all__ = ["MeshConfig", "load_config"]


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
