"""One worker as a node of the mesh: its hooks, and everything between them and the links.

    mesh ──▶ Inbox    ──▶ the hooks, one at a time          send ──▶ Sender ──┐
         ──▶ Serving  ──▶ @rpc methods, many at a time      call ──▶ Caller ──┴─▶ Finder ──▶ links of the mesh
         ──▶ Caller   ──▶ whoever awaits a result

The life of a node is a straight line: listen, ``on_start``, ready, serve until an end is asked for; then, as far as the
manner of that end permits, ``on_stop``, the calls under way, draining the links, goodbye. If another process takes its
place, it first finishes what others have asked of it, while they hold what is new (see ``departure``).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ..shared.control.lifeline import FromWorker, Links, Listening, Ready, failure
from ..shared.core.message import Message
from ..shared.core.roster import NodeRecord
from ..shared.errors import LinkClosed, PeerLeft, PeerLost
from .blocking import Blocking
from .calls import Caller
from .departure import Departure, answer
from .ending import Ending, Manner, exit_status, user_traceback
from .finder import Finder, MeshOfNode
from .inbox import Arrived, Inbox, Link, LinkDown, LinkUp
from .lane import Cancel, Failed, Gathering, Held, Parting, Parts, Refused, Request, Result, decode
from .loopback import Loopback
from .peers import Peer, Peers, make_peer
from .sender import Sender
from .serving import Serving
from .standstill import Standstill
from .timers import keep_time
from .worker import Worker, make_worker

log = logging.getLogger("meshvisor.worker")

_TURN = 0.002  # Seconds, and
_ENTRIES = 256  # entries of the inbox, after which others get the loop.
_REPLIES = (Result, Failed, Refused)
_DEPARTURE = 0.75  # of the time for an orderly end is for what others have asked for.


class Node:
    """The node of one worker; it is the ``MeshHandler`` of its mesh.

    ``report`` is called with what the supervisor should hear, ``ending`` when the end has begun, whoever wanted it;
    ``lag_of`` is asked how far another node's loop is behind; ``drain_timeout`` (seconds) is how long an orderly end
    may take; ``sponsor`` is the node that has to consent to the worker before its ``on_start``. ``connect`` must follow
    before all else: a mesh needs its handler, and a node its mesh.
    """

    def __init__(
        self,
        name: str,
        incarnation: int,
        settings: dict[str, Any],
        *,
        report: Callable[[FromWorker], None],
        ending: Callable[[], None] = lambda: None,
        lag_of: Callable[[str], float | None] = lambda name: None,
        drain_timeout: float = 5.0,
        sponsor: str = "",
    ) -> None:
        self.name = name
        self.incarnation = incarnation
        self.settings = settings
        self.worker: Worker | None = None  # once it is made
        self._report = report
        self._tell_of_ending = ending
        self._lag_of = lag_of
        self._drain_timeout = drain_timeout
        self._sponsor = sponsor
        self._inbox = Inbox()
        self._loopback = Loopback(name, incarnation, self)
        self._standstill = Standstill(name)
        self._ending: Ending | None = None
        self._ended = asyncio.Event()
        self._starting: asyncio.Task[bool] | None = None
        self._running: list[asyncio.Task[Any]] = []  # `run` and the timers
        self._gathering: dict[Link, Gathering] = {}  # what came of frames whose last body is still to come
        self._is_handing_over = False
        self._departure: Departure | None = None
        self._has_dropped = False
        self._hook = ""  # the one that is running

    def connect(self, mesh: MeshOfNode, worker_class: type[Worker], roster: Iterable[NodeRecord]) -> None:
        """Be the node of a ``worker_class`` on ``mesh``; ``roster`` is what the supervisor had to say at first."""
        self._serving = Serving(self._exited)
        self._finder = Finder(mesh, self._loopback, self._serving.serves)
        self._sender = Sender(self._finder, self._standstill)
        self._caller = Caller(self._finder)
        # What the worker asks for, without a layer in between: these are the busiest methods there are.
        self.send, self.broadcast = self._sender.send, self._sender.broadcast
        self.call = self._caller.call
        self._blocking = Blocking()
        self.run_blocking = self._blocking.run
        self.peers: Mapping[str, Peer] = Peers(
            self.name, mesh.roster, lambda name: mesh.link(name) is not None, self._lag_of
        )
        self._mesh = mesh
        self._worker_class = worker_class
        self.apply(roster)

    # The life of a node.

    def prepare(self) -> bool:
        """Make the worker, if ``live`` is to find it made; return whether there is one."""
        self._make()
        return self.worker is not None

    async def live(self) -> Ending:
        """Live to the end, and return how that was."""
        worker = self.worker if self.worker is not None or self._ending is not None else self._make()
        try:
            if worker is not None and await self._listen():
                is_started = await self._start(worker)
                if is_started and not self._ended.is_set():
                    self._serve(worker)
                await self._ended.wait()
                await self._finish(worker, is_started)
        finally:
            self._abandon()
        assert self._ending is not None  # Whatever kept the node from beginning has said so.
        return self._ending

    def apply(self, records: Iterable[NodeRecord]) -> None:
        """Take news of the roster in."""
        self._finder.apply(records)

    def stop(self, status: int = 0) -> None:
        """See ``Worker.stop``. The first end that is asked for counts, unless a worse one comes on the way."""
        if not isinstance(status, int):
            raise TypeError(f"stop takes an exit status, a number from 0 to 255, not {status!r}")
        self._conclude(Ending(status & 0xFF, Manner.STOP))

    def request_stop(self) -> None:
        """Stop, from outside: an ``on_start`` that still runs is cancelled, and then ``on_stop`` is left out."""
        if self._starting is not None:
            self._starting.cancel()
        self.stop()

    def hand_over(self) -> None:
        """Stop, but finish first what others have asked for: another process is to take this place."""
        self._is_handing_over = True
        self.request_stop()

    @property
    def _manner(self) -> Manner | None:
        return self._ending.manner if self._ending is not None else None

    def _make(self) -> Worker | None:
        try:
            self.worker = make_worker(self._worker_class, self)
        except SystemExit as stop:
            self._exited(stop)
        except Exception as error:
            self._failed("__init__", error)
        return self.worker

    async def _listen(self) -> bool:
        try:
            endpoints = await self._mesh.start()
        except OSError as error:
            self._failed("listen", error)
            return False
        self._report(Listening(endpoints))
        return True

    async def _start(self, worker: Worker) -> bool:
        """Run ``on_start``; return whether it came to its own end."""
        if self._ended.is_set():
            return False
        self._starting = asyncio.create_task(self._guard("on_start", self._on_start(worker)))
        try:
            return await self._starting
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # It is this node that is done away with, not its on_start that is broken off.
            return False
        finally:
            self._starting = None

    async def _on_start(self, worker: Worker) -> None:
        if self._sponsor:
            from .introduction import introduce  # only plugins have one

            await introduce(worker, self._sponsor)
        await worker.on_start()

    def _serve(self, worker: Worker) -> None:
        """Begin with what waited for ``on_start``, and with ``run`` if the worker has one."""
        self._report(Ready())
        self._serving.open(worker, worker._rpc_methods)
        self._sender.hooks = asyncio.create_task(self._guard("", self._dispatch(worker)))
        if type(worker).run is not Worker.run:
            self._running.append(asyncio.create_task(self._run(worker), name="run"))
        for name, interval in worker._timers.items():
            timer = keep_time(interval, partial(self._on_time, worker, name))
            self._running.append(asyncio.create_task(timer, name=name))

    async def _run(self, worker: Worker) -> bool:
        is_done = await self._guard("run", worker.run())
        if is_done:
            self.stop()
        return is_done

    async def _on_time(self, worker: Worker, name: str) -> bool:
        return await self._guard(name, getattr(worker, name)())

    async def _finish(self, worker: Worker, is_started: bool) -> None:
        """Do what the manner of ending permits; each step may make it a worse one."""
        deadline = asyncio.get_running_loop().time() + self._drain_timeout
        if self._manner is Manner.STOP and self._is_handing_over and is_started:
            await self._depart()
        if self._manner is not Manner.CRASH:
            await self._end_hooks(deadline)
        if self._manner is Manner.STOP and is_started:
            await self._guard("on_stop", worker.on_stop())
        if self._manner is not Manner.CRASH:
            await self._part(deadline)

    async def _depart(self) -> None:
        """Finish what others have asked for, if there is time enough; ``run``, which that may need, goes on."""
        hooks = self._sender.hooks
        if hooks is None:
            return
        self._departure = departure = Departure(self._inbox, self._serving)
        departure.begin(self._mesh.links())
        waiting = asyncio.create_task(departure.wait())
        patience = self._drain_timeout * _DEPARTURE
        try:  # Without its hooks, which failed, it ends anyway.
            await asyncio.wait([waiting, hooks], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._manner is Manner.STOP and not departure.is_complete:
            silent = f" ({', '.join(departure.silent)} did not answer)" if departure.silent else ""
            log.warning("not everything was finished within %.3g s of the order to hand over%s", patience, silent)

    async def _end_hooks(self, deadline: float) -> None:
        """Cancel ``run`` and the timers; let the hook that is at work finish, for up to half of the time there is."""
        self._inbox.close()
        hooks = self._sender.hooks
        for task in self._running:
            task.cancel()
        tasks = [*self._running, *([hooks] if hooks is not None else [])]
        if not tasks:
            return
        patience = max(0.0, deadline - asyncio.get_running_loop().time()) / 2
        _, late = await asyncio.wait(tasks, timeout=patience)
        for task in late:
            name = self._hook if task is hooks else task.get_name()
            log.warning("%s did not end within %.3g s of the stop and is cancelled", name, patience)
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=patience / 2)

    async def _part(self, deadline: float) -> None:
        """Finish calls and drain links until ``deadline``; say goodbye."""
        now = asyncio.get_running_loop().time
        await self._serving.close(max(0.0, deadline - now()))
        self._finder.close()
        await self._mesh.close(max(0.0, deadline - now()), is_succeeded=self._departure is not None)
        self._loopback.close()
        self._caller.close(LinkClosed)

    def _abandon(self) -> None:
        """Leave no task behind, however this node came to its end."""
        for task in (self._starting, *self._running, self._sender.hooks):
            if task is not None:
                task.cancel()
        self._serving.abandon()
        self._blocking.close()

    # How hooks run, and what leaves them.

    async def _guard(self, name: str, hook: Coroutine[Any, Any, None]) -> bool:
        """Run ``hook`` and return True; whatever leaves it ends the node. Cancelling this from outside passes."""
        try:
            await hook
            return True
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._failed(name or self._hook, error)
        except SystemExit as stop:
            self._exited(stop)
        except Exception as error:
            self._failed(name or self._hook, error)
        return False

    async def _dispatch(self, worker: Worker) -> None:
        """Hand what arrives to the hooks, one entry at a time."""
        inbox, now = self._inbox, asyncio.get_running_loop().time
        handle = self._drop if type(worker).on_message is Worker.on_message else worker.on_message
        entries, since = 0, now()
        while not inbox.is_closed:
            entry = inbox.next()
            if entry is None:
                await inbox.wait()
                entries, since = 0, now()
                continue
            if isinstance(entry, Arrived):
                self._hook = "on_message"
                await handle(entry.message)
                entry.link.consumed(entry.message.number)
            else:
                await self._peer_changed(worker, entry)
            entries += 1
            if entries >= _ENTRIES or now() - since > _TURN:
                await asyncio.sleep(0)
                entries, since = 0, now()

    async def _drop(self, message: Message) -> None:
        """Be the ``on_message`` of a worker that has none."""
        if not self._has_dropped:
            self._has_dropped = True
            log.warning(
                "%s sent a message, and this worker has no on_message: such messages are dropped", message.sender
            )

    async def _peer_changed(self, worker: Worker, entry: LinkUp | LinkDown) -> None:
        link = entry.link
        name = link.node_id
        is_up = self._mesh.link(name) is link
        peer = make_peer(name, self._mesh.roster.get(name), link.incarnation, up=is_up, lag_of=self._lag_of)
        if isinstance(entry, LinkUp):
            self._hook = "on_peer_up"
            await worker.on_peer_up(peer)
        else:
            self._hook = "on_peer_down"
            await worker.on_peer_down(peer, entry.reason)

    def _failed(self, hook: str, error: BaseException) -> None:
        text = user_traceback(error)
        print(text, end="", file=sys.stderr, flush=True)  # noqa: T201  (the crash itself belongs into the slot's log)
        self._report(failure(hook, text))
        self._conclude(Ending(1, Manner.CRASH))

    def _exited(self, stop: SystemExit) -> None:
        if stop.code is not None and not isinstance(stop.code, int):
            print(stop.code, file=sys.stderr, flush=True)  # noqa: T201  (as the interpreter does)
        self._conclude(Ending(exit_status(stop), Manner.EXIT))

    def _conclude(self, ending: Ending) -> None:
        if self._ending is None or self._ending.manner.value < ending.manner.value:
            self._ending = ending
        if not self._ended.is_set():
            self._ended.set()
            self._tell_of_ending()

    # Told by the mesh.

    def peer_up(self, link: Link) -> None:
        """See ``MeshHandler.peer_up``."""
        self._inbox.peer_up(link)
        self._finder.changed()
        if self._departure is not None:
            self._departure.linked(link)

    def peer_down(self, link: Link, reason: PeerLost | PeerLeft) -> None:
        """See ``MeshHandler.peer_down``."""
        self._inbox.peer_down(link, reason)
        self._caller.link_lost(link, lambda: type(reason)(*reason.args))
        self._serving.link_lost(link)
        self._gathering.pop(link, None)
        self._finder.lost(link)
        if self._departure is not None:
            self._departure.lost(link)

    def messages_received(self, link: Link, first: int, bodies: list[bytes | bytearray]) -> None:
        """See ``MeshHandler.messages_received``."""
        self._inbox.messages(link, first, bodies)
        if self._departure is not None:
            self._departure.arrived()

    def calls_received(self, link: Link, bodies: list[bytes | bytearray]) -> None:
        """See ``MeshHandler.calls_received``."""
        gathering = self._gathering.pop(link, None) if self._gathering else None
        for body in bodies:
            if gathering is not None and gathering.wants:
                gathering.add(body)
                continue
            parts: Sequence[bytes | bytearray] = ()
            if gathering is not None:
                parts, gathering = gathering.parts, None
            try:
                frame = decode(body, parts)
            except ValueError as error:
                log.error("dropped what %s sent: %s", link.node_id, error)
                continue
            if isinstance(frame, Request):
                self._serving.receive(link, frame, parts)
            elif isinstance(frame, _REPLIES):
                self._caller.receive(link, frame)
            elif isinstance(frame, Cancel):
                self._serving.cancel(link, frame.number)
            elif isinstance(frame, Parts):
                gathering = Gathering(frame.count)
            elif isinstance(frame, Parting):
                self._hold(link)
            elif isinstance(frame, Held):
                if self._departure is not None:
                    self._departure.held(link, frame.number)
            else:
                self._standstill.receive(frame)
        if gathering is not None:
            self._gathering[link] = gathering

    def _hold(self, link: Link) -> None:
        """Keep what is for the node behind ``link`` until its successor is ready."""
        self._finder.hold(link)
        self._caller.hold(link)
        link.turn_away()
        answer(link)

    def links_changed(self, up: int, total: int) -> None:
        """See ``MeshHandler.links_changed``."""
        self._report(Links(up, total))
