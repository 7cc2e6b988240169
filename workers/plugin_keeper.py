"""All plugins of one application, on the event loop that is running: kept going, called, changed, and reported on.

A supervisor keeps their processes, a node of the application's own talks to them; this is where what the one tells of
ends and what the other tells of links become the answer to a call. All of it belongs to one loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..shared.config import MeshConfig, WorkerConfig
from ..shared.core.roster import NodeRecord
from ..shared.errors import (
    LinkClosed,
    PeerLeft,
    PeerLost,
    PeerUnavailable,
    PluginError,
    PluginFault,
    SupervisorError,
    UnknownPeer,
)
from .ending import Ending
from .introduction import Introduction
from .plugin_finder import forget_old_code
from .plugin_mesh import Embed, Happening
from .plugin_meter import Meter
from .plugin_news import PluginEvent, PluginNews, PluginStatus, ending_of, unavailable
from .plugin_node import HostNode, make_node
from .plugin_spec import Plan, PluginSpec, Sources

log = logging.getLogger("meshvisor.plugins")

_DEATH_NOTICE = 2.0
"""Seconds that a process may take to end once it has said goodbye, or its link is known to be dead."""


class Keeper:
    """See the module. ``embed`` makes the mesh; ``on_event`` hears what happens, on the loop, and must not block."""

    def __init__(
        self,
        sources: Sources,
        configure: Callable[[Mapping[str, Plan]], MeshConfig],
        embed: Embed,
        offer: object | None,
        on_event: Callable[[PluginEvent], None],
    ) -> None:
        self._sources = sources
        self._configure = configure
        self._offer = offer
        self._on_event = on_event
        self._plans = sources.plans()
        self._mesh = embed(configure(self._plans), self._told)
        self._node: HostNode | None = None
        self._life: asyncio.Task[Ending] | None = None
        self._lock = asyncio.Lock()  # one change at a time
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._settled: set[str] = set()  # those of which it is known how their first start has gone
        self._latest: dict[str, PluginEvent] = {}  # the latest end, or the refusal that counts
        self._versions: dict[str, str] = {}
        self._meters: dict[str, Meter] = {}
        self._flooded: set[str] = set()
        self._is_stopping = False
        self._before: Plan | None = None  # while a plugin is changed: what it may have to go back to

    # Its life.

    async def start(self) -> None:
        """Start all plugins; return when each is ready, or it is known why not.

        Raises:
            PluginError: If one that is required is not ready.
            SupervisorError: If there can be no mesh here.
        """
        supervisor = self._mesh.supervisor
        supervisor.subscribe(self._happened)
        supervisor.subscribe_output(_printed)
        await self._mesh.start()
        try:
            life = self._join()
            await self._until(lambda: life.done() or self._settled >= self._plans.keys())
            if life.done():
                raise SupervisorError("the application cannot be a node of its mesh; stderr tells why")
            for plan in self._plans.values():
                if plan.spec.required and not self.status(plan.name).is_ready:
                    raise self._trouble(plan.name)
        except BaseException:
            await self.stop()
            raise

    def _join(self) -> asyncio.Task[Ending]:
        """Be a node of the mesh, as long as the task lives."""
        member = self._mesh.member
        self._node = make_node(member.assignment, self, self._offer, member.report)
        self._life = asyncio.create_task(self._node.live(), name="meshvisor-host")
        self._life.add_done_callback(lambda _: self._changed.set())
        return self._life

    async def stop(self) -> None:
        """Stop all plugins, each within its ``stop_timeout``, and leave nothing behind."""
        self._is_stopping = True
        try:
            await self._mesh.stop()
        finally:
            if self._node is not None and self._life is not None:
                self._node.stop()
                await asyncio.wait([self._life, *self._tasks])

    # Asked by the application.

    async def call(
        self,
        plugin: str,
        method: str,
        args: tuple[Any, ...],
        named: dict[str, Any],
        *,
        timeout: float | None,
        retry: bool,
    ) -> Any:
        """Call a method of a plugin; see ``PluginHost.call``."""
        plan = self._plan(plugin)
        if plugin not in self._meters:
            self._meters[plugin] = self._new_meter(plugin)
        self._meters[plugin].allow()
        assert self._node is not None
        try:
            value = await self._node.call(plugin, method, args, named, key=None, timeout=timeout, retry=retry)
        except (PeerLost, PeerLeft) as lost:
            raise await self._explained(plugin, lost.incarnation) from lost
        except PeerUnavailable as error:
            raise unavailable(plugin, error.why, self._latest.get(plugin)) from error
        except LinkClosed as error:
            raise PluginError(plugin, PluginFault.STOPPED, "is stopped: its host has ended") from error
        return plan.contract.result(plugin, method, value)

    def timeout_of(self, plugin: str) -> float | None:
        """Return how long a call to a plugin may take that says nothing itself."""
        return self._plan(plugin).spec.call_timeout

    async def enable(self, name: str, spec: PluginSpec | None) -> None:
        """Start a plugin, which may be a new one; see ``PluginHost.enable``."""
        async with self._lock:
            if name in self._plans and spec is None:
                self._latest.pop(name, None)
                await self._attempt(name, self._mesh.supervisor.start(name))
            else:
                await self._go_over(name, spec)

    async def disable(self, name: str) -> None:
        """Stop a plugin; see ``PluginHost.disable``."""
        async with self._lock:
            self._plan(name)
            await self._mesh.supervisor.stop(name)

    async def upgrade(self, name: str, spec: PluginSpec | None) -> None:
        """Have a plugin run what is there now; see ``PluginHost.upgrade``."""
        async with self._lock:
            self._plan(name)
            await self._go_over(name, spec)

    def statuses(self) -> dict[str, PluginStatus]:
        """Return how all plugins are."""
        return {worker.name: self._status(worker) for worker in self._mesh.supervisor.status().workers}

    def status(self, name: str) -> PluginStatus:
        """Return how one plugin is."""
        return self.statuses()[name]

    # Told by the supervisor.

    def _told(self, records: Iterable[NodeRecord]) -> None:
        if self._node is not None:
            self._node.apply(records)

    def _happened(self, event: Happening) -> None:
        name, details = event.slot, event.details
        match event.event:
            case "slot-ready":
                text = "is ready" if "after" not in details else "is ready again"
                self._flooded.discard(name)
                self._settle(name)
                self._publish(PluginEvent(event.at, name, PluginNews.READY, text, event.incarnation))
            case "slot-exited":
                self._ended(ending_of(event.at, name, event.incarnation, self._mesh.how_it_ended(event), details))
            case "slot-stopped" if not (self._is_refused(name) or self._is_stopping):
                self._publish(PluginEvent(event.at, name, PluginNews.STOPPED, "is stopped", event.incarnation))

    def _ended(self, end: PluginEvent) -> None:
        name = end.plugin
        self._meters.pop(name, None)
        if name in self._flooded:
            self._flooded.discard(name)
            end = replace(end, fault=PluginFault.FLOODED)
        self._settle(name)
        if not self._is_refused(name):
            self._latest[name] = end
        if end.fault is not PluginFault.STOPPED:
            self._publish(end)
        self._changed.set()

    # Told by the node.

    def introduced(self, plugin: str, incarnation: int, introduction: Introduction) -> str | None:
        """See ``Host.introduced``."""
        plan = self._plan_that_runs(plugin)
        if plan is None:
            return "is not known here"
        self._versions[plugin] = introduction.version
        objection = plan.contract.objection(introduction, plan.found.version)
        if objection is not None:
            text = f"is refused: it {objection}"
            refusal = PluginEvent(
                time.time(), plugin, PluginNews.REFUSED, text, incarnation, fault=PluginFault.REFUSED, next="stopped"
            )
            self._latest[plugin] = refusal
            # Begun in the next turn of the loop: before the plugin has heard of it, or it would end and be restarted.
            self._spawn(self._put_down(plugin))
            self._settle(plugin)
            self._publish(refusal)
        return objection

    def came(self, plugin: str, count: int, size: int) -> bool:
        """See ``Host.came``."""
        meter = self._meters.get(plugin)
        if meter is None:
            meter = self._meters[plugin] = self._new_meter(plugin)
        if not meter.take(count, size, asyncio.get_running_loop().time()):
            return True
        if plugin not in self._flooded and plugin in self._plans:
            self._flooded.add(plugin)
            rate = self._plans[plugin].spec.max_rate
            self._mesh.supervisor.condemn(
                plugin, f"it floods the application, with more than {rate:g} messages a second"
            )
        return False

    # Changes.

    async def _go_over(self, name: str, spec: PluginSpec | None) -> None:
        """Have ``name`` run what is found for it now, by ``spec`` if there is one."""
        before, sources = self._plans.get(name), self._sources
        if spec is not None:
            sources = replace(sources, specs={**sources.specs, name: spec})
        plan = sources.plan(name)
        plans = {**self._plans, name: plan}
        config = self._mesh.adapt(self._configure(plans))
        worker = _worker(config, name)
        forget_old_code(plan.found, [worker.cwd, *map(Path, worker.env["PYTHONPATH"].split(os.pathsep))])
        self._plans, self._sources, self._before = plans, sources, before
        self._latest.pop(name, None)
        try:
            await self._attempt(name, self._replace(name, config, is_new=before is None))
        except PluginError:
            if before is not None and (before.spec, before.found) != (plan.spec, plan.found):
                await self._go_back(before)
            raise
        finally:
            self._before = None

    async def _replace(self, name: str, config: MeshConfig, *, is_new: bool) -> None:
        changes = await self._mesh.supervisor.reload(config)
        if not is_new and name not in changes.replaced:
            await self._mesh.supervisor.restart(name)
        elif not self.status(name).is_ready:  # it was down, and a reload leaves it so
            await self._mesh.supervisor.start(name)

    async def _go_back(self, plan: Plan) -> None:
        """Have a plugin be again what it was; a supervisor may have seen to that by itself."""
        self._plans = {**self._plans, plan.name: plan}
        self._sources = replace(self._sources, specs={**self._sources.specs, plan.name: plan.spec})
        self._latest.pop(plan.name, None)
        try:
            await self._mesh.supervisor.reload(self._mesh.adapt(self._configure(self._plans)))
            await self._mesh.supervisor.start(plan.name)
        except SupervisorError as error:
            log.error("plugin %s: what ran before does not come back: %s", plan.name, error)

    async def _attempt(self, name: str, change: Awaitable[None]) -> None:
        """Await a ``change`` of one plugin; why it fails is the plugin's own story, where that is known."""
        try:
            await change
        except SupervisorError as error:
            trouble = self._latest.get(name)
            if trouble is not None and trouble.fault is not PluginFault.STOPPED:
                raise trouble.error() from error
            raise PluginError(name, PluginFault.FAILED, f"does not start: {error}") from error

    async def _put_down(self, name: str) -> None:
        try:
            await self._mesh.supervisor.stop(name)
        except SupervisorError as error:
            log.debug("a refused plugin is not stopped: %s", error)  # all of them are, or somebody starts it again

    # What is known of them.

    def _plan(self, name: str) -> Plan:
        plan = self._plans.get(name)
        if plan is None:
            raise UnknownPeer(name, sorted(self._plans))
        return plan

    def _plan_that_runs(self, name: str) -> Plan | None:
        """Return the plan by which a plugin was started: when a change has failed, that is the one before."""
        plan, before = self._plans.get(name), self._before
        if plan is None or before is None or before.name != name:
            return plan
        running = _worker(self._mesh.supervisor.config, name)
        planned, former = (_worker(self._configure({name: one}), name) for one in (plan, before))
        return before if running == former and running != planned else plan

    def _status(self, worker: Any) -> PluginStatus:
        name, refused = worker.name, self._is_refused(worker.name)
        plan, latest = self._plans.get(name), self._latest.get(name)
        version = self._versions.get(name) or (plan.found.version if plan is not None else "")
        return PluginStatus(
            name,
            "refused" if refused else str(worker.state),
            version,
            worker.pid,
            worker.incarnation,
            worker.restarts,
            worker.rss,
            latest.error() if latest is not None and latest.fault is not PluginFault.STOPPED else None,
        )

    def _is_refused(self, name: str) -> bool:
        latest = self._latest.get(name)
        return latest is not None and latest.event is PluginNews.REFUSED

    async def _explained(self, name: str, incarnation: int) -> PluginError:
        """Return what became of a plugin under a call; its process may still be ending."""

        def is_known() -> bool:
            return name in self._latest and self._latest[name].incarnation >= incarnation

        try:
            async with asyncio.timeout(_DEATH_NOTICE):
                await self._until(is_known)
        except TimeoutError:
            return PluginError(name, PluginFault.STOPPED, "has left")
        return self._latest[name].error()

    def _trouble(self, name: str) -> PluginError:
        latest = self._latest.get(name)
        return latest.error() if latest is not None else PluginError(name, PluginFault.FAILED, "is not ready")

    def _new_meter(self, name: str) -> Meter:
        plan = self._plans.get(name)
        rate = plan.spec.max_rate if plan is not None else 0.0
        return Meter(rate, asyncio.get_running_loop().time())

    # Telling and waiting.

    def _publish(self, event: PluginEvent) -> None:
        try:
            self._on_event(event)
        except Exception:
            log.exception("what listens to plugins has failed")

    def _settle(self, name: str) -> None:
        self._settled.add(name)
        self._changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _worker(config: MeshConfig, name: str) -> WorkerConfig:
    return next(worker for worker in config.workers if worker.name == name)


def _printed(slot: str, kind: str, line: str) -> None:
    if kind != "progress":
        logging.getLogger(f"meshvisor.plugins.{slot}").info("%s", line)
