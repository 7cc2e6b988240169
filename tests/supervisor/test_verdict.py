"""Verdicts about workers that are late, by literal looks: one line a look, as /proc would tell it.

A worker's turn began at 0.0; beats are 25 ms, ``hang_timeout`` 100 ms, ``busy_timeout`` 1 s unless a test says other.
"""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from meshvisor.supervisor.verdict import Limits, Look, Others, Scheduled, Suspicion, Verdict

FINE, LATE, STARVED, STOPPED, BLOCKED, RUNNING = Verdict
LIMITS = Limits(beat=0.025, hang_timeout=0.1, busy_timeout=1.0)
JUST_BEATEN = Scheduled(executed=5.0, waited=1.0)


def look(
    now: float,
    state: str = "S",
    executed: float | None = 5.0,
    waited: float = 1.0,
    cpu: float = 7.0,
    *,
    ticks: float = 0.0,
    stop_signal: int = 0,
) -> Look:
    return Look(now, state, executed, waited, ticks, cpu, stop_signal)


def verdicts(looks: Iterable[Look], limits: Limits = LIMITS, scheduled: Scheduled | None = None) -> list[Verdict]:
    """Feed a suspicion until its verdict is final."""
    suspicion = Suspicion(0.0, limits, scheduled)
    told = []
    for one in looks:
        told.append(suspicion.look(one))
        if told[-1].is_final:
            break
    return told


def each_beat(until: float, begin: float = 0.030) -> list[float]:
    """Return the times of looks each beat."""
    return [begin + 0.025 * number for number in range(round((until - begin) / 0.025) + 1)]


def test_a_sleep_in_a_callback_is_blocked_when_it_has_been_quiet_for_the_time_out() -> None:
    # Nothing is known of the time before the first look, so the time-out begins there.
    assert verdicts(look(now) for now in each_beat(0.155)) == [FINE, FINE, FINE, LATE, BLOCKED]


def test_what_the_beat_said_proves_that_the_turn_was_quiet_from_its_beginning() -> None:
    assert verdicts((look(now) for now in each_beat(0.105)), scheduled=JUST_BEATEN) == [FINE, FINE, FINE, BLOCKED]


def test_the_next_look_is_due_exactly_when_the_verdict_is() -> None:
    suspicion = Suspicion(0.0, LIMITS, JUST_BEATEN)
    assert [suspicion.look(look(now)) for now in (0.030, 0.055, 0.080)] == [FINE] * 3
    assert suspicion.due == pytest.approx(0.1)
    assert suspicion.look(look(0.0999)) is FINE
    assert suspicion.look(look(0.1)) is BLOCKED


def test_two_looks_at_the_same_instant_are_one() -> None:
    suspicion = Suspicion(0.0, LIMITS, JUST_BEATEN)
    told = [suspicion.look(look(now)) for now in (0.030, 0.055, 0.055, 0.055, 0.080)]
    assert told == [FINE] * 5
    assert suspicion.due == pytest.approx(0.1)
    assert suspicion.look(look(0.1001)) is BLOCKED


def test_a_loop_that_computed_before_it_blocked_has_its_whole_time_out() -> None:
    # 20 of the 30 ms before the first look were spent computing.
    looks = [look(now, executed=5.020) for now in each_beat(0.155)]
    assert verdicts(looks, scheduled=JUST_BEATEN) == [FINE, FINE, FINE, LATE, BLOCKED]


def test_a_deadlock_in_uninterruptible_sleep_is_blocked_too() -> None:
    assert verdicts((look(now, "D") for now in each_beat(0.105)), scheduled=JUST_BEATEN)[-1] is BLOCKED


def test_a_lock_that_is_polled_is_blocked_though_some_looks_find_it_runnable() -> None:
    states = "SSRSSSS"
    looks = [
        look(now, state, executed=5.0 + 0.001 * number)
        for number, (now, state) in enumerate(zip(each_beat(0.2), states, strict=False))
    ]
    assert verdicts(looks)[-1] is BLOCKED


def test_a_spinning_loop_is_late_until_its_busy_time_out_and_then_hung() -> None:
    looks = [look(now, "R", executed=5.0 + now, cpu=7.0 + now) for now in each_beat(1.1)]
    told = verdicts(looks)
    assert told[-1] is RUNNING
    assert set(told[:-1]) == {FINE, LATE}
    assert looks[len(told) - 1].now == pytest.approx(1.005)


def test_a_thread_that_computes_a_little_and_queues_a_little_is_not_quiet_if_that_is_most_of_the_time() -> None:
    looks = [look(now, executed=5.0 + 0.3 * now, waited=1.0 + 0.3 * now, cpu=7.0 + 0.3 * now) for now in each_beat(0.5)]
    assert not any(verdict.is_final for verdict in verdicts(looks))


