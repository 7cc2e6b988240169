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


def again(one: Child, now: float) -> tuple[Action, ...]:
    """Start it again: its wait is over and nothing holds it up."""
    assert one.tick(now) == ()
    assert one.state is State.WAITING
    return one.release(now)


def ready(at: float = 1.0, **options: Any) -> Child:
    one = started(**options)
    assert one.become_ready(at) == ()
    return one


def test_every_state_can_be_reached_and_only_the_last_ones_are_left_by_nobody_but_an_operator() -> None:
    reached = {State.WAITING} | {target for target, _ in TABLE.values()}
    assert reached == set(State)
    for state in State:
        by_itself = {
            target for (source, cue), (target, _) in TABLE.items() if source is state and cue is not Cue.START_ASKED
        }
        assert bool(by_itself - OVER - {state}) == (state not in OVER)


@pytest.mark.parametrize("state", State)
def test_a_request_to_start_is_understood_in_every_state(state: State) -> None:
    target, actions = TABLE[state, Cue.START_ASKED]
    assert target is (state if state in ALIVE else State.WAITING)
    assert actions == ()


@pytest.mark.parametrize("state", State)
def test_a_request_to_stop_or_to_kill_is_understood_in_every_state(state: State) -> None:
    """supervisord 7 (reliability.md 4.3): STARTING like RUNNING; without a process it is no error."""
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
    """supervisord 3 (reliability.md 4.3): exitcodes and autorestart."""
    one = ready(restart=RestartPolicy.ON_FAILURE, success=frozenset({3}))
    one.end(Exit(code=3), 2.0)
    assert one.state is State.STOPPED
    one = ready(restart=RestartPolicy.ON_FAILURE, success=frozenset({3}))
    one.end(WELL, 2.0)
    assert one.state is State.BACKOFF


def test_restarts_in_a_row_wait_longer_and_the_row_ends_after_a_time_of_being_ready() -> None:
    """supervisord 2 (reliability.md 4.3): once it is well, back-off begins anew."""
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
        assert again(one, now) == (Action.SPAWN,)
        one.become_ready(now)
    assert delays == [0.0, 1.0, 2.0, 3.0, 3.0, 0.0, 1.0]
    assert (one.incarnation, one.restarts) == (8, 7)


def test_being_up_without_being_ready_does_not_end_the_row() -> None:
    """supervisord 1 (reliability.md 4.3): who ends before it was well waits longer and longer."""
    backoff = Backoff(initial=1.0, jitter=0.0, reset_after=10.0)
    one = started(backoff=backoff, start_timeout=100.0)
    one.end(KILLED, 50.0)
    again(one, 50.0)
    assert one.end(KILLED, 99.0).delay == 1.0


def test_jitter_shortens_the_wait_by_what_is_drawn() -> None:
    one = ready(draw=lambda: 0.25, backoff=Backoff(initial=1.0, jitter=0.5))
    one.end(KILLED, 1.0)
    again(one, 1.0)
    assert one.end(KILLED, 2.0).delay == 1.0 - 0.5 * 1.0 * 0.25


def test_a_stop_asks_and_then_kills() -> None:
    """OTP (reliability.md 4.1): shutdown, wait, kill. supervisord 5 (reliability.md 4.3): the same."""
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
    """OTP (reliability.md 4.1): brutal_kill."""
    assert ready(stop_timeout=0.0).stop(10.0) == (Action.KILL,)


def test_a_kill_overrides_a_stop() -> None:
    one = ready(stop_timeout=5.0)
    one.stop(10.0)
    assert one.kill(11.0) == (Action.KILL,)


def test_a_slot_that_waits_for_its_next_start_stops_without_a_process() -> None:
    """supervisord 6 and 7 (reliability.md 4.3): a kill in BACKOFF ends it, and needs no process."""
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


NO_MEANS = Exit(failure="Too many open files", is_shortage=True)


def test_a_shortage_has_a_row_of_its_own_and_is_no_incident() -> None:
    """supervisord 8 (reliability.md 4.3), and no step towards the end of a mesh that is short of something."""
    one = ready(at=0.0)
    one.end(KILLED, 1.0)
    now, waits = 1.0, []
    for _ in range(6):
        again(one, now)
        ending = one.end(NO_MEANS, now)
        assert ending.delay is not None
        waits.append(ending.delay)
        assert (ending.is_incident, one.ended_at) == (False, 1.0)
        now += ending.delay
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert one.shortages == 6
    again(one, now)
    one.become_ready(now)
    ending = one.end(KILLED, now)
    assert (ending.is_incident, ending.delay, one.shortages) == (True, 0.01, 0)


