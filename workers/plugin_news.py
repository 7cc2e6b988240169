"""What an application is told of its plugins: what happens to them, and how they are at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..shared.errors import PluginError, PluginFault


class PluginNews(StrEnum):
    """What can happen to a plugin."""

    READY = "ready"  # it can be called: for the first time, or again
    ENDED = "ended"  # its process is gone, and nobody had asked for that; what follows is in ``next``
    REFUSED = "refused"  # it is not what is needed; it is stopped, and not tried again
    STOPPED = "stopped"  # it was disabled, or has ended well and is not restarted


@dataclass(frozen=True, slots=True)
class PluginEvent:
    """One thing that happened to a plugin, in words in ``text``; ``at`` is in Unix seconds.

    ``fault``, ``traceback`` and ``tail`` (its last lines of output) are about an end or a refusal. ``next`` says what
    follows it: ``restart``, after ``delay`` seconds; ``parked``, tried again after as many; ``stopped``, ``failed``.
    """

    at: float
    plugin: str
    event: PluginNews
    text: str
    incarnation: int
    fault: PluginFault | None = None
    traceback: str = ""
    tail: tuple[str, ...] = ()
    next: str = ""
    delay: float = 0.0

    def __str__(self) -> str:
        return f"{self.plugin} {self.text}"

    def error(self) -> PluginError:
        """Return the error that whoever needs the plugin is told this by."""
        return PluginError(self.plugin, self.fault or PluginFault.STOPPED, self.text, self.traceback)


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """One plugin at one moment. ``state`` is that of its slot, as in ``supervise status``, or ``refused``.

    ``version`` is what it says that it is, else what it was found under; ``rss`` is in bytes; ``pid`` is None without
    a process. ``trouble`` is why it is not ready, or why it ended last, as far as that is known.
    """

    name: str
    state: str
    version: str
    pid: int | None
    incarnation: int
    restarts: int
    rss: int
    trouble: PluginError | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it can be called now."""
        return self.state in ("ready", "suspect")


FAULTS = {
    "exited": PluginFault.CRASHED,
    "signaled": PluginFault.CRASHED,
    "hung": PluginFault.HUNG,
    "frozen": PluginFault.FROZEN,
    "oom": PluginFault.MEMORY,
    "memory": PluginFault.MEMORY,
    "start-timeout": PluginFault.START_TIMEOUT,
    "stopped": PluginFault.STOPPED,
}
"""What the causes of an end, as a supervisor has them, are to an application."""

_GONE = {
    "parked": (PluginFault.PARKED, "has failed too often, and is parked: tried again only now and then"),
    "failed": (PluginFault.FAILED, "has failed, and is not started again"),
}
_STOPPED = (PluginFault.STOPPED, "is stopped, and is not started again before it is enabled")


def ending_of(at: float, plugin: str, incarnation: int, text: str, details: Mapping[str, Any]) -> PluginEvent:
    """Return the news of an end that a supervisor has told in ``details`` (see its ``Event``)."""
    return PluginEvent(
        at,
        plugin,
        PluginNews.ENDED,
        text,
        incarnation,
        fault=FAULTS[details["cause"]],
        traceback=details.get("traceback", ""),
        tail=tuple(details["tail"]),
        next=details["next"],
        delay=details["delay"] or 0.0,
    )


def unavailable(plugin: str, why: str, latest: PluginEvent | None) -> PluginError:
    """Return the error that there is no plugin to call: ``why`` is its slot's state, ``latest`` what led there."""
    if latest is not None and latest.event is PluginNews.REFUSED:
        return latest.error()
    fault, reason = _GONE.get(why, _STOPPED)
    if latest is not None and latest.fault is not PluginFault.STOPPED and fault is not PluginFault.STOPPED:
        reason += f" (at last, it {latest.text})"
    return PluginError(plugin, fault, reason)
