"""meshvisor: a crash-proof mesh of supervised Python processes.

The names below are loaded when they are first used: every worker process imports this module before anything
else, and must not pay for the supervisor's half of the package (nor the supervisor for the workers').
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .shared.config import MeshConfig as MeshConfig
    from .shared.config import load_config as load_config
    from .shared.core.endpoint import Endpoint as Endpoint
    from .shared.core.frames import ControlFrame as ControlFrame
    from .shared.core.message import Message as Message
    from .shared.core.penalties import FailureSeverity as FailureSeverity
    from .shared.core.phi import PhiAccrualDetector as PhiAccrualDetector
    from .shared.core.retry import EndpointDialTracker as EndpointDialTracker
    from .shared.core.retry import RetryBudget as RetryBudget
    from .shared.core.rtt import RttEstimator as RttEstimator
    from .shared.core.states import ConnectionState as ConnectionState
    from .shared.errors import BlacklistError as BlacklistError
    from .shared.errors import CallError as CallError
    from .shared.errors import CallTimeout as CallTimeout
    from .shared.errors import ConfigError as ConfigError
    from .shared.errors import ConnectFailed as ConnectFailed
    from .shared.errors import HandshakeError as HandshakeError
    from .shared.errors import LinkClosed as LinkClosed
    from .shared.errors import LinkError as LinkError
    from .shared.errors import MeshError as MeshError
    from .shared.errors import PeerLeft as PeerLeft
    from .shared.errors import PeerLost as PeerLost
    from .shared.errors import PeerUnavailable as PeerUnavailable
    from .shared.errors import PluginError as PluginError
    from .shared.errors import PluginFault as PluginFault
    from .shared.errors import QueueFull as QueueFull
    from .shared.errors import RemoteError as RemoteError
    from .shared.errors import RetryAfter as RetryAfter
    from .shared.errors import SegmentError as SegmentError
    from .shared.errors import SendTimeout as SendTimeout
    from .shared.errors import SupervisorError as SupervisorError
    from .shared.errors import UnknownPeer as UnknownPeer
    from .shared.memory.blacklist import SharedBlacklist as SharedBlacklist
    from .shared.memory.board import LivenessBoard as LivenessBoard
    from .shared.memory.entry import Penalty as Penalty
    from .shared.mesh.connection import ConnectionHandle as ConnectionHandle
    from .shared.mesh.host import ConnectionHost as ConnectionHost
    from .shared.mesh.manager import ConnectionManager as ConnectionManager
    from .shared.mesh.options import ConnectionHostOptions as ConnectionHostOptions
    from .shared.mesh.options import ConnectionOptions as ConnectionOptions
    from .shared.metrics import ConnectionMetrics as ConnectionMetrics
    from .shared.transport.base import TransportAdapter as TransportAdapter
    from .shared.transport.base import TransportConnection as TransportConnection
    from .shared.transport.chaos import ChaosOptions as ChaosOptions
    from .shared.transport.chaos import ChaosStream as ChaosStream
    from .shared.transport.chaos import ChaosTransportAdapter as ChaosTransportAdapter
    from .shared.transport.memory import MemoryTransportAdapter as MemoryTransportAdapter
    from .shared.transport.tcp import TcpTransportAdapter as TcpTransportAdapter
    from .shared.transport.unix import UnixTransportAdapter as UnixTransportAdapter
    from .supervisor.supervisor import Supervisor as Supervisor
    from .workers.peers import Peer as Peer
    from .workers.plugin_news import PluginEvent as PluginEvent
    from .workers.plugin_news import PluginNews as PluginNews
    from .workers.plugin_news import PluginStatus as PluginStatus
    from .workers.plugin_spec import PluginSpec as PluginSpec
    from .workers.plugins import AsyncPlugins as AsyncPlugins
    from .workers.plugins import PluginHost as PluginHost
    from .workers.worker import Worker as Worker
    from .workers.worker import every as every
    from .workers.worker import rpc as rpc

_NAMES = {
    "shared.config": ["MeshConfig", "load_config"],
    "shared.core.endpoint": ["Endpoint"],
    "shared.core.frames": ["ControlFrame"],
    "shared.core.message": ["Message"],
    "shared.core.penalties": ["FailureSeverity"],
    "shared.core.phi": ["PhiAccrualDetector"],
    "shared.core.retry": ["EndpointDialTracker", "RetryBudget"],
    "shared.core.rtt": ["RttEstimator"],
    "shared.core.states": ["ConnectionState"],
    "shared.errors": [
        "BlacklistError",
        "CallError",
        "CallTimeout",
        "ConfigError",
        "ConnectFailed",
        "HandshakeError",
        "LinkClosed",
        "LinkError",
        "MeshError",
        "PeerLeft",
        "PeerLost",
        "PeerUnavailable",
        "PluginError",
        "PluginFault",
        "QueueFull",
        "RemoteError",
        "RetryAfter",
        "SegmentError",
        "SendTimeout",
        "SupervisorError",
        "UnknownPeer",
    ],
    "shared.memory.blacklist": ["SharedBlacklist"],
    "shared.memory.board": ["LivenessBoard"],
    "shared.memory.entry": ["Penalty"],
    "shared.mesh.connection": ["ConnectionHandle"],
    "shared.mesh.host": ["ConnectionHost"],
    "shared.mesh.manager": ["ConnectionManager"],
    "shared.mesh.options": ["ConnectionHostOptions", "ConnectionOptions"],
    "shared.metrics": ["ConnectionMetrics"],
    "shared.transport.base": ["TransportAdapter", "TransportConnection"],
    "shared.transport.chaos": ["ChaosOptions", "ChaosStream", "ChaosTransportAdapter"],
    "shared.transport.memory": ["MemoryTransportAdapter"],
    "shared.transport.tcp": ["TcpTransportAdapter"],
    "shared.transport.unix": ["UnixTransportAdapter"],
    "supervisor.supervisor": ["Supervisor"],
    "workers.peers": ["Peer"],
    "workers.plugin_news": ["PluginEvent", "PluginNews", "PluginStatus"],
    "workers.plugin_spec": ["PluginSpec"],
    "workers.plugins": ["AsyncPlugins", "PluginHost"],
    "workers.worker": ["Worker", "every", "rpc"],
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


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