def test_many_slots_that_are_short_of_something_do_not_all_try_at_the_same_time() -> None:
    one = started()
    for draw in (0.0, 0.5, 1.0):
        other = child(lambda draw=draw: draw)  # type: ignore[misc]
        other.release(0.0)
        assert other.end(NO_MEANS, 0.0).delay == pytest.approx(0.1 - 0.05 * draw)
    assert one.end(NO_MEANS, 0.0).delay == 0.1


def test_what_is_never_restarted_is_started_once_there_are_means() -> None:
    one = started(restart=RestartPolicy.NEVER)
    assert one.end(NO_MEANS, 1.0).delay == 0.1
    again(one, 1.1)
    one.end(BADLY, 2.0)
    assert one.state is State.FAILED


def test_a_shortage_starts_nothing_while_the_mesh_drains() -> None:
    one = started()
    assert one.end(NO_MEANS, 1.0, draining=True).delay is None
    assert one.state is State.FAILED


def test_given_up_means_failed_and_never_tried_again() -> None:
    one = ready()
    one.end(KILLED, 2.0)
    one.give_up(2.0)
    assert (one.state, one.deadline, one.view) == (State.FAILED, None, WorkerState.FAILED)


def test_a_slot_is_between_two_processes_when_its_own_has_ended_by_itself_and_another_is_to_come() -> None:
    one = ready(backoff=Backoff(initial=1.0))
    seen = [one.is_between]
    one.end(KILLED, 2.0)
    seen.append(one.is_between)
    one.park(2.0)
    seen.append(one.is_between)
    one.stop(3.0)
    assert [*seen, one.is_between] == [False, True, True, False]


def test_who_is_ready_or_over_holds_nobody_up() -> None:
    assert not child().holds_nobody_up
    assert not started().holds_nobody_up
    one = ready(restart=RestartPolicy.NEVER)
    assert one.holds_nobody_up
    one.end(BADLY, 2.0)
    assert one.holds_nobody_up


@pytest.mark.parametrize(
    ("fault", "cause"),
    [(ExitCause.FROZEN, ExitCause.FROZEN), (ExitCause.MEMORY, ExitCause.MEMORY), (None, ExitCause.SIGNALED)],
)
def test_the_fault_that_a_process_is_killed_for_is_the_cause_of_its_end(
    fault: ExitCause | None, cause: ExitCause
) -> None:
    one = ready()
    assert one.lose(2.0, fault) == (Action.KILL,)
    assert one.end(KILLED, 2.1).cause is cause


def test_a_hung_process_says_where_before_it_is_killed() -> None:
    one = ready()
    assert one.hang(2.0) == (Action.DUMP,)
    assert (one.view, one.deadline) == (WorkerState.STOPPING, 2.1)
    assert one.tick(2.1) == (Action.KILL,)
    ending = one.end(KILLED, 2.2)
    assert (ending.cause, ending.delay, ending.is_incident) == (ExitCause.HUNG, 0.0, True)


def test_a_process_that_grew_too_large_may_end_by_itself_before_it_is_killed() -> None:
    one = ready(stop_timeout=5.0)
    assert one.retire(2.0) == (Action.ASK,)
    assert one.deadline == 7.0
    ending = one.end(WELL, 3.0)
    assert (ending.cause, ending.delay, one.state) == (ExitCause.MEMORY, 0.0, State.BACKOFF)
    one = ready(stop_timeout=5.0)
    one.retire(2.0)
    assert one.tick(7.0) == (Action.KILL,)
    assert ready(stop_timeout=0.0).retire(2.0) == (Action.KILL,)


def test_the_first_fault_counts() -> None:
    one = ready()
    one.hang(2.0)
    assert one.lose(2.05, ExitCause.FROZEN) == (Action.KILL,)
    assert one.end(KILLED, 2.1).cause is ExitCause.HUNG


def test_memory_that_ran_out_is_told_apart_from_other_kills() -> None:
    assert ready().end(Exit(signal="SIGKILL", oom=True), 2.0).cause is ExitCause.OOM


def test_a_suspect_is_ready_until_it_has_ended() -> None:
    one = ready()
    views = [one.view]
    one.is_suspect = True
    assert one.holds_nobody_up
    views.append(one.view)
    one.hang(2.0)
    assert [*views, one.view] == [WorkerState.READY, WorkerState.SUSPECT, WorkerState.STOPPING]
    one.end(KILLED, 2.0)
    assert not one.is_suspect


