"""The class that an application's workers are made from."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..shared.core.message import Message
from ..shared.errors import PeerLeft, PeerLost
from .peers import Peer
from .routing import Key
from .rpc import RpcMethod, rpc_methods
from .rpc import rpc as rpc

if TYPE_CHECKING:
    from .node import Node

HOOKS = ("on_start", "run", "on_peer_up", "on_message", "on_peer_down", "on_stop")
_ATTRIBUTES = ("name", "settings", "peers", "incarnation")
_METHODS = ("send", "broadcast", "call", "stop")


class Worker:
    """One node of a mesh: subclass it, name the subclass in mesh.toml, and each slot gets a process with one instance.

    A worker that counts words for others::

        class Counter(Worker):
            async def on_start(self) -> None:
                # Runs in the worker's event loop, as everything here, before the slot counts as ready.
                # Sending and calling work already; what arrives meanwhile waits until this has returned.
                self.words = 0
                self.smallest = self.settings.get("smallest", 1)

            async def run(self) -> None:
                # The worker's own work, beside the hooks below, from when it is ready. Returning ends the
                # process with status 0. Without `run` a worker lives until it is stopped.
                while True:
                    await asyncio.sleep(10)
                    await self.send("sink", str(self.words).encode())

            async def on_peer_up(self, peer: Peer) -> None:
                # A link to one life of another node is up: once per life, before its first message.
                print(f"hello, {peer}")

            async def on_message(self, message: Message) -> None:
                # One at a time, in order per sender, the senders in turn. The message is acknowledged when
                # this has returned; until then it counts against what its sender may have under way.
                self.words += len(message.body.split())

            async def on_peer_down(self, peer: Peer, reason: PeerLost | PeerLeft) -> None:
                # That life is over; all its messages were handled before. It will be up again, or not.
                print(f"{peer} is gone: {reason}")

            async def on_stop(self) -> None:
                # The end was asked for: `run` was cancelled and no message is handed over any more. Sending
                # and calling still work; what was sent is delivered after this, within the stop time-out.
                await self.send("sink", b"bye")

            @rpc
            async def count(self, text: str, smallest: int = 1) -> int:
                # Others write `await self.call("counter", "count", text)`. Many may run at the same time.
                return sum(len(word) >= smallest for word in text.split())

    All hooks are optional. An exception that leaves one of them ends the process with status 1 and its traceback, and
    the supervisor decides what follows; ``SystemExit(n)`` ends it with n. One that leaves an ``@rpc`` method goes to
    the caller. A subclass needs no ``__init__``; one it has takes no arguments, need not call ``super().__init__()``
    and may use what stands below, except for sending. In a rolling restart it runs while the process whose place it
    takes still works: what two cannot have at once (a port, a lock) is for ``on_start``. Every name without an
    underscore that is not listed here is the subclass's own:

    - ``name``, ``settings``, ``peers``, ``incarnation``
    - ``send``, ``broadcast``, ``call``, ``stop``
    """

    _node: Node | None = None
    _rpc_methods: ClassVar[Mapping[str, RpcMethod]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _ATTRIBUTES:
            if name in vars(cls):
                raise TypeError(f"{cls.__qualname__}.{name} would hide the worker's own {name}; choose another name")
        for name in HOOKS:
            hook = vars(cls).get(name)
            if inspect.isfunction(hook) and not _is_coroutine_function(hook):
                raise TypeError(f"{cls.__qualname__}.{name} must be `async def` (and not a generator)")
        methods = rpc_methods(cls)
        for name in (*HOOKS, *_METHODS):
            if name in methods:
                raise TypeError(f"{cls.__qualname__}.{name} cannot be an @rpc method: the name is taken")
        cls._rpc_methods = methods

    # What a worker knows.

    @property
    def name(self) -> str:
        """The name of this node, which is that of its slot."""
        return self._of_mesh.name

    @property
    def settings(self) -> dict[str, Any]:
        """The worker's ``settings`` from mesh.toml."""
        return self._of_mesh.settings

    @property
    def incarnation(self) -> int:
        """Which life of the slot this is, from 1."""
        return self._of_mesh.incarnation

    @property
    def peers(self) -> Mapping[str, Peer]:
        """All other nodes by name, as they are now, linked or not."""
        return self._of_mesh.peers

    # What a worker can do.

    async def send(
        self, target: str, body: bytes | bytearray | memoryview, *, key: Key | None = None, timeout: float | None = None
    ) -> int:
        """Send ``body`` to a node, or to one of a group, and return the message's number in its session (from 1).

        Waits while there is no link yet or the receiver is behind by a whole window. Once accepted, a message is
        delivered exactly once and in order, over any number of broken connections, unless the receiver's process
        ends: then ``on_peer_down`` tells which messages were not acknowledged.

        Args:
            target: A node's name, or a group's: then the ready replicas take turns, this node excluded.
            body: Any contiguous buffer.
            key: Always picks the same replica of a group for the same key, and waits for it while it is down.
            timeout: How long to wait, in seconds.

        Raises:
            UnknownPeer: If there is no such node or group.
            PeerUnavailable: If it is stopped, failed or parked.
            SendTimeout: If the message was not accepted in time; it will not be sent.
        """
        return await self._of_mesh.send(target, body, key, timeout)

    async def broadcast(self, body: bytes | bytearray | memoryview) -> int:
        """Send ``body`` to every other node that is linked now, and return how many accepted it."""
        return await self._of_mesh.broadcast(body)

    async def call(
        self,
        target: str,
        method: str,
        /,
        *args: Any,
        key: Key | None = None,
        timeout: float | None = 30.0,
        retry: bool = False,
        **named: Any,
    ) -> Any:
        """Call an ``@rpc`` method of a node, or of one of a group, and return its result.

        Args:
            target: A node's name, or a group's, as in ``send``.
            method: The method's name.
            *args: Its arguments by position.
            key: As in ``send``.
            timeout: How long to wait for the result, in seconds (None: for ever). Then the method is cancelled.
            retry: Whether to call again when the node dies meanwhile: its next incarnation, or another replica. The
                method may then run twice, in two incarnations, never twice in one.
            **named: Its arguments by name.

        Raises:
            RemoteError: If the method raised, does not exist, or cannot take these arguments.
            CallTimeout: If there was no result in time.
            PeerLost, PeerLeft: If the node ended first (without ``retry``).
            UnknownPeer, PeerUnavailable: As in ``send``.
            TypeError: If an argument cannot be sent.
        """
        return await self._of_mesh.call(target, method, args, named, key=key, timeout=timeout, retry=retry)

    def stop(self, status: int = 0) -> None:
        """Ask for the end of this process with ``status``: ``on_stop`` runs first. Returns at once."""
        self._of_mesh.stop(status)

    # What a subclass may do.

    async def on_start(self) -> None:
        """Prepare; the slot is ready when this has returned."""

    async def run(self) -> None:
        """Do the worker's own work; returning ends the process with status 0. Not overridden: nothing to do."""

    async def on_peer_up(self, peer: Peer) -> None:
        """Hear that a life of another node is linked."""

    async def on_message(self, message: Message) -> None:
        """Handle one message. It is acknowledged on return."""

    async def on_peer_down(self, peer: Peer, reason: PeerLost | PeerLeft) -> None:
        """Hear that it is over. ``PeerLost`` tells which of our messages were not acknowledged."""

    async def on_stop(self) -> None:
        """Bring things to an end."""

    @property
    def _of_mesh(self) -> Node:
        if self._node is None:
            name = type(self).__name__
            raise RuntimeError(f"this {name} is not part of a mesh: the supervisor makes workers, not the program")
        return self._node


def _is_coroutine_function(hook: Any) -> bool:
    # A hook may be decorated, by a decorator that uses functools.wraps: then what it wraps can be seen.
    return inspect.iscoroutinefunction(inspect.unwrap(hook)) or inspect.iscoroutinefunction(hook)


def make_worker(cls: type[Worker], node: Node) -> Worker:
    """Return a new ``cls`` that is part of the mesh from its ``__init__`` on, whatever that does or does not call.

    Raises:
        TypeError: If its ``__init__`` needs arguments.
    """
    worker = cls.__new__(cls)
    worker._node = node
    if (
        cls.__init__ is object.__init__
    ):  # the usual case: nothing to ask a signature, which takes 0.6 ms in a fresh process
        return worker
    try:
        inspect.signature(worker.__init__).bind()  # type: ignore[misc]  # the instance's own, as cls() would call it
    except TypeError as error:
        raise TypeError(f"{cls.__qualname__}.__init__ must do without arguments ({error}); use settings") from None
    worker.__init__()  # type: ignore[misc]  # what cls() does, but after the node is known
    return worker
