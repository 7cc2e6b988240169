"""One place for a worker, and the process in it: carries out what the slot's state machine decides."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..shared.config.model import MeshConfig, WorkerConfig
from ..shared.control import lifeline as messages
from ..shared.core.roster import NodeStatus
from . import spawn
from .child import Action, Child, Ending, Exit, State
from .directory import RuntimeDirectory
from .event import Event
from .guard import Guard
from .herald import Herald
from .hub import Hub
from .identity import Identity
from .leftovers import Mark
from .lifeline import Lifeline
from .logs import LogFile, Output
from .nursery import Nursery, Request
from .reaper import kill_group, reap, send
from .snapshot import LastExit, WorkerState, WorkerStatus
from .usage import Usage

_COMMAND_READY_AFTER = 0.1
_LIFELINE_GRACE = 0.5  # from the end of a lifeline to the death that should follow it by itself
_REPORT_SIZE = 4096


@dataclass(frozen=True, slots=True)
class MeshRun:
    """What all slots of one running mesh share. ``secret`` authenticates its links; it is new in each run.

    ``count`` is told of every end and answers whether the restart limit is exceeded; ``changed`` is called whenever
    a slot may have become ready or over.
    """

    config: MeshConfig
    loop: asyncio.AbstractEventLoop
    directory: RuntimeDirectory
    herald: Herald
    hub: Hub
    mark: Mark
    secret: bytes
    nursery: Nursery
    guard: Guard | None
    is_stopping: Callable[[], bool]
    count: Callable[[Ending], bool]
    changed: Callable[[], None]


class Slot:
    """The actor around one ``Child``. All of it runs in the event loop's thread, which is also the one that forks."""

    def __init__(self, run: MeshRun, config: WorkerConfig, name: str, replica: int, draw: Callable[[], float]) -> None:
        self.name = name
        self.config = config
        self.child = Child(config, draw)
        self.ready_by: float | None = None  # when its first start, tries included, has taken its whole start_timeout
        self._run = run
        self._identity = Identity(run.config.mesh, config, name, replica)
        self._request: Request | None = None  # for a process that has not arrived yet
        self._process: spawn.Process | None = None
        self._lifeline: Lifeline | None = None
        self._usage: Usage | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._endpoints: tuple[str, ...] = ()
        self._links = messages.Links(0, 0)
        self._failure = ""
        self._traceback = ""
        self._blame = ""
        self._last_exit: LastExit | None = None
        log = LogFile(run.config.log_dir / f"{name}.log", self._log_lost)
        self._output = Output(run.loop, log, lambda kind, text: run.hub.output.notify(name, kind, text))
        self._announce(NodeStatus.DOWN)

    # Asked by the supervisor.

    @property
    def pid(self) -> int | None:
        """The process in the slot, if there is one."""
        return self._process.pid if self._process else None

    @property
    def trouble(self) -> str:
        """Why the slot is not ready, as far as known."""
        return self._failure or self._blame or self._traceback.strip().rpartition("\n")[2]

    def release(self) -> None:
        """Start: nothing that the slot depends on is missing."""
        self.ready_by = self._run.loop.time() + self.config.start_timeout
        self._act(self.child.release(self._run.loop.time()))

    def stop(self) -> None:
        """Ask the process to end; it is killed when ``stop_timeout`` has passed. Nothing is restarted after that."""
        self._stop(self.child.stop)

    def kill(self) -> None:
        """Kill the process group; nothing is restarted after that."""
        self._stop(self.child.kill)

    def close(self) -> None:
        """Release what outlives the process: the log and what is left in the pipes."""
        self._cancel_timers()
        self._output.close()

    def status(self) -> WorkerStatus:
        """Return the facts of this moment."""
        child, now = self.child, self._run.loop.time()
        uptime = now - child.started_at if self._process and child.started_at is not None else 0.0
        cpu, rss = self._usage.measure(uptime) if self._usage else (0.0, 0)
        return WorkerStatus(
            name=self.name,
            state=child.view,
            pid=self.pid,
            incarnation=child.incarnation,
            restarts=child.restarts,
            uptime=round(uptime, 3),
            ready=child.view is WorkerState.READY,
            cpu=cpu,
            rss=rss,
            peers_up=self._links.up,
            peers_total=self._links.total,
            last_exit=self._last_exit,
        )

    # Actions.

    def _act(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if action is Action.SPAWN:
                self._spawn()
            elif action is Action.ASK:
                self._ask()
            else:
                self._kill()
        self._arm()

    def _stop(self, ask: Callable[[float], tuple[Action, ...]]) -> None:
        before = self.child.state
        self._act(ask(self._run.loop.time()))
        if self.child.state is before:
            return
        if self.child.is_over:
            self._announce(NodeStatus.GONE)
            self._publish("slot-stopped")
        else:
            self._publish("slot-stopping", pid=self.pid)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.child.deadline is not None:
            self._timer = self._run.loop.call_at(self.child.deadline, self._tick)

    def _tick(self) -> None:
        # The loop may call a timer earlier than asked by its clock's resolution; the machine is exact.
        deadline = self.child.deadline
        now = self._run.loop.time()
        self._act(self.child.tick(now if deadline is None else max(now, deadline)))

    def _spawn(self) -> None:
        self._identity = self._identity.next(self.child.incarnation)
        self._endpoints, self._links = (), messages.Links(0, 0)
        self._failure = self._traceback = self._blame = ""
        self._announce(NodeStatus.DOWN)
        environment = self._identity.environment(self._run.mark)
        if self.config.command is None:
            nursery, title = self._run.nursery, self._identity.title
            request = nursery.request(self.config, title, environment, self._born)
            self._request = None if request.is_over else request
            return
        try:
            self._born(spawn.spawn_command(self.config.command, self.config.cwd, environment))
        except spawn.SpawnError as error:
            self._born(error)

    def _born(self, result: spawn.Process | spawn.SpawnError) -> None:
        self._request = None
        if isinstance(result, spawn.SpawnError):
            self._output.begin()
            # Through the loop: however often a start fails, a request to stop gets in between (OTP does the same).
            self._run.loop.call_soon(self._ended, Exit(failure=str(result)))
            return
        self._process = process = result
        if process.lifeline is not None:  # first of all: it waits
            self._lifeline = self._open_lifeline(process.lifeline)
        if self._run.guard is not None:
            self._run.guard.record(process.pid)
        self._usage = Usage(process.pid)
        self._run.loop.add_reader(process.pidfd, self._died)
        self._output.attach(process.stdout, process.stderr)
        if process.report is not None:
            self._run.loop.add_reader(process.report, self._executed)
        self._publish("slot-starting", pid=process.pid)

    def _do_without(self) -> bool:
        """Want no more the process that has not arrived yet, if that is how it is."""
        if self._request is None:
            return False
        self._request.cancel()
        self._request = None
        self._output.begin()
        self._run.loop.call_soon(self._ended, Exit(failure="its process was not made in time"))
        return True

    def _open_lifeline(self, sock: socket.socket) -> Lifeline:
        run = self._run
        lifeline = Lifeline(run.loop, sock, self._heard, self._lifeline_ended)
        lifeline.assign(self._identity.assignment(run.directory.path, run.secret, run.herald.records))
        run.herald.enroll(lifeline)
        return lifeline

    def _ask(self) -> None:
        if self._do_without() or self._process is None:
            return
        if self._lifeline is not None:
            self._lifeline.stop()
        send(self._process.pidfd, signal.Signals[self.config.stop_signal])

    def _kill(self) -> None:
        if not self._do_without() and self._process is not None:
            kill_group(self._process.pid)

    # What the process does.

    def _heard(self, message: messages.FromWorker) -> None:
        if isinstance(message, messages.Links):
            self._links = message
        elif isinstance(message, messages.Failure):
            self._traceback = message.traceback
        elif isinstance(message, messages.Listening):
            self._endpoints = message.endpoints
            if self.child.state is State.STARTING:
                self._announce(NodeStatus.LISTENING)
        else:
            self._became_ready()

    def _lifeline_ended(self, reason: str, garbled: bool) -> None:
        if garbled:
            self._lose(reason)
        else:
            self._grace = self._run.loop.call_later(_LIFELINE_GRACE, self._lose, reason)

    def _lose(self, reason: str) -> None:
        self._blame = reason
        self._act(self.child.lose(self._run.loop.time()))

    def _executed(self) -> None:
        """Hear from a command's launcher: it ended its report by becoming the command, or says why it could not."""
        if self._process is None or self._process.report is None:
            return
        try:
            report = os.read(self._process.report, _REPORT_SIZE)
        except BlockingIOError:
            return
        self._run.loop.remove_reader(self._process.report)
        os.close(self._process.report)
        self._process.report = None
        self._failure = report.decode(errors="replace")
        if not report:
            self._grace = self._run.loop.call_later(_COMMAND_READY_AFTER, self._became_ready)

    def _became_ready(self) -> None:
        child, now = self.child, self._run.loop.time()
        if child.state is not State.STARTING or child.started_at is None:
            return
        self._act(child.become_ready(now))
        self._announce(NodeStatus.READY)
        details: dict[str, float] = {"duration": now - child.started_at}
        if child.ended_at is not None:
            details["after"] = now - child.ended_at
        self._publish("slot-ready", pid=self.pid, **details)
        self._run.changed()

    def _died(self) -> None:
        process = self._process
        if process is None or (exit := reap(process.pid, process.pidfd)) is None:
            return
        if self._run.guard is not None:
            self._run.guard.forget(process.pid)
        self._run.loop.remove_reader(process.pidfd)
        os.close(process.pidfd)
        if process.report is not None:
            self._executed()
        if process.report is not None:  # its launcher was killed, and something still holds the other end
            self._run.loop.remove_reader(process.report)
            os.close(process.report)
        if self._lifeline is not None:
            self._lifeline.drain()
            self._run.herald.dismiss(self._lifeline)
            self._lifeline.close()
        self._output.drain()
        self._process = self._lifeline = self._usage = None
        self._ended(exit)

    def _ended(self, exit: Exit) -> None:
        self._cancel_timers()
        child, now = self.child, self._run.loop.time()
        if self._failure and not exit.failure:
            exit = replace(exit, failure=self._failure)
        ending = child.end(exit, now, draining=self._run.is_stopping())
        if self._run.count(ending):
            self._act(child.give_up(now))
            ending = replace(ending, delay=None)
        self._run.directory.remove(self._identity.socket_name)
        self._tell_of_the_end(ending)
        if ending.delay is not None and ending.delay <= 0:
            self._act(child.tick(now))
        else:
            self._arm()
        self._run.changed()

    # Telling others.

    def _tell_of_the_end(self, ending: Ending) -> None:
        exit = ending.exit
        said = self._publish_exit(ending)
        self._last_exit = LastExit(ending.cause, exit.code, exit.signal, said.at, round(ending.uptime, 3))
        self._links, self._endpoints = messages.Links(0, 0), ()
        if ending.delay is None:
            self._announce(NodeStatus.GONE)
            self._publish(f"slot-{self.child.view}")
            return
        self._announce(NodeStatus.DOWN)
        if ending.delay > 0:
            self._publish("slot-backoff", delay=ending.delay)

    def _announce(self, status: NodeStatus) -> None:
        """Bring the slot's record in the roster up to date; a command is supervised and is no node."""
        if self.config.command is not None:
            return
        why = str(self.child.view) if status is NodeStatus.GONE else ""
        self._run.herald.announce(self._identity.record(status, self._endpoints, why))

    def _publish_exit(self, ending: Ending) -> Event:
        exit = ending.exit
        details: dict[str, object] = {
            "cause": str(ending.cause),
            "code": exit.code,
            "signal": exit.signal,
            "uptime": round(ending.uptime, 6),
            "ready": ending.was_ready,
            "delay": ending.delay,
            "next": "restart" if ending.delay is not None else str(self.child.view),
            "tail": self._output.tail,
        }
        if text := exit.failure or self.trouble:
            details["text"] = text
        if self._traceback:
            details["traceback"] = self._traceback
        return self._publish("slot-exited", **details)

    def _publish(self, event: str, **details: object) -> Event:
        return self._run.hub.publish(event, self.name, self.child.incarnation, **details)

    def _log_lost(self, reason: str) -> None:
        self._publish("log-lost", file=str(self._run.config.log_dir / f"{self.name}.log"), text=reason)

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._grace):
            if timer is not None:
                timer.cancel()
        self._timer = self._grace = None