def test_a_restart_is_a_stop_that_comes_back_and_is_no_incident() -> None:
    one = ready(stop_timeout=5.0, restart=RestartPolicy.NEVER)
    assert one.restart(10.0) == (Action.ASK,)
    ending = one.end(KILLED, 11.0)
    assert (ending.cause, ending.delay, ending.is_incident) == (ExitCause.STOPPED, 0.0, False)
    assert one.state is State.WAITING
    assert one.release(11.0) == (Action.SPAWN,)
    assert (one.incarnation, one.restarts) == (2, 0)


def test_a_handover_is_a_restart_that_asks_in_another_way_and_puts_the_successor_on_trial() -> None:
    one = ready(stop_timeout=5.0)
    assert one.hand_over(10.0) == (Action.HAND_OVER,)
    assert (one.state, one.deadline, one.view) == (State.STOPPING, 15.0, WorkerState.STOPPING)
    ending = one.end(WELL, 11.0)
    assert (ending.cause, ending.delay, ending.is_handover, ending.is_trial) == (ExitCause.STOPPED, 0.0, True, False)
    assert one.release(11.0) == (Action.SPAWN,)
    assert (one.incarnation, one.restarts, one.is_on_trial) == (2, 0, True)
    one.become_ready(12.0)
    assert not one.is_on_trial
    assert one.end(KILLED, 13.0).is_incident


def test_who_does_not_hand_over_in_time_is_killed() -> None:
    one = ready(stop_timeout=5.0)
    one.hand_over(10.0)
    assert one.tick(15.0) == (Action.KILL,)
    assert one.end(KILLED, 15.1).is_handover
    assert ready(stop_timeout=0.0).hand_over(10.0) == (Action.KILL,)


@pytest.mark.parametrize("policy", RestartPolicy)
def test_a_successor_that_fails_is_no_incident_and_the_slot_waits_for_a_word(policy: RestartPolicy) -> None:
    one = ready(restart=policy)
    one.hand_over(10.0)
    one.end(WELL, 11.0)
    one.release(11.0)
    ending = one.end(BADLY, 12.0)
    assert (ending.cause, ending.is_trial, ending.is_incident) == (ExitCause.EXITED, True, False)
    assert (one.state, one.is_reserved, one.is_on_trial) == (State.WAITING, True, False)
    one.start(13.0)
    assert not one.is_reserved
    assert one.release(13.0) == (Action.SPAWN,)
    assert (one.incarnation, one.restarts) == (3, 0)


def test_a_successor_that_is_late_is_killed_and_has_failed() -> None:
    one = ready(start_timeout=3.0)
    one.hand_over(10.0)
    one.end(WELL, 11.0)
    one.release(11.0)
    assert one.tick(14.0) == (Action.KILL,)
    ending = one.end(KILLED, 14.1)
    assert (ending.cause, ending.is_trial) == (ExitCause.START_TIMEOUT, True)
    assert one.is_reserved


def test_a_successor_that_cannot_be_made_for_want_of_means_stays_on_trial() -> None:
    one = ready()
    one.hand_over(10.0)
    one.end(WELL, 11.0)
    one.release(11.0)
    ending = one.end(Exit(failure="no memory", is_shortage=True), 11.0)
    assert (ending.is_trial, one.state, one.is_on_trial, one.is_reserved) == (False, State.BACKOFF, True, False)


@pytest.mark.parametrize("ask", [Child.hold, Child.stop, Child.kill])
def test_what_an_operator_stops_in_the_middle_of_a_handover_stays_down(
    ask: Callable[[Child, float], tuple[Action, ...]],
) -> None:
    one = ready()
    one.hand_over(10.0)
    ask(one, 10.5)
    ending = one.end(WELL, 11.0)
    assert (one.state, ending.delay, one.is_on_trial) == (State.STOPPED, None, False)


def test_a_mesh_that_stops_has_no_trials() -> None:
    one = ready()
    one.hand_over(10.0)
    one.end(WELL, 11.0)
    one.release(11.0)
    assert not one.end(BADLY, 12.0, draining=True).is_trial
    assert one.is_over


def test_a_sibling_of_a_crash_comes_back_and_that_counts_as_a_restart_of_it() -> None:
    one = ready(stop_timeout=5.0)
    one.stop(10.0, comes_back=True)
    one.end(WELL, 11.0)
    one.release(11.0)
    assert (one.incarnation, one.restarts) == (2, 1)


