"""Every error that meshvisor raises on purpose.

    MeshError
    ├── ConfigError            a mesh.toml with faults (``.faults``: all of them)
    ├── LinkError
    │   ├── ConnectFailed      no endpoint could be reached (``.attempts``: why, one by one)
    │   ├── HandshakeError     the peer was reached and is not who, or what, we can talk to
    │   ├── LinkClosed         this side closed the link; nothing more can be sent or received on it
    │   ├── PeerLost           the peer's incarnation is gone, and with it what it had not acknowledged
    │   ├── PeerLeft           the peer said goodbye
    │   ├── UnknownPeer        no node and no group has this name
    │   ├── PeerUnavailable    the node is known, and is not coming back by itself
    │   ├── QueueFull          ``send_nowait`` found the window closed
    │   └── SendTimeout        ``send`` waited its whole ``timeout`` for room or for a link (also a TimeoutError)
    ├── CallError
    │   ├── CallTimeout        the reply did not come in time (also a TimeoutError)
    │   └── RemoteError        the method raised; the text holds the remote traceback
    ├── PluginError            a plugin failed the application that hosts it (``.fault``: how)
    ├── RetryAfter             an adapter or a peer asks for a pause (``.seconds``)
    ├── SegmentError           shared memory that cannot be made, opened or used (``.segment``, ``.reason``)
    │   └── BlacklistError     the same, of a shared blacklist
    └── SupervisorError        the supervisor cannot do what was asked

Errors carry their facts as typed attributes and make their text from them, so that nobody has to parse a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class MeshError(Exception):
    """The root of all errors of meshvisor."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong in a configuration file.

    ``line`` counts from 1 (0: the file as a whole); ``path`` is the key, dotted (``workers.counter.replicas``).
    """

    line: int
    path: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        hint = f' (did you mean "{self.hint}"?)' if self.hint else ""
        return f"{where}{self.message}{hint}"


class ConfigError(MeshError):
    """A configuration that cannot be used; ``faults`` holds everything that is wrong with it, in the file's order.

    ``file`` is empty, and lines are 0, for a configuration that a program has made.
    """

    def __init__(self, file: str, faults: Sequence[Fault]) -> None:
        self.file = file
        self.faults = tuple(faults)
        super().__init__(file, self.faults)

    def __str__(self) -> str:
        return "\n".join(f"{self.file}:{fault.line}: {fault}" if self.file else str(fault) for fault in self.faults)


class LinkError(MeshError):
    """A link, or the way to one, failed."""


class ConnectFailed(LinkError):
    """No endpoint of a peer could be reached; ``attempts`` names each endpoint tried and why it failed."""

    def __init__(self, peer: str, attempts: Sequence[tuple[str, str]], reason: str = "") -> None:
        self.peer = peer
        self.attempts = tuple(attempts)
        self.reason = reason
        super().__init__(peer, self.attempts, reason)

    def __str__(self) -> str:
        tried = "; ".join(f"{endpoint}: {why}" for endpoint, why in self.attempts) or "no endpoint was tried"
        reason = f" {self.reason}" if self.reason else ""
        return f"cannot connect to {self.peer or 'the peer'}{reason} ({tried})"


class HandshakeError(LinkError):
    """The two sides cannot agree to talk; ``fatal`` when trying again cannot help (a wrong secret, a wrong version)."""

    def __init__(self, reason: str, *, fatal: bool = False) -> None:
        self.reason = reason
        self.fatal = fatal
        super().__init__(reason)

    def __str__(self) -> str:
        return f"handshake failed: {self.reason}"


class LinkClosed(LinkError):
    """This side closed the link."""

    def __init__(self, peer: str = "") -> None:
        self.peer = peer
        super().__init__(peer)

    def __str__(self) -> str:
        return f"the link to {self.peer or 'the peer'} is closed"


class PeerLost(LinkError):
    """The peer's incarnation ended: messages ``first`` to ``last`` (``count`` of them) were never acknowledged.

    They may or may not have been handled before the end. ``count`` is 0, and ``first`` one above ``last``, when
    everything sent had been acknowledged.
    """

    def __init__(self, peer: str, incarnation: int = 0, first: int = 1, last: int = 0, count: int = 0) -> None:
        self.peer = peer
        self.incarnation = incarnation
        self.first = first
        self.last = last
        self.count = count
        super().__init__(peer, incarnation, first, last, count)

    def __str__(self) -> str:
        life = f" (incarnation {self.incarnation})" if self.incarnation else ""
        if not self.count:
            return f"peer {self.peer}{life} is gone; everything sent to it had been acknowledged"
        return f"peer {self.peer}{life} is gone; {_span(self.first, self.last)} had not been acknowledged"


class PeerLeft(LinkError):
    """The peer said goodbye and will not come back under this incarnation.

    ``first``, ``last`` and ``count`` name what it had not acknowledged by then, as in ``PeerLost``. In a mesh there is
    nothing of that: a node that leaves messages behind is a ``PeerLost``.
    """

    def __init__(self, peer: str, incarnation: int = 0, first: int = 1, last: int = 0, count: int = 0) -> None:
        self.peer = peer
        self.incarnation = incarnation
        self.first = first
        self.last = last
        self.count = count
        super().__init__(peer, incarnation, first, last, count)

    def __str__(self) -> str:
        if not self.count:
            return f"peer {self.peer} left"
        return f"peer {self.peer} left, and had not acknowledged {_span(self.first, self.last)}"


def _span(first: int, last: int) -> str:
    return f"message {first}" if first == last else f"messages {first} to {last}"


class UnknownPeer(LinkError):
    """No node and no group has this name; ``known`` lists those there are."""

    def __init__(self, peer: str, known: Sequence[str] = ()) -> None:
        self.peer = peer
        self.known = tuple(known)
        super().__init__(peer, self.known)

    def __str__(self) -> str:
        known = ", ".join(self.known)
        return f"no node or group is called {self.peer!r}" + (f" (known: {known})" if known else "")


class PeerUnavailable(LinkError):
    """The node is known, and will not come back by itself: ``why`` is its state (stopped, failed, parked)."""

    def __init__(self, peer: str, why: str = "stopped") -> None:
        self.peer = peer
        self.why = why
        super().__init__(peer, why)

    def __str__(self) -> str:
        return f"{self.peer} is {self.why} and not coming back by itself"


class QueueFull(LinkError):
    """The window towards the peer is closed: ``messages`` and ``size`` bytes wait for its acknowledgement."""

    def __init__(self, peer: str, messages: int, size: int) -> None:
        self.peer = peer
        self.messages = messages
        self.size = size
        super().__init__(peer, messages, size)

    def __str__(self) -> str:
        return f"{self.messages} messages ({self.size} bytes) wait for {self.peer}; use send, which waits for room"


class SendTimeout(LinkError, TimeoutError):
    """A message was not accepted within its ``timeout`` (seconds); it was not sent and will not be."""

    def __init__(self, peer: str, timeout: float) -> None:
        self.peer = peer
        self.timeout = timeout
        super().__init__(peer, timeout)

    def __str__(self) -> str:
        return f"no room or no link towards {self.peer} within {self.timeout:g} s"


class CallError(MeshError):
    """A call had no result."""


class CallTimeout(CallError, TimeoutError):
    """The reply did not come within ``timeout`` seconds; the method may or may not have run."""

    def __init__(self, target: str, method: str, timeout: float) -> None:
        self.target = target
        self.method = method
        self.timeout = timeout
        super().__init__(target, method, timeout)

    def __str__(self) -> str:
        return f"{self.target}.{self.method} did not answer within {self.timeout:g} s"


class RemoteError(CallError):
    """The method raised at the other end: ``kind`` is the exception's type, ``traceback`` its text over there."""

    def __init__(self, target: str, method: str, kind: str, message: str, traceback: str = "") -> None:
        self.target = target
        self.method = method
        self.kind = kind
        self.message = message
        self.traceback = traceback
        super().__init__(target, method, kind, message, traceback)

    def __str__(self) -> str:
        text = f"{self.target}.{self.method} raised {self.kind}: {self.message}"
        return f"{text}\n\nRemote traceback:\n{self.traceback.rstrip()}" if self.traceback else text


