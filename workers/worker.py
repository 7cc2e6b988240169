"""The class that an application's workers are made from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

from ..shared.core.message import Message
from ..shared.errors import PeerLeft, PeerLost
from .peers import Peer
from .routing import Key
from .rpc import RpcMethod, is_coroutine_function, rpc_methods
from .rpc import rpc as rpc
from .timers import every as every
from .timers import timers

if TYPE_CHECKING:
    from .node import Node

P = ParamSpec("P")
T = TypeVar("T")

HOOKS = {
    "on_start": "self",
    "run": "self",
    "on_peer_up": "self, peer",
    "on_message": "self, message",
    "on_peer_down": "self, peer, reason",
    "on_stop": "self",
}
_ATTRIBUTES = ("name", "settings", "peers", "incarnation")
_METHODS = ("send", "broadcast", "call", "run_blocking", "stop")


class Worker:
    """One node of a mesh: subclass it, name the subclass in mesh.toml, and each slot gets a process with one instance.

    A worker that counts words for others::

        from meshvisor import Message, Peer, PeerLeft, PeerLost, Worker, every, rpc

        class Counter(Worker):
            async def on_start(self) -> None:
                # Runs in the worker's event loop, as everything here, before the slot counts as ready.
                # Sending and calling work already; what arrives meanwhile waits until this has returned.
                self.words = 0
                self.smallest = self.settings.get("smallest", 1)

            async def run(self) -> None:
                # The worker's own work, beside the hooks below, from when it is ready. Returning ends the
                # process with status 0. Without `run` a worker lives until it is stopped.
                for path in self.settings.get("files", []):
                    # What blocks, or computes for long, belongs into a thread: a loop that makes no turn
                    # for `hang_timeout` is taken for hung, and the process is replaced.
                    text = await self.run_blocking(Path(path).read_text)
                    # A group's name means one of its ready replicas, with a key always the same one for that
                    # key. With `retry` another one is asked if this one dies before it has answered.
                    count = await self.call("counter", "count", text, timeout=5.0, retry=True)
                    await self.send("sink", f"{path}: {count}".encode(), key=path)

            @every("10s")
            async def report(self) -> None:
                # As soon as the worker is ready, and then at every tenth second; if it takes longer than
                # that, the runs that would overlap are left out.
                ready = sum(peer.ready for peer in self.peers.values())
                await self.broadcast(f"{self.words} words; {ready} others are ready".encode())

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
                # The end was asked for: `run` and the timers were cancelled and no message is handed over any
                # more. Sending and calling still work; what was sent is delivered after this, and calls that
                # are served here are finished, within the stop time-out.
                await self.send("sink", b"bye")

            @rpc
            def count(self, text: str, smallest: int = 1) -> int:
                # What others call. Arguments are what the annotations say, or the caller gets an error that
                # names the one that is not; so is the result. A plain `def` runs between two turns of the
                # loop, and holds it up meanwhile: for what takes a moment.
                return sum(len(word) >= smallest for word in text.split())

            @rpc
            async def lengths(self, words: numpy.ndarray, language: str) -> numpy.ndarray:
                # An `async def` may wait, and many run at the same time. It is cancelled when its caller gives
                # up, and what it calls itself has no more time than that one still has. Large buffers and
                # arrays are not copied on their way.
                edges = await self.call("dictionary", "edges", language)
                return (await self.run_blocking(numpy.histogram, words, edges))[0]

    All hooks are optional. An exception that leaves one of them, or a timer, ends the process with status 1 and its
    traceback, and the supervisor decides what follows; ``SystemExit(n)`` ends it with n. One that leaves an ``@rpc``
    method goes to the caller.

    A subclass needs no ``__init__``; one it has takes no arguments, need not call ``super().__init__()`` and may use
    what stands below, except for sending. In a rolling restart it runs while the process whose place it takes still
    works: what two cannot have at once (a port, a lock) is for ``on_start``. Every name without an underscore that is
    not listed here is the subclass's own:

    - ``name``, ``settings``, ``peers``, ``incarnation``
    - ``send``, ``broadcast``, ``call``, ``run_blocking``, ``stop``
    """

    _node: Node | None = None
    _rpc_methods: ClassVar[Mapping[str, RpcMethod]] = {}
    _timers: ClassVar[Mapping[str, float]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _ATTRIBUTES:
            if name in vars(cls):
                raise TypeError(f"{cls.__qualname__}.{name} would hide the worker's own {name}; choose another name")
        methods = rpc_methods(cls)
        marked = timers(cls)
        for name in (*HOOKS, *_METHODS):
            if name in methods or name in marked:
                what = "an @rpc method" if name in methods else "run by @every"
                raise TypeError(f"{cls.__qualname__}.{name} cannot be {what}: the name is taken")
        for name, takes in HOOKS.items():
            hook = vars(cls).get(name)
            if inspect.isfunction(hook):
                _check_hook(f"{cls.__qualname__}.{name}", hook, takes)
        cls._rpc_methods = methods
        cls._timers = marked

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
            TypeError, ValueError: If ``body`` is no buffer, or has more than 64 MiB.
        """
        return await self._of_mesh.send(target, body, key, timeout)

    async def broadcast(self, body: bytes | bytearray | memoryview) -> int:
        """Send ``body`` to every other node that is linked now, and return how many accepted it."""
        return await self._of_mesh.broadcast(body)

    def call(  # no `async def`: it would be one more coroutine for every call to wake up through
        self,
        target: str,
        method: str,
        /,
        *args: Any,
        key: Key | None = None,
        timeout: float | None = 30.0,
        retry: bool = False,
        **named: Any,
    ) -> Coroutine[Any, Any, Any]:
        """Call an ``@rpc`` method of a node, or of one of a group, and return its result (``await`` it).

        Waits for a link as ``send`` does, and for its turn while 1,024 calls, or 64 MiB, are under way to that node.
        Within an ``@rpc`` method, and in what that starts while it runs, a call has no more time than is left for the
        one that is served: its deadline travels along. Cancelling the caller cancels the method.

        Args:
            target: A node's name, or a group's, as in ``send``.
            method: The method's name.
            *args: Its arguments by position. Arrays, and buffers of 64 KiB or more, are not copied on their way: they
                must not be changed before the call has ended. One may have 64 MiB, all of them together 256 MiB, and
                so may those of a result; everything else together 64 MiB.
            key: As in ``send``.
            timeout: How long to wait for the result, in seconds (None: for ever). Then the method is cancelled, or if
                it had not begun it never does.
            retry: Whether to call again when the node dies meanwhile: its next incarnation, or another replica. The
                method may then run twice, in two incarnations, never twice in one. On average every such call may be
                made again once within a minute; when this budget is spent, a call ends as without ``retry``.
            **named: Its arguments by name.

        Raises:
            RemoteError: If the method raised, does not exist, cannot take these arguments, or returned something else
                than it says.
            CallTimeout: If there was no result in time.
            PeerLost, PeerLeft: If the node ended first (without ``retry``). The method may have run, or not.
            UnknownPeer, PeerUnavailable: As in ``send``.
            TypeError, ValueError: If an argument cannot be sent.
        """
        return self._of_mesh.call(target, method, args, named, key=key, timeout=timeout, retry=retry)

    def run_blocking(self, function: Callable[P, T], /, *args: P.args, **named: P.kwargs) -> Coroutine[Any, Any, T]:
        """Run a ``function`` that blocks, or computes for long, in a thread, and return its result (``await`` it).

        The event loop goes on meanwhile. Up to 8 run at a time, further ones wait for their turn. What runs cannot be
        stopped: if the caller is cancelled, or the process ends, nobody waits for it. There is no thread before the
        first call.
        """
        return self._of_mesh.run_blocking(function, *args, **named)

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


def _check_hook(where: str, hook: Callable[..., Any], takes: str) -> None:
    if not is_coroutine_function(hook):
        raise TypeError(f"{where} must be `async def` (and not a generator)")
    try:
        inspect.signature(hook).bind(*takes.split())
    except TypeError:
        raise TypeError(f"{where} is called as a hook, and must take ({takes})") from None


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
