"""One place for a worker, and the process in it: carries out what the slot's state machine decides."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from ..shared.config.model import WorkerConfig
from ..shared.control.lifeline import LinkReport, Links, LinksWanted
from ..shared.control.links import LinkTotals
from ..shared.core.roster import NodeStatus
from ..shared.core.states import UP, ConnectionState
from . import machine, procfs
from .candidate import Candidate
from .child import Action, Child, Ending, Exit, State
from .event import Event
from .figures import SlotFigures
from .identity import Identity
from .incidents import HISTORY, Incident, PastEnd, incident_of
from .life import Life
from .logs import LogFile, Output
from .snapshot import Answer, ExitCause, LastExit, NodeLinks, WorkerStatus
from .surroundings import MeshRun, Reported
from .teller import Teller, Words
from .whereabouts import whereabouts


class Slot:
    """The actor around one ``Child``, and the owner of its lives. All of it runs in the event loop's thread."""

    def __init__(self, run: MeshRun, config: WorkerConfig, name: str, replica: int, draw: Callable[[], float]) -> None:
        self.name = name
        self.replica = replica
        self.child = Child(config, draw)
        self.ready_by: float | None = None  # when its present start, tries included, has taken its whole start_timeout
        self._run = run
        self._identity = Identity(run.config.mesh, config, name, replica)
        self._teller = Teller(name, self.child, run.hub, run.herald, is_node=config.command is None)
        self._life: Life | None = None
        self._candidates: list[Candidate] = []  # who prepares to be its next life
        self._has_handed_over = False  # and is not ready again: until then others keep what is for it
        self.last_words = ""  # why its last process ended
        self._last_trouble = ""
        self._timer: asyncio.TimerHandle | None = None
        self._endpoints: tuple[str, ...] = ()
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
        return self._life.pid if self._life else None

    @property
    def pids(self) -> set[int]:
        """All processes that are ours to reap: the slot's, and those that look after it."""
        own = self._life.pids if self._life else set()
        return own.union(*(candidate.life.pids for candidate in self._candidates))

    @property
    def can_hand_over(self) -> bool:
        """Whether a rolling restart can be made: it is ready, and a worker (a command stops, and starts)."""
        return self.child.state is State.READY and self.config.command is None

    @property
    def incarnation(self) -> int:
        """The number of the latest process in the slot; 0: there was none yet."""
        return self.child.incarnation

    @property
    def is_node(self) -> bool:
        """Whether it is a worker, which has links, and no command."""
        return self.config.command is None

    @property
    def is_listening(self) -> bool:
        """Whether the worker in it has got so far that others can dial it."""
        return self._life is not None and bool(self._endpoints)

    @property
    def has_gone_over(self) -> bool:
        """Whether its process was started with the configuration that counts now."""
        identity = self._identity
        return identity.incarnation > 0 and (identity.mesh, identity.config) == (self._run.config.mesh, self.config)

    @property
    def trouble(self) -> str:
        """Why the slot is not ready, as far as known."""
        return (self._life.trouble if self._life else "") or self._last_trouble or _end_of(self._teller.last_exit)

    def configure(self, config: WorkerConfig) -> None:
        """Go by another configuration: its policy from now on, what concerns the process from the next start on."""
        self.child.config = config
        self._output.reconfigure(config.log)
        if self._life is not None:
            self._life.reconfigure(config)

    def release(self) -> None:
        """Start: nothing that the slot waits for is missing."""
        if self.ready_by is None and not self.child.is_on_trial:  # who is on trial has one try
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

    def prepare(self) -> Candidate:
        """Begin to prepare a candidate for its next life; ``dismiss`` is owed for it, and ``forget`` after that."""
        candidate = Candidate(self._run.loop, self._run.changed)
        identity = replace(self._identity, mesh=self._run.config.mesh, config=self.config)
        life = Life(self._run, identity.next(self.child.incarnation + 1), self._output, candidate, is_candidate=True)
        self._candidates.append(candidate)
        candidate.begin(life, self.config.start_timeout)
        return candidate

    def hand_over(self) -> None:
        """Have its process finish what it has, and a candidate take its place."""
        self.ready_by = None
        self._has_handed_over = True
        self._obey(self.child.hand_over)

    def forget(self, candidate: Candidate) -> None:
        """Think no more of a candidate, which is over."""
        self._candidates.remove(candidate)

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

    def publish(self, event: str, **details: object) -> None:
        """Say that something happened to the slot."""
        self._teller.publish(event, **details)

    async def traces(self) -> str:
        """Return where the threads of its process are now, as far as that can be told; empty without a process."""
        if self._life is None or self._life.pid is None:
            return ""
        pid = self._life.pid
        return await self._life.traces() or whereabouts(pid)

    def remove(self) -> None:
        """Have everybody forget the slot, which is over."""
        self._announce(NodeStatus.REMOVED)
        self.close()

    def close(self) -> None:
        """Release what outlives the process: the log and what is left in the pipes."""
        self._cancel_timer()
        self._output.close()

    def status(self) -> WorkerStatus:
        """Return the facts of this moment."""
        child, life = self.child, self._life
        uptime, cpu, rss = life.measure() if life else (0.0, 0.0, 0)
        is_parked = child.state is State.PARKED and child.deadline is not None
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
            peers_up=life.links.up if life else 0,
            peers_total=life.links.total if life else 0,
            last_exit=self._teller.last_exit,
            next_try=round(max(0.0, (child.deadline or 0.0) - self._now()), 3) if is_parked else None,
        )

    def want_links(self, question: LinksWanted, reported: Reported) -> bool:
        """Have the worker in it say how its links are; False, and nothing comes, if it cannot be asked."""
        return self.is_listening and self._life is not None and self._life.want_links(question, reported)

    def links(self, report: LinkReport | None) -> NodeLinks:
        """Return the facts of this moment about its links; ``report`` is what the worker has just said of them."""
        child, life = self.child, self._life
        entry = life.entry() if life else None
        told = life.links if life else Links(0, 0)
        if report is not None and report.links:
            states = [row.state for row in report.links if row.state is not ConnectionState.CLOSED]
            told = Links(sum(state in UP for state in states), len(states))
        silent = Answer.SILENT if self.is_listening else Answer.ABSENT
        return NodeLinks(
            name=self.name,
            worker=self.config.name,
            state=child.view,
            pid=self.pid,
            incarnation=child.incarnation,
            answer=silent if report is None else Answer.FRESH,
            stage=entry.stage if entry else None,
            lag=round(entry.lateness(time.monotonic()), 6) if entry else None,
            messages_in=entry.messages_in if entry else 0,
            messages_out=entry.messages_out if entry else 0,
            links_up=told.up,
            links_total=told.total,
            totals=report.totals if report else LinkTotals(),
            links=report.links if report else (),
        )

    def figures(self) -> SlotFigures:
        """Return what is measured of it, at this moment."""
        child, life = self.child, self._life
        entry = life.entry() if life else None
        cost = procfs.usage(life.pid) if life and life.pid else None
        return SlotFigures(
            name=self.name,
            worker=self.config.name,
            is_node=self.is_node,
            state=child.view,
            is_ready=child.state is State.READY,
            incarnation=child.incarnation,
            restarts=child.restarts,
            uptime=life.age if life else 0.0,
            cpu=cost[0] if cost else 0.0,
            rss=cost[1] if cost else 0,
            lag=entry.lateness(time.monotonic()) if entry else None,
            messages_in=entry.messages_in if entry else 0,
            messages_out=entry.messages_out if entry else 0,
            links_up=life.links.up if life else 0,
            links_total=life.links.total if life else 0,
            log_lines=self._output.log.lines,
            log_size=self._output.log.size,
        )

    # Actions.

    def _act(self, actions: tuple[Action, ...]) -> None:
        if self._life is not None and self.child.state in (State.CONDEMNED, State.STOPPING):
            self._life.is_to_end()
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
        self._cancel_timer()
        if self.child.deadline is not None:
            self._timer = self._run.loop.call_at(self.child.deadline, self._tick)

    def _tick(self) -> None:
        # The loop may call a timer earlier than asked by its clock's resolution; the machine is exact.
        deadline, now = self.child.deadline, self._now()
        self._act(self.child.tick(now if deadline is None else max(now, deadline)))
        if self.child.state is State.WAITING:
            self._run.changed()

    def _spawn(self) -> None:
        if self._takes_candidate():
            return
        identity = replace(self._identity, mesh=self._run.config.mesh, config=self.config)
        self._identity = identity.next(self.child.incarnation)
        self._last_trouble = ""
        self._life = Life(self._run, self._identity, self._output, self)
        self._life.begin()
        if not self._endpoints:  # a spare that has taken the place can be reached already
            self._announce(NodeStatus.DOWN)

    def _takes_candidate(self) -> bool:
        """Have a candidate be the next life, if one is fit for that."""
        for candidate in self._candidates if self.child.is_on_trial else ():
            is_meant = candidate.life.identity.incarnation == self.child.incarnation
            if is_meant and candidate.is_prepared and not candidate.is_over:
                self._last_trouble = ""
                self._life = life = candidate.take()
                life.take(self)
                return True
        return False

    def _hand_over(self) -> None:
        self._announce(NodeStatus.HELD)
        if self._life is not None:
            self._life.hand_over()

    def _ask(self) -> None:
        if self._life is not None:
            self._life.ask(self.config.stop_signal)

    def _kill(self) -> None:
        if self._life is not None:
            self._life.kill()

    def _dump(self) -> None:
        if self._life is not None:
            self._life.dump()

    # Told by the life in it.

    def born(self, pid: int) -> None:
        """See ``Owner.born``."""
        self._teller.starting(pid)

    def recognised(self, identity: Identity) -> None:
        """See ``Owner.recognised``."""
        self._identity = identity
        self._announce(NodeStatus.DOWN)

    def listening(self, endpoints: tuple[str, ...]) -> None:
        """See ``Owner.listening``."""
        self._endpoints = endpoints
        if self.child.state is State.STARTING:
            self._announce(NodeStatus.HELD if self._has_handed_over else NodeStatus.LISTENING)

    def prepared(self) -> None:
        """See ``Owner.prepared``; a life in a slot is beyond that."""

    def became_ready(self) -> None:
        """See ``Owner.became_ready``."""
        if self.child.state is not State.STARTING or self._life is None or self.pid is None:
            return
        now, was_on_trial = self._now(), self.child.is_on_trial
        self._has_handed_over = False
        self._act(self.child.become_ready(now))
        self._life.ready()
        self._announce(NodeStatus.READY)
        self._teller.ready(self.pid, now, is_replacement=was_on_trial)
        self._run.changed()

    def condemned(self, fault: ExitCause | None, reason: str) -> None:
        """See ``Owner.condemned``."""
        if self._life is not None:
            self._life.blame(reason)
            self._act(self.child.lose(self._now(), fault))

    def hangs(self, reason: str) -> None:
        """See ``Owner.hangs``."""
        if self._life is not None and self.child.state is State.READY:
            self._life.blame(reason)
            self._teller.publish("slot-hung", pid=self.pid, text=reason)
            self._act(self.child.hang(self._now()))

    def is_late(self, late: bool) -> None:
        """See ``Owner.is_late``."""
        self.child.is_suspect = late

    def retired(self, reason: str) -> None:
        """See ``Owner.retired``."""
        if self._life is not None and self.child.state is State.READY:
            self._life.blame(reason)
            self._act(self.child.retire(self._now()))
            self._teller.publish("slot-stopping", pid=self.pid)

    def ended(self, exit: Exit) -> None:
        """See ``Owner.ended``."""
        child, life, now = self.child, self._life, self._now()
        assert life is not None
        judged = child.end(exit, now, draining=self._run.is_stopping())
        trouble = life.trouble or (life.complaint if judged.cause is ExitCause.START_TIMEOUT else "")
        self._life, self._last_trouble, self._endpoints = None, trouble, ()
        late = f"its start took longer than {self.config.start_timeout:g} s"
        self.last_words = exit.failure or trouble or (late if judged.cause is ExitCause.START_TIMEOUT else "")
        ending = self._run.ended(self.name, judged)
        said = self._teller.ended(ending, Words(exit.failure or trouble, life.traceback, self._output.tail))
        self._run.loop.call_soon(self._run.directory.remove, self._identity.socket_name)
        self._act(child.tick(now))  # the first restart waits for nothing
        if self._life is None:
            is_gone = ending.delay is None or child.state is State.PARKED
            self._announce(NodeStatus.GONE if is_gone else NodeStatus.DOWN)
        self._teller.follows(ending)
        self._remember(said, ending, life, mesh_stops=judged.delay is not None and ending.delay is None)
        self._run.changed()

    # Telling others.

    def _announce(self, status: NodeStatus) -> None:
        self._teller.announce(self._identity, status, self._endpoints)

    def _remember(self, said: Event, ending: Ending, life: Life, *, mesh_stops: bool) -> None:
        if self.child.shortages > 1 or ending.is_trial:  # one shortage is told once; a trial is nobody's crash
            return
        if incident := incident_of(said, tuple(self._history), mesh_stops=mesh_stops):
            self._run.loop.call_soon(self._keep, incident, life)
        self._history.append(PastEnd(said.at, ending.cause, round(ending.uptime, 3)))

    def _keep(self, incident: Incident, life: Life) -> None:
        """Write an incident down, at the end of the turn, when its process is buried."""
        self._run.incidents.append(msgspec.structs.replace(incident, rss=life.peak, machine=machine.look()))

    @property
    def _log_path(self) -> Path:
        return self._run.config.log_dir / f"{self.name}.log"

    def _log_lost(self, reason: str) -> None:
        self._teller.publish("log-lost", file=str(self._log_path), text=reason)

    def _log_restored(self, count: int) -> None:
        self._teller.publish("log-restored", file=str(self._log_path), count=count)

    def _now(self) -> float:
        return self._run.loop.time()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _end_of(last: LastExit | None) -> str:
    """Return how the last process ended, if nobody has asked it to."""
    if last is None or last.cause is ExitCause.STOPPED:
        return ""
    if last.signal is not None:
        return f"it was killed by {last.signal}"
    return f"it ended with status {last.code}" if last.code is not None else ""


_ACTIONS: dict[Action, Callable[[Slot], None]] = {
    Action.SPAWN: Slot._spawn,
    Action.ASK: Slot._ask,
    Action.HAND_OVER: Slot._hand_over,
    Action.DUMP: Slot._dump,
    Action.KILL: Slot._kill,
}