class PluginFault(StrEnum):
    """How a plugin failed."""

    CRASHED = "crashed"  # its process ended by itself, or by a signal
    HUNG = "hung"  # its event loop stood still, and it was killed
    FROZEN = "frozen"  # it was stopped by a signal, and was killed
    MEMORY = "memory"  # it grew beyond its limit, or memory ran out, and it was ended
    FLOODED = "flooded"  # it said more to the host than it may, and was killed
    START_TIMEOUT = "start-timeout"  # it was not ready in time, and was killed
    STOPPED = "stopped"  # it is disabled, or was while it worked; or it has ended, and is not restarted
    PARKED = "parked"  # it has failed too often, and is tried only now and then
    FAILED = "failed"  # it has ended badly, and is not restarted
    REFUSED = "refused"  # it is not what the host needs: its version, or what it offers
    BAD_RESULT = "bad-result"  # it returned something else than was agreed


class PluginError(MeshError):
    """A plugin could not do what it was asked to; ``reason`` says it in words, ``traceback`` is the plugin's own.

    What a method raises is a ``RemoteError``, as between workers, and one that takes too long a ``CallTimeout``: then
    the plugin itself is well.
    """

    def __init__(self, plugin: str, fault: PluginFault, reason: str, traceback: str = "") -> None:
        self.plugin = plugin
        self.fault = fault
        self.reason = reason
        self.traceback = traceback
        super().__init__(plugin, fault, reason, traceback)

    def __str__(self) -> str:
        text = f"plugin {self.plugin} {self.reason}"
        return f"{text}\n\nWhere it was:\n{self.traceback.rstrip()}" if self.traceback else text


class RetryAfter(MeshError):
    """The other side asks not to be tried again for ``seconds``; a transport adapter may raise it from ``connect``."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"seconds must be a finite number, 0 or more, not {seconds!r}")
        self.seconds = seconds
        self.reason = reason
        super().__init__(seconds, reason)

    def __str__(self) -> str:
        return f"asked to try again in {self.seconds:g} s" + (f": {self.reason}" if self.reason else "")


class SegmentError(MeshError):
    """A segment of shared memory cannot be made, opened or used; ``segment`` names it, ``reason`` says what to do."""

    def __init__(self, segment: str, reason: str) -> None:
        self.segment = segment
        self.reason = reason
        super().__init__(segment, reason)

    def __str__(self) -> str:
        return f"{self.segment}: {self.reason}"


class BlacklistError(SegmentError):
    """A shared blacklist cannot be made, opened or used."""


class SupervisorError(MeshError):
    """The supervisor cannot do what it was asked to."""
