"""Plugins that cannot take their application with them: each runs in a process of its own, in a mesh that is embedded.

A program that is not asyncio's::

    from meshvisor import PluginError, PluginHost, PluginSpec

    with PluginHost({"thumbs": PluginSpec("thumbnails:Thumbnails", max_memory="512MiB")}) as host:
        picture = host.call("thumbs", "render", path)           # from any thread

and one that is::

    async with PluginHost(folder="plugins", on_event=print) as host:
        picture = await host.call("thumbs", "render", path)

``with`` runs the mesh in a thread of its own, and ``host`` is the ``PluginHost`` itself, whose methods block; ``async
with`` runs it on the loop that is there, and ``host`` is an ``AsyncPlugins`` with the same methods to be awaited. In
both cases no signal is taken, nothing of the process is changed, and no plugin code is imported into it. When the block
is left, or the process dies, however it dies, every plugin ends. This contains faults, not malice: plugins run as the
same user, and what they may do to files and networks, they may.

A plugin is a ``Worker`` like any other; its ``@rpc`` methods are what the application calls::

    class Thumbnails(Worker):
        version = "2.1"

        @rpc
        async def render(self, path: str, width: int = 200) -> bytes:
            ...
            await self.call("host", "progress", 0.5)            # what the application offers (``offer``)

What takes its time belongs into a thread there, or into an ``await``: a plugin whose loop stands still for longer than
its ``hang_timeout`` is taken to hang. Plugins may call each other by their names, as the nodes of any mesh.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any, Self, TypeVar

from ..shared.config import MeshConfig
from ..shared.core.roster import NodeRecord
from ..shared.errors import ConfigError, Fault
from .plugin_keeper import Keeper
from .plugin_mesh import Embedding
from .plugin_news import PluginEvent, PluginStatus
from .plugin_node import check_offer
from .plugin_spec import HOST, PluginSpec, Sources, check_specs, configurer

T = TypeVar("T")

_LAST_WAIT = 10.0  # seconds


class AsyncPlugins:
    """The plugins of an application, for its event loop: what ``async with PluginHost(...)`` gives.

    Every method is as the one of ``PluginHost``, and does not block; ``status`` is not to be awaited.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def call(
        self,
        plugin: str,
        method: str,
        /,
        *args: Any,
        timeout: float | EllipsisType | None = ...,
        retry: bool = False,
        **named: Any,
    ) -> Any:
        """See ``PluginHost.call``."""
        if isinstance(timeout, EllipsisType):
            timeout = self._keeper.timeout_of(plugin)
        return await self._keeper.call(plugin, method, args, named, timeout=timeout, retry=retry)

    async def enable(self, plugin: str, spec: PluginSpec | None = None) -> None:
        """See ``PluginHost.enable``."""
        await self._keeper.enable(plugin, spec)

    async def disable(self, plugin: str) -> None:
        """See ``PluginHost.disable``."""
        await self._keeper.disable(plugin)

    async def upgrade(self, plugin: str, spec: PluginSpec | None = None) -> None:
        """See ``PluginHost.upgrade``."""
        await self._keeper.upgrade(plugin, spec)

    def status(self) -> dict[str, PluginStatus]:
        """See ``PluginHost.status``."""
        return self._keeper.statuses()