def test_a_long_call_of_c_code_looks_no_different_from_a_spin() -> None:
    looks = [look(now, "S" if number % 4 == 0 else "R", 5.0 + 0.8 * now) for number, now in enumerate(each_beat(0.9))]
    assert set(verdicts(looks)) == {FINE, LATE}


def test_a_loop_that_hogs_keep_from_its_core_is_starved_and_never_judged() -> None:
    # One look in four sees it run; what it queued is booked only then.
    looks = []
    executed, waited = 5.0, 1.0
    for number, now in enumerate(each_beat(3.0)):
        if number % 4 == 3:
            executed, waited = executed + 0.006, waited + 0.094
        looks.append(look(now, "R", executed, waited, cpu=7.0 + executed))
    told = verdicts(looks)
    assert len(told) == len(looks)
    assert told[-1] is STARVED
    assert not any(verdict.is_final for verdict in told)


def test_a_loop_that_never_gets_the_core_at_all_is_starved() -> None:
    told = verdicts(look(now, "R") for now in each_beat(3.0))
    assert told[-1] is STARVED
    assert not any(verdict.is_final for verdict in told)


def test_the_time_in_the_queue_does_not_count_against_a_busy_loop() -> None:
    # It computes for half of the time and queues for the other half.
    looks = [look(now, "R", 5.0 + now / 2, 1.0 + now / 2, cpu=7.0 + now / 2) for now in each_beat(3.0)]
    told = verdicts(looks)
    assert told[-1] is RUNNING
    # The first 30 ms, before anything was known, count in full.
    assert looks[len(told) - 1].now == pytest.approx(1.98, abs=0.013)


def test_a_thread_in_c_code_that_has_the_gil_is_computing_and_not_blocked() -> None:
    looks = [look(now, "S", cpu=7.0 + int(now * 100) / 100) for now in each_beat(1.1)]
    told = verdicts(looks)
    assert told[-1] is RUNNING
    assert looks[len(told) - 1].now == pytest.approx(1.005)


def test_a_thread_that_has_the_gil_and_queues_for_a_core_is_not_blocked_either() -> None:
    # It gets the core for 10 of each 100 ms; what it queued is booked when it does. The loop's thread only waits.
    looks = []
    for number, now in enumerate(each_beat(3.0)):
        turns = (number + 1) // 4
        others = Others(0.01 * turns, 0.09 * turns, is_runnable=True)
        looks.append(replace(look(now, "S", cpu=7.0 + 0.01 * turns), others=others))
    told = verdicts(looks)
    assert len(told) == len(looks)
    assert not any(verdict.is_final for verdict in told)


def test_threads_that_end_do_not_hide_what_they_computed() -> None:
    looks = [
        replace(look(now, "S", cpu=7.0 + int(now * 100) / 100), others=Others(executed=max(0.0, 9.0 - 10 * now)))
        for now in each_beat(0.5)
    ]
    assert not any(verdict.is_final for verdict in verdicts(looks))


def test_other_threads_that_wake_up_now_and_then_do_not_hide_a_deadlock() -> None:
    looks = [
        replace(look(now), others=Others(0.001 * number, 0.0, is_runnable=number % 4 == 2))
        for number, now in enumerate(each_beat(0.3))
    ]
    assert verdicts(looks)[-1] is BLOCKED


def test_a_background_thread_that_computes_a_little_does_not_hide_a_deadlock() -> None:
    looks = [look(now, "S", cpu=7.0 + int(now * 0.4 * 100) / 100) for now in each_beat(0.3)]
    assert verdicts(looks)[-1] is BLOCKED


def test_a_turn_that_blocks_after_computing_for_long_is_judged_by_what_it_does_now() -> None:
    def executed(now: float) -> float:
        return 5.0 + min(now, 0.5)

    looks = [look(now, "R" if now < 0.5 else "S", executed(now), cpu=2 + executed(now)) for now in each_beat(0.7)]
    told = verdicts(looks)
    assert told[-1] is BLOCKED
    assert 0.6 <= looks[len(told) - 1].now <= 0.64


def test_clock_ticks_of_10_ms_neither_accuse_nor_excuse() -> None:
    # The whole process's CPU time is told in ticks: one tick too many, or too few, in 75 ms.
    assert verdicts((look(now, cpu=7.01) for now in each_beat(0.105)), scheduled=JUST_BEATEN)[-1] is BLOCKED
    spinning_elsewhere = [look(0.030, cpu=7.03), look(0.055, cpu=7.05), look(0.080, cpu=7.08), look(0.105, cpu=7.1)]
    assert verdicts(spinning_elsewhere, scheduled=JUST_BEATEN)[-1] is LATE


def test_a_stopped_worker_is_stopped_at_the_first_look() -> None:
    assert verdicts([look(0.030, "T", stop_signal=19)]) == [STOPPED]
    assert verdicts([look(0.030, "T")]) == [STOPPED]  # whoever waited for it has taken the number away


