"""One slot as a state machine: what becomes of it when its process starts, gets ready, ends, or is to stop.

    WAITING ──▶ STARTING ──▶ READY         WAITING: for its dependencies, or for siblings that stop
       ▲         │    │        │           BACKOFF: for its next start; PARKED: for its next try
       │         ▼    ▼        ▼           CONDEMNED: being ended for a fault of its own
    BACKOFF ◀── CONDEMNED ◀────┘
    PARKED                                 from everywhere: STOPPING ──▶ STOPPED, or back to WAITING
                                           when it is given up: FAILED

Whether a slot that stops is to come back is not a state but a wish beside it (s6 has it the same way): a restart is a
stop with that wish, and a later request to stop takes the wish back. A rolling restart is one in which the process is
asked to hand over to a successor, which is then on trial: if it does not become ready, that is no incident, and the
slot waits for whoever rolls it to say what comes next.

Pure: ``now`` comes in, actions go out, and the slot's actor carries them out. A deadline belongs to the state; the
actor calls ``tick`` when it has passed. Called early, or twice, ``tick`` does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ..shared.config.model import Backoff, RestartPolicy, WorkerConfig
from .backoff import restart_delay
from .snapshot import ExitCause, WorkerState

DUMP_TIME = 0.1
"""Seconds that a hung process has to write its tracebacks before it is killed."""

_SHORTEST_PARK = 5.0
# While there is nothing to make a process of, one looks again once a second: that costs next to nothing.
_SHORTAGE = Backoff(initial=0.1, max=1.0, factor=2.0, jitter=0.5)


class State(StrEnum):
    """What a slot is doing; ``WorkerState`` is the user's coarser view of it."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    CONDEMNED = "condemned"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    PARKED = "parked"
    STOPPED = "stopped"
    FAILED = "failed"


class Cue(StrEnum):
    """What happened to a slot."""

    RELEASED = "released"  # nothing it waits for is missing any more
    BECAME_READY = "became-ready"
    CRASHED = "crashed"  # the process ended and is to be started again
    ENDED_WELL = "ended-well"  # the process ended and stays down
    ENDED_BADLY = "ended-badly"
    ENDED_TO_RETURN = "ended-to-return"  # as it was asked to, in order to be started again
    DEADLINE_PASSED = "deadline-passed"
    BROKE = "broke"  # the process is to be killed for what it did, at once
    HUNG = "hung"  # the same, after it has said where it hangs
    RETIRED = "retired"  # the same, after it was asked to end by itself
    START_ASKED = "start-asked"
    STOP_ASKED = "stop-asked"
    KILL_ASKED = "kill-asked"
    HANDOVER_ASKED = "handover-asked"  # the process is to finish what it has, and another one to take its place
    GIVEN_UP = "given-up"  # the restart limit is exceeded, and that ends it
    PUT_ASIDE = "put-aside"  # the restart limit is exceeded, and it is tried now and then


class Action(StrEnum):
    """What the actor has to do."""

    SPAWN = "spawn"
    ASK = "ask"  # send the stop signal
    HAND_OVER = "hand-over"  # ask it to finish what it has and to end
    DUMP = "dump"  # have the tracebacks of all threads written
    KILL = "kill"  # SIGKILL to the whole process group


_ALIVE_ASKED: tuple[State, tuple[Action, ...]] = (State.STOPPING, (Action.ASK,))
_ALIVE_KILLED: tuple[State, tuple[Action, ...]] = (State.STOPPING, (Action.KILL,))

