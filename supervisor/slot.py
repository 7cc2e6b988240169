"""One place for a worker, and the process in it: carries out what the slot's state machine decides."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..shared.config.model import MeshConfig, WorkerConfig
from ..shared.control import lifeline as messages
from ..shared.core.roster import NodeStatus
from . import spawn
from .attendant import Attendant, Verdicts
from .child import Action, Child, Ending, Exit, State
from .confinement import Confinement
from .directory import RuntimeDirectory
from .event import Event
from .herald import Herald
from .hub import Hub
from .identity import Identity
from .incidents import HISTORY, IncidentLog, PastEnd, incident_of
from .leftovers import Mark
from .lifeline import Lifeline
from .logs import LogFile, Output
from .memory import MemoryWatch, OomWatch
from .reaper import kill_group, reap, send
from .snapshot import ExitCause, WorkerState, WorkerStatus
from .tables import Tables
from .teller import Teller, Words
from .usage import Usage

_LIFELINE_GRACE = 0.5  # from the end of a lifeline to the death that should follow it by itself
_REPORT_SIZE = 4096


def _unheard(line: str) -> None:
    pass


@dataclass(slots=True)
class MeshRun:
    """What all slots of one running mesh share. ``secret`` authenticates its links; it is new in each run.

    ``config`` is replaced by a reload, and counts for a slot from its next start on. ``ended`` is told of every end
    and what it means, and returns that, changed if the restart limit is exceeded; ``changed`` is called whenever the
    state of a slot may allow something to another one.
    """

    config: MeshConfig
    loop: asyncio.AbstractEventLoop
    directory: RuntimeDirectory
    herald: Herald
    hub: Hub
    tables: Tables
    mark: Mark
    secret: bytes
    incidents: IncidentLog
    memory: MemoryWatch
    oom: OomWatch
    is_stopping: Callable[[], bool]
    ended: Callable[[Slot, Ending], Ending]
    changed: Callable[[], None]


class Slot:
    """The actor around one ``Child``. All of it runs in the event loop's thread, which is also the one that forks."""

    def __init__(self, run: MeshRun, config: WorkerConfig, name: str, replica: int, draw: Callable[[], float]) -> None:
        self.name = name
        self.replica = replica
        self.child = Child(config, draw)
        self.ready_by: float | None = None  # when its present start, tries included, has taken its whole start_timeout
        self._run = run
        self._identity = Identity(run.config.mesh, config, name, replica)
        self._teller = Teller(name, self.child, run.hub, run.herald, is_node=config.command is None)
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
        self._is_killed = False  # by us
        self._attendant: Attendant | None = None
        self._history: deque[PastEnd] = deque(maxlen=HISTORY)
        log = LogFile(self._log_path, self._log_lost, config.log, slot=name, restored=self._log_restored)
        self._output = Output(run.loop, log, lambda kind, text: run.hub.output.notify(name, kind, text))
        self._announce(NodeStatus.DOWN)

    # Asked by the supervisor.

    @property
    def config(self) -> WorkerConfig:
        """What the slot runs, and by which rules."""
        return self.child.config

    @property
    def pid(self) -> int | None:
        """The process in the slot, if there is one."""
        return self._process.pid if self._process else None

    @property
    def pids(self) -> set[int]:
        """All processes that are ours to reap: the slot's, and those that look after it."""
        own = {self._process.pid} if self._process else set()
        return own | self._attendant.checks if self._attendant else own

    @property
    def trouble(self) -> str:
        """Why the slot is not ready, as far as known."""
        return self._failure or self._blame or self._traceback.strip().rpartition("\n")[2]

    def configure(self, config: WorkerConfig) -> None:
        """Go by another configuration: its policy from now on, what concerns the process from the next start on."""
        self.child.config = config
        self._output.reconfigure(config.log)
        if self._attendant is not None:
            self._attendant.reconfigure(config)

    def release(self) -> None:
        """Start: nothing that the slot waits for is missing."""
        if self.ready_by is None:
            self.ready_by = self._now() + self.config.start_timeout
        self._act(self.child.release(self._now()))

    def start(self) -> None:
        """Have it started as an operator wants it: at once, and whatever was before."""
        if not self.child.is_alive:
            self.ready_by = None
        self._obey(self.child.start)

    def restart(self) -> None:
        """Have it stopped and started again as an operator wants it."""
        self.ready_by = None
        self._obey(self.child.restart)

    def hold(self) -> None:
        """Stop as an operator wants it: nothing but an operator starts it again."""
        self._obey(self.child.hold)

    def take_down(self, *, comes_back: bool) -> None:
        """Stop because a sibling restarts, and come back with it, or not."""
        self.ready_by = None
        self._obey(lambda now: self.child.stop(now, comes_back=comes_back))

    def stop(self) -> None:
        """Ask the process to end; it is killed when ``stop_timeout`` has passed. Nothing is restarted after that."""
        self._obey(self.child.stop)

    def kill(self) -> None:
        """Kill the process group; nothing is restarted after that."""
        self._obey(self.child.kill)

    def remove(self) -> None:
        """Have everybody forget the slot, which is over."""
        self._announce(NodeStatus.REMOVED)
        self.close()

    def close(self) -> None:
        """Release what outlives the process: the log and what is left in the pipes."""
        self._cancel_timers()
        self._output.close()

    def status(self) -> WorkerStatus:
        """Return the facts of this moment."""
        child, now = self.child, self._now()
        uptime, cpu, rss = self._measure()
        is_parked = child.view is WorkerState.PARKED and child.deadline is not None
        return WorkerStatus(
            name=self.name,
            state=child.view,
            pid=self.pid,
            incarnation=child.incarnation,
            restarts=child.restarts,
            uptime=round(uptime, 3),
            ready=child.state is State.READY,
            cpu=cpu,
            rss=rss,
            peers_up=self._links.up,
            peers_total=self._links.total,
            last_exit=self._teller.last_exit,
            next_try=round(max(0.0, (child.deadline or now) - now), 3) if is_parked else None,
        )

    def _measure(self) -> tuple[float, float, int]:
        """Return the process's age, its share of a core in percent, and its memory in bytes."""
        if self._usage is None or self.child.started_at is None:
            return 0.0, 0.0, 0
        uptime = self._now() - self.child.started_at
        return uptime, *self._usage.measure(uptime)

    # Actions.

    def _act(self, actions: tuple[Action, ...]) -> None:
        if self._attendant is not None and self.child.state in (State.CONDEMNED, State.STOPPING):
            self._attendant.stopping()
        for action in actions:
            _ACTIONS[action](self)
        self._arm()

    def _obey(self, ask: Callable[[float], tuple[Action, ...]]) -> None:
        """Do what was asked for, and say so if it changes anything."""
        before = self.child.state
        self._act(ask(self._now()))
        if self.child.state is before:
            return
        if self.child.is_over:
            self._announce(NodeStatus.GONE)
            self._teller.publish("slot-stopped")
        elif self.child.state is State.STOPPING:
            self._teller.publish("slot-stopping", pid=self.pid)
        else:
            self._announce(NodeStatus.DOWN)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.child.deadline is not None:
            self._timer = self._run.loop.call_at(self.child.deadline, self._tick)

    def _tick(self) -> None:
        # The loop may call a timer earlier than asked by its clock's resolution; the machine is exact.
        deadline, now = self.child.deadline, self._now()
        self._act(self.child.tick(now if deadline is None else max(now, deadline)))
        if self.child.state is State.WAITING:
            self._run.changed()

    def _spawn(self) -> None:
        identity = replace(self._identity, mesh=self._run.config.mesh, config=self.config)
        self._identity = identity.next(self.child.incarnation)
        self._endpoints, self._links = (), messages.Links(0, 0)
        self._failure = self._traceback = self._blame = ""
        self._is_killed = False
        try:
            process = self._start_process()
        except spawn.SpawnError as error:
            self._dismiss_attendant()
            self._announce(NodeStatus.DOWN)
            self._output.begin()
            # Through the loop: however often a start fails, a request to stop gets in between (OTP does the same).
            self._run.loop.call_soon(self._ended, Exit(failure=str(error)))
            return
        self._process = process
        self._usage = Usage(process.pid)
        self._announce(NodeStatus.DOWN)
        self._run.loop.add_reader(process.pidfd, self._died)
        heard = self._attendant.printed if self._attendant else _unheard
        self._output.attach(process.stdout, process.stderr, self.child.incarnation, heard)
        if self._attendant is not None:
            self._attendant.begin(process.pid)
        if process.report is not None:
            self._run.loop.add_reader(process.report, self._executed)
        if process.lifeline is not None:
            self._lifeline = self._open_lifeline(process.lifeline)
        self._teller.starting(process.pid)

    def _start_process(self) -> spawn.Process:
        environment = self._identity.environment(self._run.mark)
        try:
            self._attendant = attendant = self._attend(environment)
        except OSError as error:
            raise spawn.SpawnError(f"cannot find out when it is ready: {error}") from error
        if self.config.command is not None:
            confinement = Confinement.of(self.config)
            return spawn.spawn_command(
                self.config.command, self.config.cwd, attendant.environment, confinement, ready=attendant.descriptor
            )
        return spawn.spawn_worker(self._identity.title, self.config.cwd, environment)

    def _attend(self, environment: Mapping[str, str]) -> Attendant:
        run = self._run
        verdicts = Verdicts(self._became_ready, self._condemn, self._retire)
        file = run.directory.path / f"{self.name}.{self.child.incarnation}.notify"
        return Attendant(run.loop, self.config, environment, file, run.memory, verdicts)

    def _dismiss_attendant(self) -> None:
        if self._attendant is not None:
            self._attendant.ended()
            self._attendant = None

    def _open_lifeline(self, sock: socket.socket) -> Lifeline:
        run = self._run
        lifeline = Lifeline(run.loop, sock, self._heard, self._lifeline_ended)
        descriptors = run.tables.descriptors
        assignment = self._identity.assignment(run.directory.path, run.secret, run.herald.records, descriptors)
        lifeline.assign(assignment, tuple(descriptors.values()))
        run.herald.enroll(lifeline)
        return lifeline

    def _ask(self) -> None:
        if self._process is None:
            return
        if self._lifeline is not None:
            self._lifeline.stop()
        # A worker knows the signal that was configured when it started; a command may be told another one since.
        config = self.config if self._lifeline is None else self._identity.config
        send(self._process.pidfd, signal.Signals[config.stop_signal])

    def _kill(self) -> None:
        if self._process is not None:
            self._is_killed = True
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
        self._condemn(None, reason)

    def _condemn(self, fault: ExitCause | None, reason: str) -> None:
        self._blame = reason
        self._measure()
        self._act(self.child.lose(self._now(), fault))

    def _retire(self, reason: str) -> None:
        if self.child.state is State.READY:
            self._blame = reason
            self._measure()
            self._act(self.child.retire(self._now()))
            self._teller.publish("slot-stopping", pid=self.pid)

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
        if not report and self._attendant is not None:
            self._attendant.executed()

    def _became_ready(self) -> None:
        child, now = self.child, self._now()
        if child.state is not State.STARTING or self.pid is None:
            return
        self._act(child.become_ready(now))
        if self._attendant is not None:
            self._attendant.ready()
        self._announce(NodeStatus.READY)
        self._teller.ready(self.pid, now)
        self._run.changed()

    def _died(self) -> None:
        process = self._process
        if process is None or (exit := reap(process.pid, process.pidfd)) is None:
            return
        self._run.loop.remove_reader(process.pidfd)
        os.close(process.pidfd)
        if self._attendant is not None:  # before its last words are read: a dead process does not become ready
            self._attendant.ended()
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
        known = (exit.rss, self._attendant.rss if self._attendant else 0, self._usage.rss if self._usage else 0)
        exit = replace(exit, rss=max(known))
        self._process = self._lifeline = self._usage = None
        self._ended(exit)

    def _ended(self, exit: Exit) -> None:
        self._cancel_timers()
        child, now = self.child, self._now()
        if self._failure and not exit.failure:
            exit = replace(exit, failure=self._failure)
        exit = replace(exit, oom=self._run.oom.explains(exit if not self._is_killed else Exit()))
        judged = child.end(exit, now, draining=self._run.is_stopping())
        if judged.cause is ExitCause.START_TIMEOUT and self._attendant is not None and not self.trouble:
            self._blame = self._attendant.complaint
        self._dismiss_attendant()
        ending = self._run.ended(self, judged)
        self._run.directory.remove(self._identity.socket_name)
        self._links, self._endpoints = messages.Links(0, 0), ()
        said = self._teller.ended(ending, Words(exit.failure or self.trouble, self._traceback, self._output.tail))
        self._remember(said, ending, mesh_stops=judged.delay is not None and ending.delay is None)
        is_gone = ending.delay is None or child.state is State.PARKED
        self._announce(NodeStatus.GONE if is_gone else NodeStatus.DOWN)
        self._teller.follows(ending)
        self._act(child.tick(now))  # the first restart waits for nothing
        self._run.changed()

    # Telling others.

    def _announce(self, status: NodeStatus) -> None:
        self._teller.announce(self._identity, status, self._endpoints)

    def _remember(self, said: Event, ending: Ending, *, mesh_stops: bool) -> None:
        if incident := incident_of(said, ending.exit.rss, tuple(self._history), mesh_stops=mesh_stops):
            self._run.incidents.append(incident)
        self._history.append(PastEnd(said.at, ending.cause, round(ending.uptime, 3)))

    @property
    def _log_path(self) -> Path:
        return self._run.config.log_dir / f"{self.name}.log"

    def _log_lost(self, reason: str) -> None:
        self._teller.publish("log-lost", file=str(self._log_path), text=reason)

    def _log_restored(self, count: int) -> None:
        self._teller.publish("log-restored", file=str(self._log_path), count=count)

    def _now(self) -> float:
        return self._run.loop.time()

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._grace):
            if timer is not None:
                timer.cancel()
        self._timer = self._grace = None


_ACTIONS: dict[Action, Callable[[Slot], None]] = {
    Action.SPAWN: Slot._spawn,
    Action.ASK: Slot._ask,
    Action.KILL: Slot._kill,
}