@pytest.mark.parametrize(("state", "number"), [("T", 20), ("T", 21), ("T", 22), ("t", 0), ("t", 19)])
def test_a_person_who_stopped_or_debugs_it_is_left_alone_for_as_long_as_it_takes(state: str, number: int) -> None:
    told = verdicts(look(now, state, stop_signal=number) for now in each_beat(60.0))
    assert not any(verdict.is_final for verdict in told)


def test_after_the_debugger_has_gone_the_time_out_begins_anew() -> None:
    looks = [look(now, "t" if now < 0.5 else "S") for now in each_beat(0.7)]
    told = verdicts(looks)
    assert told[-1] is BLOCKED
    assert looks[len(told) - 1].now == pytest.approx(0.58, abs=0.013)


def test_without_schedstat_ticks_are_used_and_every_deadline_is_doubled() -> None:
    blocked = [look(now, executed=None, waited=0.0, ticks=3.0) for now in each_beat(0.3)]
    told = verdicts(blocked, scheduled=JUST_BEATEN)
    assert told[-1] is BLOCKED
    assert blocked[len(told) - 1].now == pytest.approx(0.23)
    suspicion = Suspicion(0.0, LIMITS, JUST_BEATEN)
    suspicion.look(look(0.030, executed=None, waited=0.0, ticks=3.0))
    assert suspicion.due == pytest.approx(0.23)
    busy = [
        look(now, "R", executed=None, waited=0.0, ticks=int(now * 100) / 100, cpu=int(now * 100) / 100)
        for now in each_beat(2.1)
    ]
    told = verdicts(busy)
    assert told[-1] is RUNNING
    assert busy[len(told) - 1].now == pytest.approx(2.005)


def test_a_long_gap_between_looks_proves_no_more_than_two_beats_of_silence() -> None:
    # The machine stood still for 300 ms, in the middle of a sleep of 60 ms in a callback.
    suspicion = Suspicion(0.0, LIMITS, JUST_BEATEN)
    assert suspicion.look(look(0.030)) is FINE
    assert suspicion.look(look(0.330)) is LATE
    assert suspicion.look(look(0.345)) is LATE
    assert suspicion.look(look(0.3501)) is BLOCKED


def test_what_an_observer_sees_that_stood_still_itself_proves_nothing() -> None:
    suspicion = Suspicion(0.0, LIMITS, JUST_BEATEN)
    assert suspicion.look(look(5.0), is_trusted=False) is LATE
    assert suspicion.look(look(5.025), is_trusted=False) is LATE
    assert [suspicion.look(look(now)) for now in (5.05, 5.075, 5.1, 5.126)] == [LATE, LATE, LATE, BLOCKED]


def test_a_first_look_that_comes_late_proves_no_more_than_two_beats_of_silence_either() -> None:
    assert verdicts([look(5.0)], scheduled=JUST_BEATEN) == [LATE]


def test_a_pause_of_the_machine_does_not_count_against_a_busy_loop() -> None:
    looks = [look(0.030, "R"), look(30.030, "R", executed=5.02), look(30.055, "R", executed=5.045)]
    assert RUNNING not in verdicts(looks)


def test_hang_timeout_off_neither_blocked_nor_stopped_nor_slow_input_is_hung() -> None:
    limits = Limits(0.025, None, 1.0)
    assert not any(verdict.is_final for verdict in verdicts((look(now) for now in each_beat(60.0)), limits))
    assert verdicts([look(0.2, "T", stop_signal=19)], limits) == [LATE]
    spinning = [look(now, "R", executed=5.0 + now, cpu=7.0 + now) for now in each_beat(1.1)]
    assert verdicts(spinning, limits)[-1] is RUNNING


def test_busy_timeout_off_a_loop_may_compute_for_ever() -> None:
    limits = Limits(0.025, 0.1, None)
    looks = (look(now, "R", executed=5.0 + now, cpu=7.0 + now) for now in each_beat(60.0))
    assert not any(verdict.is_final for verdict in verdicts(looks, limits))


def test_a_turn_that_computes_and_blocks_by_turns_ends_with_the_busy_time_out() -> None:
    looks, executed = [], 5.0
    for number, now in enumerate(each_beat(1.1)):
        executed += 0.02 if number % 4 == 0 else 0.0
        looks.append(look(now, executed=executed, cpu=executed))
    told = verdicts(looks)
    assert told[-1] is RUNNING
    assert looks[len(told) - 1].now == pytest.approx(1.005)


def test_a_worker_is_late_from_more_than_four_beats_on() -> None:
    suspicion = Suspicion(0.0, Limits(0.025, 10.0, 10.0))
    assert [suspicion.look(look(now)) for now in (0.03, 0.1, 0.1001)] == [FINE, FINE, LATE]