TABLE: dict[tuple[State, Cue], tuple[State, tuple[Action, ...]]] = {
    (State.WAITING, Cue.RELEASED): (State.STARTING, (Action.SPAWN,)),
    (State.WAITING, Cue.START_ASKED): (State.WAITING, ()),
    (State.WAITING, Cue.STOP_ASKED): (State.STOPPED, ()),
    (State.WAITING, Cue.KILL_ASKED): (State.STOPPED, ()),
    (State.STARTING, Cue.BECAME_READY): (State.READY, ()),
    (State.STARTING, Cue.CRASHED): (State.BACKOFF, ()),
    (State.STARTING, Cue.ENDED_TO_RETURN): (State.WAITING, ()),
    (State.STARTING, Cue.ENDED_WELL): (State.STOPPED, ()),
    (State.STARTING, Cue.ENDED_BADLY): (State.FAILED, ()),
    (State.STARTING, Cue.DEADLINE_PASSED): (State.CONDEMNED, (Action.KILL,)),
    (State.STARTING, Cue.BROKE): (State.CONDEMNED, (Action.KILL,)),
    (State.STARTING, Cue.START_ASKED): (State.STARTING, ()),
    (State.STARTING, Cue.STOP_ASKED): _ALIVE_ASKED,
    (State.STARTING, Cue.KILL_ASKED): _ALIVE_KILLED,
    (State.READY, Cue.BECAME_READY): (State.READY, ()),
    (State.READY, Cue.CRASHED): (State.BACKOFF, ()),
    (State.READY, Cue.ENDED_WELL): (State.STOPPED, ()),
    (State.READY, Cue.ENDED_BADLY): (State.FAILED, ()),
    (State.READY, Cue.BROKE): (State.CONDEMNED, (Action.KILL,)),
    (State.READY, Cue.HUNG): (State.CONDEMNED, (Action.DUMP,)),
    (State.READY, Cue.RETIRED): (State.CONDEMNED, (Action.ASK,)),
    (State.READY, Cue.START_ASKED): (State.READY, ()),
    (State.READY, Cue.STOP_ASKED): _ALIVE_ASKED,
    (State.READY, Cue.KILL_ASKED): _ALIVE_KILLED,
    (State.READY, Cue.HANDOVER_ASKED): (State.STOPPING, (Action.HAND_OVER,)),
    (State.CONDEMNED, Cue.BECAME_READY): (State.CONDEMNED, ()),
    (State.CONDEMNED, Cue.BROKE): (State.CONDEMNED, (Action.KILL,)),
    (State.CONDEMNED, Cue.DEADLINE_PASSED): (State.CONDEMNED, (Action.KILL,)),
    (State.CONDEMNED, Cue.CRASHED): (State.BACKOFF, ()),
    (State.CONDEMNED, Cue.ENDED_TO_RETURN): (State.WAITING, ()),
    (State.CONDEMNED, Cue.ENDED_BADLY): (State.FAILED, ()),
    (State.CONDEMNED, Cue.START_ASKED): (State.CONDEMNED, ()),
    (State.CONDEMNED, Cue.STOP_ASKED): _ALIVE_KILLED,
    (State.CONDEMNED, Cue.KILL_ASKED): _ALIVE_KILLED,
    (State.STOPPING, Cue.BECAME_READY): (State.STOPPING, ()),
    (State.STOPPING, Cue.BROKE): (State.STOPPING, ()),
    (State.STOPPING, Cue.ENDED_WELL): (State.STOPPED, ()),
    (State.STOPPING, Cue.ENDED_TO_RETURN): (State.WAITING, ()),
    (State.STOPPING, Cue.DEADLINE_PASSED): (State.STOPPING, (Action.KILL,)),
    (State.STOPPING, Cue.START_ASKED): (State.STOPPING, ()),
    (State.STOPPING, Cue.STOP_ASKED): (State.STOPPING, ()),
    (State.STOPPING, Cue.KILL_ASKED): _ALIVE_KILLED,
    (State.BACKOFF, Cue.DEADLINE_PASSED): (State.WAITING, ()),
    (State.BACKOFF, Cue.GIVEN_UP): (State.FAILED, ()),
    (State.BACKOFF, Cue.PUT_ASIDE): (State.PARKED, ()),
    (State.BACKOFF, Cue.START_ASKED): (State.WAITING, ()),
    (State.BACKOFF, Cue.STOP_ASKED): (State.STOPPED, ()),
    (State.BACKOFF, Cue.KILL_ASKED): (State.STOPPED, ()),
    (State.PARKED, Cue.DEADLINE_PASSED): (State.WAITING, ()),
    (State.PARKED, Cue.START_ASKED): (State.WAITING, ()),
    (State.PARKED, Cue.STOP_ASKED): (State.STOPPED, ()),
    (State.PARKED, Cue.KILL_ASKED): (State.STOPPED, ()),
    (State.STOPPED, Cue.START_ASKED): (State.WAITING, ()),
    (State.STOPPED, Cue.STOP_ASKED): (State.STOPPED, ()),
    (State.STOPPED, Cue.KILL_ASKED): (State.STOPPED, ()),
    (State.FAILED, Cue.START_ASKED): (State.WAITING, ()),
    (State.FAILED, Cue.STOP_ASKED): (State.STOPPED, ()),
    (State.FAILED, Cue.KILL_ASKED): (State.FAILED, ()),
}
"""What happens to a slot in which state. A pair that is not here is a mistake of the caller and changes nothing."""