def test_the_latest_wish_counts_while_a_stop_goes_on() -> None:
    """circus 965 (supervisors.md B 22): what an operator stopped stays down, whatever else wanted it up."""
    one = ready()
    one.stop(10.0, comes_back=True)
    assert one.hold(10.5) == ()
    one.end(WELL, 11.0)
    assert (one.state, one.is_held) == (State.STOPPED, True)
    one = ready()
    one.hold(10.0)
    assert one.start(10.5) == ()
    one.end(WELL, 11.0)
    assert (one.state, one.is_held) == (State.WAITING, False)


def test_a_mesh_that_stops_takes_every_wish_back() -> None:
    one = ready()
    one.restart(10.0)
    one.end(WELL, 11.0, draining=True)
    assert one.state is State.STOPPED


def test_an_operator_starts_anything_that_is_down_at_once() -> None:
    backoff = Backoff(initial=1.0, jitter=0.0)
    one = ready(backoff=backoff)
    one.end(KILLED, 2.0)
    again(one, 2.0)
    assert one.end(KILLED, 3.0).delay == 1.0
    one.start(3.1)
    assert (one.state, one.deadline) == (State.WAITING, None)
    one.release(3.1)
    assert one.restarts == 1
    # Manual starts are not counted, and the waits begin anew (supervisors.md B 19).
    assert one.end(KILLED, 4.0).delay == 0.0
    again(one, 4.0)
    assert one.end(KILLED, 5.0).delay == 1.0


def test_to_start_what_is_up_changes_nothing_and_makes_no_new_beginning() -> None:
    one = ready(backoff=Backoff(initial=1.0, jitter=0.0))
    one.end(KILLED, 2.0)
    again(one, 2.0)
    assert one.start(2.5) == ()
    assert (one.state, one.incarnation, one.deadline) == (State.STARTING, 2, 12.0)
    assert one.end(KILLED, 3.0).delay == 1.0
    again(one, 4.0)
    assert one.restarts == 2


def test_a_parked_slot_is_tried_now_and_then_until_it_has_been_well_for_long_enough() -> None:
    one = ready(backoff=Backoff(max=7.0, reset_after=10.0))
    one.end(KILLED, 2.0)
    assert one.park(2.0) == 7.0
    assert (one.view, one.deadline, one.is_on_probation) == (WorkerState.PARKED, 9.0, True)
    again(one, 9.0)
    one.become_ready(9.5)
    one.end(KILLED, 19.4)
    assert one.is_on_probation
    one.park(19.4)
    again(one, 26.4)
    one.become_ready(26.5)
    one.end(KILLED, 36.5)
    assert not one.is_on_probation


def test_a_parked_slot_waits_for_five_seconds_at_least_and_an_operator_does_not_wait() -> None:
    one = ready(backoff=Backoff(max=0.1))
    one.end(KILLED, 2.0)
    assert one.park(2.0) == 5.0
    one.start(3.0)
    assert (one.state, one.is_on_probation) == (State.WAITING, False)


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
        elif step in ("hang", "retire", "down") and self.child.state is State.READY:
            ask = {"hang": self.child.hang, "retire": self.child.retire, "down": self.take_down}[step]
            self.carry_out(ask(self.now))
        elif step == "restart" and not self.stop_asked:
            self.carry_out(self.child.restart(self.now))
        elif step == "park" and self.child.state is State.BACKOFF:
            self.child.park(self.now)
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

    def take_down(self, now: float) -> tuple[Action, ...]:
        return self.child.stop(now, comes_back=True)

    def carry_out(self, actions: tuple[Action, ...]) -> None:
        if Action.SPAWN in actions:
            assert not self.has_process, "two incarnations of a slot"
            assert not self.stop_asked, "a start after a stop was asked for"
            self.has_process = True
        assert self.has_process or not actions

    def check(self) -> None:
        one = self.child
        assert (one.state in ALIVE) == self.has_process
        assert (one.deadline is not None) or one.state not in (State.STARTING, State.BACKOFF, State.PARKED)
        assert one.restarts <= max(one.incarnation - 1, 0)
        assert not self.stop_asked or one.state in (State.STOPPING, State.STOPPED, State.FAILED)


LIVING = ["release", "ready", "lose", "well", "badly", "deadline", "early", "hang", "retire", "down", "restart", "park"]
STEPS = [*LIVING, "stop", "kill"]


@settings(deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(LIVING), max_size=30), st.lists(st.sampled_from(STEPS), max_size=10))
def test_whatever_happens_there_is_one_process_at_most_and_none_after_a_stop(run: list[str], end: list[str]) -> None:
    life = Life()
    for step in ("release", *run, *end):
        life.do(step)
