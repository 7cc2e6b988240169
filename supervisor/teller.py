"""What a slot tells the others: events for whoever watches, and its record in the roster for the mesh."""

from __future__ import annotations

from dataclasses import dataclass

from ..shared.core.roster import NodeStatus
from .child import Child, Ending, State
from .event import Event
from .herald import Herald
from .hub import Hub
from .identity import Identity
from .snapshot import LastExit


@dataclass(frozen=True, slots=True)
class Words:
    """What is known about an end beside its numbers: why, the traceback if there is one, and the last lines."""

    text: str
    traceback: str
    tail: list[str]


class Teller:
    """Speaks for one slot."""

    def __init__(self, name: str, child: Child, hub: Hub, herald: Herald, *, is_node: bool) -> None:
        self.last_exit: LastExit | None = None
        self._name = name
        self._child = child
        self._hub = hub
        self._herald = herald
        self._is_node = is_node

    def announce(self, identity: Identity, status: NodeStatus, endpoints: tuple[str, ...] = ()) -> None:
        """Bring the slot's record in the roster up to date; a command is supervised and is no node."""
        if self._is_node:
            why = str(self._child.view) if status is NodeStatus.GONE else ""
            self._herald.announce(identity.record(status, endpoints, why))

    def starting(self, pid: int) -> None:
        """A process is in the slot."""
        self.publish("slot-starting", pid=pid)

    def ready(self, pid: int, now: float, *, is_replacement: bool = False) -> None:
        """It has become ready, as the planned successor of another process if it ``is_replacement``."""
        child = self._child
        details: dict[str, object] = {"duration": now - (child.started_at or now)}
        if child.ended_at is not None:
            details["after"] = now - child.ended_at
        if is_replacement:
            details["replacement"] = True
        self.publish("slot-ready", pid=pid, **details)

    def ended(self, ending: Ending, words: Words) -> Event:
        """An incarnation has ended, and this is what follows."""
        exit, child = ending.exit, self._child
        details: dict[str, object] = {
            "cause": str(ending.cause),
            "code": exit.code,
            "signal": exit.signal,
            "uptime": round(ending.uptime, 6),
            "ready": ending.was_ready,
            "delay": ending.delay,
            "next": str(child.view) if ending.delay is None or child.state is State.PARKED else "restart",
            "tail": words.tail,
        }
        if exit.is_shortage and child.shortages:
            details["shortage"] = child.shortages
        if ending.is_handover:
            details["handover"] = True
        if ending.is_trial:
            details["trial"] = True
        if words.text:
            details["text"] = words.text
        if words.traceback:
            details["traceback"] = words.traceback
        said = self.publish("slot-exited", **details)
        self.last_exit = LastExit(ending.cause, exit.code, exit.signal, said.at, round(ending.uptime, 3))
        return said

    def follows(self, ending: Ending) -> None:
        """Say what the slot does now, unless it starts again at once."""
        if self._child.is_over:
            self.publish(f"slot-{self._child.view}")
        elif ending.delay:
            self.publish("slot-parked" if self._child.state is State.PARKED else "slot-backoff", delay=ending.delay)

    def publish(self, event: str, **details: object) -> Event:
        """Say that something happened to the slot."""
        return self._hub.publish(event, self._name, self._child.incarnation, **details)