_VIEW = {
    State.WAITING: WorkerState.STARTING,
    State.STARTING: WorkerState.STARTING,
    State.READY: WorkerState.READY,
    State.CONDEMNED: WorkerState.STOPPING,
    State.STOPPING: WorkerState.STOPPING,
    State.BACKOFF: WorkerState.BACKOFF,
    State.PARKED: WorkerState.PARKED,
    State.STOPPED: WorkerState.STOPPED,
    State.FAILED: WorkerState.FAILED,
}

# States in which there is no process, and none is to come without somebody asking for it.
OVER = frozenset({State.STOPPED, State.FAILED})
# States in which there is a process, or one is being made.
ALIVE = frozenset({State.STARTING, State.READY, State.CONDEMNED, State.STOPPING})
# States that end by themselves at a deadline, whatever the process does.
_TIMED = frozenset({State.STARTING, State.BACKOFF, State.PARKED})


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: by ``code`` or by ``signal`` (its name); neither when it could not be started.

    ``failure`` says what kept it from starting; it is then no success, whatever the code. ``oom``: the kernel killed
    it because memory ran out. ``is_shortage``: it could not be made for want of descriptors, memory or processes, which
    is nobody's fault.
    """

    code: int | None = None
    signal: str | None = None
    failure: str = ""
    oom: bool = False
    is_shortage: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """What the end of an incarnation means. ``delay`` is the wait before the next start; None: there is none.

    ``is_handover``: its successor is about to begin. ``is_trial``: it was such a successor, and never became ready.
    """

    exit: Exit
    cause: ExitCause
    uptime: float
    was_ready: bool
    ever_ready: bool
    delay: float | None
    is_handover: bool = False
    is_trial: bool = False

    @property
    def is_incident(self) -> bool:
        """Whether nobody had asked for it, and it asks for a restart: what the restart limit is about.

        A process that could not be made for want of means has not ended. To give up for that would turn a shortage,
        which passes, into an outage, which stays.
        """
        is_asked = self.cause is ExitCause.STOPPED or self.is_trial
        return not is_asked and self.delay is not None and not self.exit.is_shortage


class Child:
    """The state machine of one slot. ``draw`` yields numbers of a uniform distribution over [0, 1).

    ``config`` may be replaced at any time (a reload): what it says about policy counts from the next decision on.
    """

    def __init__(self, config: WorkerConfig, draw: Callable[[], float]) -> None:
        self.config = config
        self._draw = draw
        self._fault: ExitCause | None = None
        self._restarts_in_a_row = 0
        self._is_by_operator = False
        self.state = State.WAITING
        self.deadline: float | None = None
        self.incarnation = 0
        self.restarts = 0
        self.started_at: float | None = None
        self.ready_at: float | None = None
        self.ended_at: float | None = None
        self.ever_ready = False
        self.comes_back = False  # after the stop that is under way
        self.is_held = False  # stopped by an operator, until an operator starts it
        self.holds = 0  # how often that was asked for
        self.is_on_trial = False  # the process in it, or the one that is about to, is there by a rolling restart
        self.is_reserved = False  # that one has failed: nothing starts until it is said what
        self.is_on_probation = False  # was parked, and has not been well for long enough since
        self.is_suspect = False
        self.shortages = 0  # starts in a row, up to now, for which the means were missing

    @property
    def view(self) -> WorkerState:
        """The state as users see it."""
        return WorkerState.SUSPECT if self.is_suspect and self.state is State.READY else _VIEW[self.state]

    @property
    def is_over(self) -> bool:
        """Whether the slot is empty and stays so."""
        return self.state in OVER

    @property
    def is_alive(self) -> bool:
        """Whether there is a process in the slot, or one is being made for it."""
        return self.state in ALIVE

    @property
    def is_between(self) -> bool:
        """Whether its process has ended by itself, and another one is to be tried."""
        return self.state in (State.BACKOFF, State.PARKED)

    @property
    def holds_nobody_up(self) -> bool:
        """Whether those that depend on this slot may start: it is ready, or will not become so by itself."""
        return self.state is State.READY or self.is_over

    def release(self, now: float) -> tuple[Action, ...]:
        """Start: everything that the slot waits for is there."""
        return self._to(Cue.RELEASED, now)

    def become_ready(self, now: float) -> tuple[Action, ...]:
        """Take over that the process says it is ready (a command: that its readiness was seen)."""
        if self.state is State.STARTING:
            self.ready_at = now
            self.ever_ready = True
            self.is_on_trial = False
        return self._to(Cue.BECAME_READY, now)

    def lose(self, now: float, fault: ExitCause | None = None) -> tuple[Action, ...]:
        """Kill a process for what it did: at once. ``fault`` is the cause of the end; None: that shows at the end."""
        self._blame(fault)
        return self._to(Cue.BROKE, now)

    def hang(self, now: float) -> tuple[Action, ...]:
        """Kill a ready process because it hangs, after ``DUMP_TIME`` in which it says where."""
        self._blame(ExitCause.HUNG)
        return self._to(Cue.HUNG, now)

    def retire(self, now: float) -> tuple[Action, ...]:
        """Have a ready process end because it grew too large; it has its ``stop_timeout`` for that."""
        self._blame(ExitCause.MEMORY)
        return self._to(Cue.RETIRED if self.config.stop_timeout > 0 else Cue.BROKE, now)

    def start(self, now: float) -> tuple[Action, ...]:
        """Begin to start on an operator's request, without any wait; what is up already just stays so."""
        self.is_held = self.is_reserved = False
        if self.state is State.STOPPING:
            self.comes_back = True
        self._forget_the_past(by_operator=not self.is_alive or self.state is State.STOPPING)
        return self._to(Cue.START_ASKED, now)

    def stop(self, now: float, *, comes_back: bool = False) -> tuple[Action, ...]:
        """Begin a stop on request; it is started again after it only with ``comes_back``.

        A stop that goes on already just does, but the latest wish counts.
        """
        self.comes_back = comes_back and self.is_alive
        self.is_on_trial = self.is_reserved = False
        if self.state is State.STOPPING:
            return ()
        return self._to(Cue.STOP_ASKED if self.config.stop_timeout > 0 else Cue.KILL_ASKED, now)

    def hold(self, now: float) -> tuple[Action, ...]:
        """Stop on an operator's request; only an operator starts it again."""
        self.is_held = True
        self.holds += 1
        return self.stop(now)

    def restart(self, now: float) -> tuple[Action, ...]:
        """Stop and start again on an operator's request; what is down is started."""
        if not self.is_alive:
            return self.start(now)
        self.is_held = False
        self._forget_the_past(by_operator=True)
        return self.stop(now, comes_back=True)

    def hand_over(self, now: float) -> tuple[Action, ...]:
        """Begin to put another process into the place of a ready one, which first finishes what it has.

        It has its ``stop_timeout`` for that. What comes after it is on trial until it is ready.
        """
        self._forget_the_past(by_operator=True)
        self.comes_back = self.is_on_trial = True
        return self._to(Cue.HANDOVER_ASKED if self.config.stop_timeout > 0 else Cue.KILL_ASKED, now)

    def kill(self, now: float) -> tuple[Action, ...]:
        """Stop on request without asking the process first."""
        self.comes_back = self.is_on_trial = self.is_reserved = False
        return self._to(Cue.KILL_ASKED, now)

    def give_up(self, now: float) -> tuple[Action, ...]:
        """Do not start again what has just ended: the restart limit is exceeded."""
        return self._to(Cue.GIVEN_UP, now)

    def park(self, now: float) -> float:
        """Put aside what has just ended, and return the seconds until it is tried again."""
        self.is_on_probation = True
        self._to(Cue.PUT_ASIDE, now)
        delay = max(self.config.backoff.max, _SHORTEST_PARK)
        self.deadline = now + delay
        return delay

    def tick(self, now: float) -> tuple[Action, ...]:
        """Act on the deadline, if it has passed."""
        if self.deadline is None or now < self.deadline:
            return ()
        if self.state is State.STARTING:
            self._blame(ExitCause.START_TIMEOUT)
        return self._to(Cue.DEADLINE_PASSED, now)

    def end(self, exit: Exit, now: float, *, draining: bool = False) -> Ending:
        """Judge the end of the process; ``draining``: the whole mesh is stopping, so nothing is restarted.

        The new state is BACKOFF with a deadline when the slot is to be started again, WAITING when a stop with the
        wish to come back has ended, else STOPPED or FAILED.
        """
        was_ready = self.ready_at is not None
        cause = self._cause(exit)
        cue = self._judge(exit, draining)
        is_trial = cue is Cue.ENDED_TO_RETURN and self.state is not State.STOPPING
        is_handover = cue is Cue.ENDED_TO_RETURN and self.is_on_trial and not is_trial
        if self.ready_at is not None and now - self.ready_at >= self.config.backoff.reset_after:
            self._restarts_in_a_row = 0
            self.is_on_probation = False
        delay = 0.0 if cue is Cue.ENDED_TO_RETURN else None
        self.shortages = self.shortages + 1 if exit.is_shortage else 0
        if cue is Cue.CRASHED:
            delay = self._wait()
        uptime = now - self.started_at if self.started_at is not None else 0.0
        self._to(cue, now)
        self.ready_at = self.started_at = None
        if not exit.is_shortage:  # else nothing has ended: what counts is still the death before
            self.ended_at = now
        self.comes_back = self.is_suspect = False
        if is_trial:
            self.is_on_trial, self.is_reserved = False, True
        self._fault = None
        self.deadline = None if cue is not Cue.CRASHED or delay is None else now + delay
        return Ending(exit, cause, uptime, was_ready, self.ever_ready, delay, is_handover, is_trial)

    def _wait(self) -> float:
        """Return the seconds until the next start; a shortage has a row of its own, which begins with a wait."""
        if self.shortages:
            return restart_delay(_SHORTAGE, self.shortages + 1, self._draw())
        self._restarts_in_a_row += 1
        return restart_delay(self.config.backoff, self._restarts_in_a_row, self._draw())

    def _forget_the_past(self, *, by_operator: bool) -> None:
        """An operator's start is a new beginning: no wait, no probation, and not counted among the restarts."""
        self._is_by_operator = by_operator
        if by_operator:
            self._restarts_in_a_row = 0
            self.is_on_probation = False

    def _blame(self, fault: ExitCause | None) -> None:
        """Remember the first fault that a process is ended for."""
        if self._fault is None and self.state is not State.STOPPING:
            self._fault = fault

    def _judge(self, exit: Exit, draining: bool) -> Cue:
        if self.state is State.STOPPING:
            return Cue.ENDED_TO_RETURN if self.comes_back and not draining else Cue.ENDED_WELL
        if self.is_on_trial and not draining and not exit.is_shortage:
            return Cue.ENDED_TO_RETURN
        policy = self.config.restart
        well = not exit.failure and exit.code in self.config.success and self.state is not State.CONDEMNED
        stays_down = policy == RestartPolicy.NEVER or (well and policy == RestartPolicy.ON_FAILURE)
        # Even what is never restarted is started once: a process that was not made has not had its one life.
        if not draining and (exit.is_shortage or not stays_down):
            return Cue.CRASHED
        return Cue.ENDED_WELL if well else Cue.ENDED_BADLY

    def _cause(self, exit: Exit) -> ExitCause:
        if self.state is State.STOPPING:
            return ExitCause.STOPPED
        if self._fault is not None:
            return self._fault
        if exit.oom:
            return ExitCause.OOM
        return ExitCause.EXITED if exit.signal is None else ExitCause.SIGNALED

    def _to(self, cue: Cue, now: float) -> tuple[Action, ...]:
        try:
            state, actions = TABLE[self.state, cue]
        except KeyError:
            raise ValueError(f"{cue} means nothing to a slot that is {self.state}") from None
        if cue is Cue.RELEASED:
            self.restarts += self.incarnation > 0 and not self._is_by_operator
            self._is_by_operator = False
            self.incarnation += 1
            self.started_at = now
            self._fault = None
        if state is not self.state or actions or cue is Cue.DEADLINE_PASSED:
            self.deadline = self._deadline(state, actions, now)
        self.state = state
        return actions

    def _deadline(self, state: State, actions: tuple[Action, ...], now: float) -> float | None:
        if state is State.STARTING:
            return now + self.config.start_timeout
        if Action.ASK in actions or Action.HAND_OVER in actions:
            return now + self.config.stop_timeout
        return now + DUMP_TIME if Action.DUMP in actions else None