class PluginHost:
    """Runs the plugins of an application; see the module for the two ways to enter it. It is entered once.

    Args:
        plugins: By name, what is to run: a ``PluginSpec``, or just the class as ``module:Class``. A name without a
            class is looked for in ``folder`` and under ``group``; what is found there and not named here runs, too,
            by what ``default`` says.
        folder: A folder of plugins; ``meshvisor.workers.plugin_finder`` tells what is one. Nothing in it is
            executed here.
        group: The group of entry points (``meshvisor.plugins``) under which installed packages declare plugins.
        default: How those run that are found.
        offer: An object whose ``@rpc`` methods plugins may call, as those of the node ``host``. They run on the loop
            of the mesh: with ``with`` that is another thread than the application's.
        on_event: Called with each ``PluginEvent``, on that loop as well; it must not block.
        name: How the mesh is called in ``ps`` and in the runtime directory, before its process's number.
        log_dir: Where what plugins print is kept; without one, it is not. It goes to the loggers
            ``meshvisor.plugins.NAME`` in any case.
        runtime_dir: Where sockets are, instead of the usual place.

    A plugin that crashes, hangs, grows or floods is ended and started again, and whoever called it gets a
    ``PluginError`` (with ``retry=True``: the result of the next try). One that does so again and again is parked: tried
    now and then. One that is not what the application needs (``PluginSpec``) is refused, and not tried again.

    Raises:
        ConfigError: If anything of that is wrong; ``.faults`` are all there are.
    """

    def __init__(
        self,
        plugins: Mapping[str, PluginSpec | str] | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
        group: str = "",
        default: PluginSpec | None = None,
        offer: object | None = None,
        on_event: Callable[[PluginEvent], None] = lambda event: None,
        name: str = "plugins",
        log_dir: str | os.PathLike[str] | None = None,
        runtime_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        try:
            check_offer(offer)
        except TypeError as error:
            raise ConfigError("", [Fault(0, "offer", str(error))]) from None
        check_specs(plugins, default)
        sources = Sources(
            dict(plugins or {}), Path(folder).absolute() if folder is not None else None, group, default or PluginSpec()
        )
        configure = configurer(name, log_dir=log_dir, runtime_dir=runtime_dir)
        self._keeper = Keeper(sources, configure, _embed, offer, on_event)
        self._plugins = AsyncPlugins(self._keeper)
        self._thread: _LoopThread | None = None
        self._is_used = False

    # Entered with `async with`.

    async def __aenter__(self) -> AsyncPlugins:
        """Start all plugins, on the running loop; return when each is ready, or it is known why not.

        Raises:
            PluginError: If one that is ``required`` is not ready.
            SupervisorError: If there can be no mesh here.
        """
        self._use()
        await self._keeper.start()
        return self._plugins

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._keeper.stop()

    # Entered with `with`.

    def __enter__(self) -> Self:
        """Start all plugins, in a thread of their own; raises as ``__aenter__``."""
        self._use()
        self._thread = _LoopThread()
        try:
            self._thread.run(self._keeper.start())
        except BaseException:
            self._thread.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._thread is not None
        try:
            self._thread.run(self._keeper.stop())
        finally:
            self._thread.close()

    def call(
        self,
        plugin: str,
        method: str,
        /,
        *args: Any,
        timeout: float | EllipsisType | None = ...,
        retry: bool = False,
        **named: Any,
    ) -> Any:
        """Call an ``@rpc`` method of a plugin and return its result, as the type that ``interface`` says.

        Args:
            plugin: Its name. One that is just being restarted is waited for.
            method: The method's name.
            *args: Its arguments by position.
            timeout: How long to wait, in seconds (None: for ever); without one, the plugin's ``call_timeout``.
            retry: Whether to call again when the plugin dies meanwhile. The method may then run twice, in two
                processes, never twice in one.
            **named: Its arguments by name.

        Raises:
            PluginError: If the plugin dies under the call, is not there to be called, or returns something else than
                was agreed; ``.fault`` says which.
            RemoteError: If the method raised, does not exist, or cannot take these arguments.
            CallTimeout: If there was no result in time.
            UnknownPeer: If there is no such plugin.
        """
        return self._run(self._plugins.call(plugin, method, *args, timeout=timeout, retry=retry, **named))

    def enable(self, plugin: str, spec: PluginSpec | None = None) -> None:
        """Start a plugin that is disabled, refused or parked, or one that is new, and wait until it is ready.

        Args:
            plugin: Its name.
            spec: What it is, if that is new; without one, and for a name that is new, it has to be found.

        Raises:
            PluginError: If it does not become ready, or is refused.
            ConfigError: If it is not found, or ``spec`` is wrong; nothing is changed then.
        """
        self._run(self._plugins.enable(plugin, spec))

    def disable(self, plugin: str) -> None:
        """Stop a plugin, and wait until it is down. It stays down until it is enabled."""
        self._run(self._plugins.disable(plugin))

    def upgrade(self, plugin: str, spec: PluginSpec | None = None) -> None:
        """Start a plugin anew, with the code that is there now, and wait until it is ready. The others go on.

        Args:
            plugin: Its name.
            spec: What it is from now on; without one, as before.

        Raises:
            PluginError: If it does not become ready, or is refused. If it was to be something else than before, by its
                class or by ``spec``, it is then started again as what it was.
            ConfigError: If it is not found, or ``spec`` is wrong; nothing is changed then.
        """
        self._run(self._plugins.upgrade(plugin, spec))

    def status(self) -> dict[str, PluginStatus]:
        """Return how all plugins are now, by name."""

        async def ask() -> dict[str, PluginStatus]:
            return self._plugins.status()

        return self._run(ask())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._thread is None:
            coroutine.close()
            raise RuntimeError("this is for `with PluginHost(...)`; in `async with`, use the object that it gives")
        return self._thread.run(coroutine)

    def _use(self) -> None:
        if self._is_used:
            raise RuntimeError("a PluginHost is entered once; make another one")
        self._is_used = True


class _LoopThread:
    """An event loop in a thread of its own, which others may use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = True
        loop: Future[asyncio.AbstractEventLoop] = Future()
        # Not waited for at the program's end, should it forget to leave its block: plugins end with their parent.
        self._thread = threading.Thread(target=self._work, args=(loop,), name="meshvisor-plugins", daemon=True)
        self._thread.start()
        self._loop = loop.result()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` there and return its result; what interrupts the wait, cancels it."""
        with self._lock:
            if not self._is_open or threading.current_thread() is self._thread:
                coroutine.close()
                why = "is called from its own thread, which would wait for itself" if self._is_open else "has ended"
                raise RuntimeError(f"the host {why}")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the thread, and whatever still runs in it."""
        with self._lock:  # what is asked for before this is begun there before the end
            self._is_open = False
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _work(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        async def main() -> None:
            self._over = asyncio.Event()
            ready.set_result(asyncio.get_running_loop())
            await self._over.wait()
            # Somebody who was interrupted did not see how what he had begun came to its end.
            if others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others, timeout=_LAST_WAIT)

        asyncio.run(main())


def _embed(config: MeshConfig, told: Callable[[Iterable[NodeRecord]], None]) -> Embedding:
    # The one place where workers and supervisor meet; see tests/test_layering.py.
    from ..supervisor.embedding import Embedding as SupervisorsEmbedding

    return SupervisorsEmbedding(config, HOST, told)
