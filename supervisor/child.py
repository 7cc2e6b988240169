"""One slot as a state machine: what becomes of it when its process starts, gets ready, ends, or is to stop.

    WAITING ──▶ STARTING ──▶ READY         WAITING: for its dependencies       KILLED: has got SIGKILL for a fault
                 ▲  │          │           BACKOFF: for its next start         STOPPING: as it was asked to
                 │  ▼          ▼
              BACKOFF ◀──── KILLED         from everywhere: STOPPING ──▶ STOPPED, and FAILED when it is given up

RETIRING, between READY and KILLED: is to be replaced for a fault, and may end by itself first.

Pure: ``now`` comes in, actions go out, and the slot's actor carries them out. A deadline belongs to the state; the
actor calls ``tick`` when it has passed. Called early, or twice, ``tick`` does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from ..shared.config.model import RestartPolicy, WorkerConfig
from .backoff import restart_delay
from .snapshot import ExitCause, WorkerState


class State(StrEnum):
    """What a slot is doing; ``WorkerState`` is the user's coarser view of it."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RETIRING = "retiring"
    KILLED = "killed"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    STOPPED = "stopped"
    FAILED = "failed"


class Cue(StrEnum):
    """What happened to a slot."""

    RELEASED = "released"  # nothing it depends on is missing any more
    BECAME_READY = "became-ready"
    CRASHED = "crashed"  # the process ended and is to be started again
    ENDED_WELL = "ended-well"  # the process ended and stays down
    ENDED_BADLY = "ended-badly"
    DEADLINE_PASSED = "deadline-passed"
    RETIRED = "retired"  # it is to be replaced, and may end by itself first
    BROKE = "broke"  # the process lives and no longer keeps to the protocol
    STOP_ASKED = "stop-asked"
    KILL_ASKED = "kill-asked"
    GIVEN_UP = "given-up"  # the restart limit is exceeded


class Action(StrEnum):
    """What the actor has to do."""

    SPAWN = "spawn"
    ASK = "ask"  # send the stop signal
    KILL = "kill"  # SIGKILL to the whole process group


TABLE: dict[tuple[State, Cue], tuple[State, tuple[Action, ...]]] = {
    (State.WAITING, Cue.RELEASED): (State.STARTING, (Action.SPAWN,)),
    (State.WAITING, Cue.STOP_ASKED): (State.STOPPED, ()),
    (State.WAITING, Cue.KILL_ASKED): (State.STOPPED, ()),
    (State.STARTING, Cue.BECAME_READY): (State.READY, ()),
    (State.STARTING, Cue.CRASHED): (State.BACKOFF, ()),
    (State.STARTING, Cue.ENDED_WELL): (State.STOPPED, ()),
    (State.STARTING, Cue.ENDED_BADLY): (State.FAILED, ()),
    (State.STARTING, Cue.DEADLINE_PASSED): (State.KILLED, (Action.KILL,)),
    (State.STARTING, Cue.BROKE): (State.KILLED, (Action.KILL,)),
    (State.STARTING, Cue.STOP_ASKED): (State.STOPPING, (Action.ASK,)),
    (State.STARTING, Cue.KILL_ASKED): (State.STOPPING, (Action.KILL,)),
    (State.READY, Cue.BECAME_READY): (State.READY, ()),
    (State.READY, Cue.CRASHED): (State.BACKOFF, ()),
    (State.READY, Cue.ENDED_WELL): (State.STOPPED, ()),
    (State.READY, Cue.ENDED_BADLY): (State.FAILED, ()),
    (State.READY, Cue.BROKE): (State.KILLED, (Action.KILL,)),
    (State.READY, Cue.RETIRED): (State.RETIRING, (Action.ASK,)),
    (State.READY, Cue.STOP_ASKED): (State.STOPPING, (Action.ASK,)),
    (State.READY, Cue.KILL_ASKED): (State.STOPPING, (Action.KILL,)),
    (State.RETIRING, Cue.BECAME_READY): (State.RETIRING, ()),
    (State.RETIRING, Cue.CRASHED): (State.BACKOFF, ()),
    (State.RETIRING, Cue.ENDED_BADLY): (State.FAILED, ()),
    (State.RETIRING, Cue.DEADLINE_PASSED): (State.KILLED, (Action.KILL,)),
    (State.RETIRING, Cue.BROKE): (State.KILLED, (Action.KILL,)),
    (State.RETIRING, Cue.STOP_ASKED): (State.STOPPING, (Action.ASK,)),
    (State.RETIRING, Cue.KILL_ASKED): (State.STOPPING, (Action.KILL,)),
    (State.KILLED, Cue.BECAME_READY): (State.KILLED, ()),
    (State.KILLED, Cue.BROKE): (State.KILLED, ()),
    (State.KILLED, Cue.CRASHED): (State.BACKOFF, ()),
    (State.KILLED, Cue.ENDED_BADLY): (State.FAILED, ()),
    (State.KILLED, Cue.STOP_ASKED): (State.STOPPING, ()),
    (State.KILLED, Cue.KILL_ASKED): (State.STOPPING, ()),
    (State.STOPPING, Cue.BECAME_READY): (State.STOPPING, ()),
    (State.STOPPING, Cue.BROKE): (State.STOPPING, ()),
    (State.STOPPING, Cue.ENDED_WELL): (State.STOPPED, ()),
    (State.STOPPING, Cue.DEADLINE_PASSED): (State.STOPPING, (Action.KILL,)),
    (State.STOPPING, Cue.STOP_ASKED): (State.STOPPING, ()),
    (State.STOPPING, Cue.KILL_ASKED): (State.STOPPING, (Action.KILL,)),
    (State.BACKOFF, Cue.DEADLINE_PASSED): (State.STARTING, (Action.SPAWN,)),
    (State.BACKOFF, Cue.GIVEN_UP): (State.FAILED, ()),
    (State.BACKOFF, Cue.STOP_ASKED): (State.STOPPED, ()),
    (State.BACKOFF, Cue.KILL_ASKED): (State.STOPPED, ()),
    (State.STOPPED, Cue.STOP_ASKED): (State.STOPPED, ()),
    (State.STOPPED, Cue.KILL_ASKED): (State.STOPPED, ()),
    (State.FAILED, Cue.STOP_ASKED): (State.FAILED, ()),
    (State.FAILED, Cue.KILL_ASKED): (State.FAILED, ()),
}
"""What happens to a slot in which state. A pair that is not here is a mistake of the caller and changes nothing."""

