"""The state machine of one slot, with literal times."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshvisor.shared.config.model import Backoff, RestartPolicy, WorkerConfig
from meshvisor.supervisor.child import ALIVE, OVER, TABLE, Action, Child, Cue, Exit, State
from meshvisor.supervisor.snapshot import ExitCause, WorkerState

KILLED = Exit(signal="SIGKILL")
WELL = Exit(code=0)
BADLY = Exit(code=1)


def child(draw: Callable[[], float] = lambda: 0.0, **options: Any) -> Child:
    return Child(WorkerConfig("a", Path("/"), command=("a",), **options), draw)


def started(**options: Any) -> Child:
    one = child(**options)
    assert one.release(0.0) == (Action.SPAWN,)
    return one


def ready(at: float = 1.0, **options: Any) -> Child:
    one = started(**options)
    assert one.become_ready(at) == ()
    return one


def test_every_state_can_be_reached_and_only_the_last_ones_have_no_way_out() -> None:
    reached = {State.WAITING} | {target for target, _ in TABLE.values()}
    assert reached == set(State)
    for state in State:
        leaves = {target for (source, _), (target, _) in TABLE.items() if source is state} - {state}
        assert bool(leaves) == (state not in OVER)


@pytest.mark.parametrize("state", State)
def test_a_request_to_stop_or_to_kill_is_understood_in_every_state(state: State) -> None:
    for cue in (Cue.STOP_ASKED, Cue.KILL_ASKED):
        target, actions = TABLE[state, cue]
        assert target in (OVER | {State.STOPPING})
        assert (target is State.STOPPING) == (state in ALIVE)
        assert Action.SPAWN not in actions


@pytest.mark.parametrize("state", sorted(ALIVE))
def test_the_end_of_a_process_is_understood_in_every_state_that_has_one(state: State) -> None:
    cues = {cue for source, cue in TABLE if source is state}
    assert Cue.ENDED_WELL in cues or Cue.ENDED_BADLY in cues


def test_what_is_not_in_the_table_is_a_mistake_and_changes_nothing() -> None:
    one = child()
    with pytest.raises(ValueError, match="became-ready means nothing to a slot that is waiting"):
        one.become_ready(0.0)
    assert one.state is State.WAITING


def test_one_that_is_retired_is_asked_then_killed_and_comes_back_however_it_ends() -> None:
    for policy in (RestartPolicy.ALWAYS, RestartPolicy.ON_FAILURE):
        one = ready(restart=policy, stop_timeout=5.0)
        assert one.retire(2.0) == (Action.ASK,)
        assert one.retire(2.0) == ()
        assert (one.view, one.deadline) == (WorkerState.STOPPING, 7.0)
        assert one.end(WELL, 3.0).delay == 0.0
    one = ready(stop_timeout=5.0)
    one.retire(2.0)
    assert one.tick(6.9) == ()
    assert one.tick(7.0) == (Action.KILL,)
    assert one.end(KILLED, 7.1).delay == 0.0
    assert ready(stop_timeout=0.0).retire(2.0) == (Action.KILL,)
    assert started().retire(2.0) == ()


def test_one_that_is_retired_can_be_stopped_or_killed_all_the_same() -> None:
    one = ready(stop_timeout=5.0)
    one.retire(2.0)
    assert (one.stop(3.0), one.deadline) == ((Action.ASK,), 8.0)
    assert one.end(WELL, 4.0).cause is ExitCause.STOPPED
    one = ready(stop_timeout=5.0)
    one.retire(2.0)
    assert one.lose(3.0) == (Action.KILL,)
    one = ready(restart=RestartPolicy.NEVER)
    one.retire(2.0)
    one.end(WELL, 3.0)
    assert one.state is State.FAILED


def test_a_slot_that_waits_for_its_dependencies_looks_like_starting() -> None:
    one = child()
    assert (one.view, one.incarnation, one.deadline) == (WorkerState.STARTING, 0, None)


def test_a_start_must_be_ready_by_its_deadline() -> None:
    one = started(start_timeout=10.0)
    assert (one.incarnation, one.deadline) == (1, 10.0)
    assert one.tick(9.9) == ()
    assert one.tick(10.0) == (Action.KILL,)
    assert one.tick(10.0) == ()
    ending = one.end(KILLED, 10.1)
    assert (ending.cause, ending.uptime, ending.was_ready, ending.delay) == (
        ExitCause.START_TIMEOUT,
        10.1,
        False,
        0.0,
    )


def test_a_process_that_ends_well_while_it_is_killed_for_its_slow_start_has_failed() -> None:
    one = started(start_timeout=10.0, restart=RestartPolicy.NEVER)
    one.tick(10.0)
    one.end(WELL, 10.0)
    assert one.state is State.FAILED


def test_ready_has_no_deadline_and_may_be_said_twice() -> None:
    one = ready(at=2.0)
    assert (one.state, one.deadline, one.ready_at) == (State.READY, None, 2.0)
    one.become_ready(3.0)
    assert one.ready_at == 2.0


@pytest.mark.parametrize(
    ("policy", "exit", "state"),
    [
        (RestartPolicy.ALWAYS, WELL, State.BACKOFF),
        (RestartPolicy.ALWAYS, BADLY, State.BACKOFF),
        (RestartPolicy.ALWAYS, KILLED, State.BACKOFF),
        (RestartPolicy.ON_FAILURE, WELL, State.STOPPED),
        (RestartPolicy.ON_FAILURE, BADLY, State.BACKOFF),
        (RestartPolicy.ON_FAILURE, KILLED, State.BACKOFF),
        (RestartPolicy.ON_FAILURE, Exit(signal="SIGTERM"), State.BACKOFF),
        (RestartPolicy.NEVER, WELL, State.STOPPED),
        (RestartPolicy.NEVER, BADLY, State.FAILED),
        (RestartPolicy.NEVER, KILLED, State.FAILED),
        (RestartPolicy.NEVER, Exit(code=0, failure="cannot run it"), State.FAILED),
        (RestartPolicy.NEVER, Exit(failure="Too many open files"), State.FAILED),
    ],
)
def test_the_policy_decides_what_becomes_of_an_end(policy: RestartPolicy, exit: Exit, state: State) -> None:
    """OTP (reliability.md 4.1): permanent always, transient unless normal, temporary never."""
    one = ready(restart=policy)
    ending = one.end(exit, 2.0)
    assert one.state is state
    assert (ending.delay is not None) == (state is State.BACKOFF)


def test_other_statuses_can_be_successes() -> None:
    one = ready(restart=RestartPolicy.ON_FAILURE, success=frozenset({3}))
    one.end(Exit(code=3), 2.0)
    assert one.state is State.STOPPED
    one = ready(restart=RestartPolicy.ON_FAILURE, success=frozenset({3}))
    one.end(WELL, 2.0)
    assert one.state is State.BACKOFF


def test_restarts_in_a_row_wait_longer_and_the_row_ends_after_a_time_of_being_ready() -> None:
    backoff = Backoff(initial=1.0, max=3.0, factor=2.0, jitter=0.0, reset_after=10.0)
    one = ready(at=0.0, backoff=backoff)
    delays = []
    now = 0.0
    for up in (1.0, 1.0, 1.0, 1.0, 9.9, 10.0, 1.0):
        now += up
        ending = one.end(KILLED, now)
        assert ending.delay is not None
        delays.append(ending.delay)
        now += ending.delay
        assert one.deadline == now
        assert one.tick(now) == (Action.SPAWN,)
        one.become_ready(now)
    assert delays == [0.0, 1.0, 2.0, 3.0, 3.0, 0.0, 1.0]
    assert (one.incarnation, one.restarts) == (8, 7)


def test_being_up_without_being_ready_does_not_end_the_row() -> None:
    backoff = Backoff(initial=1.0, jitter=0.0, reset_after=10.0)
    one = started(backoff=backoff, start_timeout=100.0)
    one.end(KILLED, 50.0)
    one.tick(50.0)
    assert one.end(KILLED, 99.0).delay == 1.0


def test_jitter_shortens_the_wait_by_what_is_drawn() -> None:
    one = ready(draw=lambda: 0.25, backoff=Backoff(initial=1.0, jitter=0.5))
    one.end(KILLED, 1.0)
    one.tick(1.0)
    assert one.end(KILLED, 2.0).delay == 1.0 - 0.5 * 1.0 * 0.25


def test_a_stop_asks_and_then_kills() -> None:
    one = ready(stop_timeout=5.0)
    assert one.stop(10.0) == (Action.ASK,)
    assert (one.view, one.deadline) == (WorkerState.STOPPING, 15.0)
    assert one.stop(11.0) == ()
    assert one.tick(14.9) == ()
    assert one.tick(15.0) == (Action.KILL,)
    assert one.tick(15.0) == ()
    ending = one.end(KILLED, 15.1)
    assert (ending.cause, ending.delay, one.state) == (ExitCause.STOPPED, None, State.STOPPED)


def test_a_stop_without_a_timeout_kills_at_once() -> None:
    assert ready(stop_timeout=0.0).stop(10.0) == (Action.KILL,)


def test_a_kill_overrides_a_stop() -> None:
    one = ready(stop_timeout=5.0)
    one.stop(10.0)
    assert one.kill(11.0) == (Action.KILL,)


def test_a_slot_that_waits_for_its_next_start_stops_without_a_process() -> None:
    one = ready()
    one.end(KILLED, 2.0)
    assert one.stop(2.0) == ()
    assert (one.state, one.deadline) == (State.STOPPED, None)
    assert one.tick(100.0) == ()


def test_ready_comes_too_late_when_a_stop_was_asked_for() -> None:
    one = started()
    one.stop(1.0)
    one.become_ready(2.0)
    assert (one.state, one.ever_ready) == (State.STOPPING, False)


def test_a_process_that_breaks_the_protocol_is_killed_and_started_again() -> None:
    one = ready()
    assert one.lose(2.0) == (Action.KILL,)
    assert one.lose(2.0) == ()
    ending = one.end(KILLED, 2.1)
    assert (ending.cause, one.state) == (ExitCause.SIGNALED, State.BACKOFF)


def test_nothing_is_started_again_while_the_mesh_drains() -> None:
    """supervisord 4 (reliability.md 4.3)."""
    one = ready()
    assert one.end(KILLED, 2.0, draining=True).delay is None
    assert one.state is State.FAILED
    one = ready()
    one.end(WELL, 2.0, draining=True)
    assert one.state is State.STOPPED


def test_given_up_means_failed_and_never_tried_again() -> None:
    one = ready()
    one.end(KILLED, 2.0)
    one.give_up(2.0)
    assert (one.state, one.deadline, one.view) == (State.FAILED, None, WorkerState.FAILED)


def test_who_is_ready_or_over_holds_nobody_up() -> None:
    assert not child().holds_nobody_up
    assert not started().holds_nobody_up
    one = ready(restart=RestartPolicy.NEVER)
    assert one.holds_nobody_up
    one.end(BADLY, 2.0)
    assert one.holds_nobody_up


class Life:
    """Drives a child as its actor would, at whatever moment, and checks what must hold at every one of them."""

    def __init__(self) -> None:
        backoff = Backoff(initial=1.0, max=4.0, reset_after=10.0)
        self.child = child(start_timeout=5.0, stop_timeout=5.0, backoff=backoff)
        self.has_process = False
        self.stop_asked = False
        self.now = 0.0

    def do(self, step: str) -> None:
        self.now += 0.7
        if step == "release" and self.child.state is State.WAITING:
            self.carry_out(self.child.release(self.now))
        elif step == "ready" and self.has_process:
            self.carry_out(self.child.become_ready(self.now))
        elif step == "lose" and self.has_process:
            self.carry_out(self.child.lose(self.now))
        elif step in ("well", "badly") and self.has_process:
            self.has_process = False
            self.child.end(WELL if step == "well" else BADLY, self.now, draining=self.stop_asked)
        elif step in ("stop", "kill"):
            self.stop_asked = True
            self.carry_out(self.child.stop(self.now) if step == "stop" else self.child.kill(self.now))
        elif step == "deadline" and self.child.deadline is not None:
            self.now = max(self.now, self.child.deadline)
            self.carry_out(self.child.tick(self.now))
        elif step == "early":
            before = (self.child.state, self.child.deadline)
            assert self.child.tick(-1.0) == ()
            assert (self.child.state, self.child.deadline) == before
        self.check()

    def carry_out(self, actions: tuple[Action, ...]) -> None:
        if Action.SPAWN in actions:
            assert not self.has_process, "two incarnations of a slot"
            assert not self.stop_asked, "a start after a stop was asked for"
            self.has_process = True
        assert self.has_process or not actions

    def check(self) -> None:
        one = self.child
        assert (one.state in ALIVE) == self.has_process
        assert (one.deadline is not None) or one.state not in (State.STARTING, State.BACKOFF)
        assert one.restarts == max(one.incarnation - 1, 0)
        assert not (self.stop_asked and one.state in (State.WAITING, State.STARTING, State.READY, State.BACKOFF))


STEPS = ["release", "ready", "lose", "well", "badly", "stop", "kill", "deadline", "early"]


@settings(deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([*STEPS[:5], *STEPS[7:]]), max_size=30), st.lists(st.sampled_from(STEPS), max_size=10))
def test_whatever_happens_there_is_one_process_at_most_and_none_after_a_stop(run: list[str], end: list[str]) -> None:
    life = Life()
    for step in ("release", *run, *end):
        life.do(step)