_VIEW = {
    State.WAITING: WorkerState.STARTING,
    State.STARTING: WorkerState.STARTING,
    State.READY: WorkerState.READY,
    State.RETIRING: WorkerState.STOPPING,
    State.KILLED: WorkerState.STOPPING,
    State.STOPPING: WorkerState.STOPPING,
    State.BACKOFF: WorkerState.BACKOFF,
    State.STOPPED: WorkerState.STOPPED,
    State.FAILED: WorkerState.FAILED,
}

# States in which there is no process, and none is to come without somebody asking for it.
OVER = frozenset({State.STOPPED, State.FAILED})
# States in which the process is to be replaced, however it ends.
_AT_FAULT = frozenset({State.RETIRING, State.KILLED})
# States in which there is a process.
ALIVE = frozenset({State.STARTING, State.READY, State.RETIRING, State.KILLED, State.STOPPING})


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: by ``code`` or by ``signal`` (its name); neither when it could not be started.

    ``failure`` says what kept it from starting; it is then no success, whatever the code. ``rss`` is the most memory
    that it ever had, in bytes; 0 when that is not known.
    """

    code: int | None = None
    signal: str | None = None
    failure: str = ""
    rss: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Ending:
    """What the end of an incarnation means. ``delay`` is the wait before the next start; None: there is none."""

    exit: Exit
    cause: ExitCause
    uptime: float
    was_ready: bool
    ever_ready: bool
    delay: float | None


class Child:
    """The state machine of one slot. ``draw`` yields numbers of a uniform distribution over [0, 1)."""

    def __init__(self, config: WorkerConfig, draw: Callable[[], float]) -> None:
        self._config = config
        self._draw = draw
        self._timed_out = False
        self._restarts_in_a_row = 0
        self.state = State.WAITING
        self.deadline: float | None = None
        self.incarnation = 0
        self.restarts = 0
        self.started_at: float | None = None
        self.ready_at: float | None = None
        self.ended_at: float | None = None
        self.ever_ready = False

    @property
    def view(self) -> WorkerState:
        """The state as users see it."""
        return _VIEW[self.state]

    @property
    def is_over(self) -> bool:
        """Whether the slot is empty and stays so."""
        return self.state in OVER

    @property
    def holds_nobody_up(self) -> bool:
        """Whether those that depend on this slot may start: it is ready, or will not become so by itself."""
        return self.state is State.READY or self.is_over

    def release(self, now: float) -> tuple[Action, ...]:
        """Start for the first time: everything that the slot depends on is there."""
        return self._to(Cue.RELEASED, now)

    def become_ready(self, now: float) -> tuple[Action, ...]:
        """Take over that the process says it is ready (a command: that it has lived long enough)."""
        if self.state is State.STARTING:
            self.ready_at = now
            self.ever_ready = True
        return self._to(Cue.BECAME_READY, now)

    def lose(self, now: float) -> tuple[Action, ...]:
        """Give up a process that lives and no longer keeps to the protocol."""
        return self._to(Cue.BROKE, now)

    def retire(self, now: float) -> tuple[Action, ...]:
        """Have a process that is ready replaced: it is asked to end, and killed after ``stop_timeout``."""
        if self.state is not State.READY:
            return ()
        return self._to(Cue.RETIRED if self._config.stop_timeout > 0 else Cue.BROKE, now)

    def stop(self, now: float) -> tuple[Action, ...]:
        """Begin a stop on request; nothing is restarted after it. A stop that goes on already just does."""
        if self.state is State.STOPPING:
            return ()
        return self._to(Cue.STOP_ASKED if self._config.stop_timeout > 0 else Cue.KILL_ASKED, now)

    def kill(self, now: float) -> tuple[Action, ...]:
        """Stop on request without asking the process first."""
        return self._to(Cue.KILL_ASKED, now)

    def give_up(self, now: float) -> tuple[Action, ...]:
        """Do not start again what has just ended: the restart limit is exceeded."""
        return self._to(Cue.GIVEN_UP, now)

    def tick(self, now: float) -> tuple[Action, ...]:
        """Act on the deadline, if it has passed."""
        if self.deadline is None or now < self.deadline:
            return ()
        self._timed_out = self.state is State.STARTING
        return self._to(Cue.DEADLINE_PASSED, now)

    def end(self, exit: Exit, now: float, *, draining: bool = False) -> Ending:
        """Judge the end of the process; ``draining``: the whole mesh is stopping, so nothing is restarted.

        The new state is BACKOFF with a deadline when the slot is to be started again, STOPPED or FAILED when not.
        """
        was_ready = self.ready_at is not None
        cause = self._cause(exit)
        cue = self._judge(exit, draining)
        if self.ready_at is not None and now - self.ready_at >= self._config.backoff.reset_after:
            self._restarts_in_a_row = 0
        delay = None
        if cue is Cue.CRASHED:
            self._restarts_in_a_row += 1
            delay = restart_delay(self._config.backoff, self._restarts_in_a_row, self._draw())
        uptime = now - self.started_at if self.started_at is not None else 0.0
        self._to(cue, now)
        self.ready_at = self.started_at = None
        self.ended_at = now
        self.deadline = None if delay is None else now + delay
        return Ending(exit, cause, uptime, was_ready, self.ever_ready, delay)

    def _judge(self, exit: Exit, draining: bool) -> Cue:
        if self.state is State.STOPPING:
            return Cue.ENDED_WELL
        policy = self._config.restart
        well = not exit.failure and exit.code in self._config.success and self.state not in _AT_FAULT
        stays_down = draining or policy == RestartPolicy.NEVER or (well and policy == RestartPolicy.ON_FAILURE)
        if not stays_down:
            return Cue.CRASHED
        return Cue.ENDED_WELL if well else Cue.ENDED_BADLY

    def _cause(self, exit: Exit) -> ExitCause:
        if self.state is State.STOPPING:
            return ExitCause.STOPPED
        if self._timed_out:
            return ExitCause.START_TIMEOUT
        return ExitCause.EXITED if exit.signal is None else ExitCause.SIGNALED

    def _to(self, cue: Cue, now: float) -> tuple[Action, ...]:
        try:
            state, actions = TABLE[self.state, cue]
        except KeyError:
            raise ValueError(f"{cue} means nothing to a slot that is {self.state}") from None
        if state is State.STARTING:
            self.restarts += self.incarnation > 0
            self.incarnation += 1
            self.started_at = now
            self._timed_out = False
        if state is not self.state or cue is Cue.DEADLINE_PASSED:
            self.deadline = self._deadline(state, actions, now)
        self.state = state
        return actions

    def _deadline(self, state: State, actions: tuple[Action, ...], now: float) -> float | None:
        if state is State.STARTING:
            return now + self._config.start_timeout
        if Action.ASK in actions:
            return now + self._config.stop_timeout
        return None
