"""An endpoint that fails is left alone: longer each time, never shorter than it was said to be, never for ever."""

import pytest

from meshvisor.shared.core.penalties import MAX_PENALTY, FailureSeverity, Penalties

KEY = "tcp:127.0.0.1:4500"


def failed(times: int, *, duration: float = 10.0, now: float = 100.0) -> Penalties:
    """Return a table in which ``KEY`` failed so often, all at once."""
    table = Penalties(duration)
    for _ in range(times):
        table.fail(KEY, now)
    return table


def test_an_endpoint_that_never_failed_is_not_barred() -> None:
    table = Penalties(10.0)
    assert table.remaining(KEY, 100.0) == 0.0
    assert len(table) == 0


def test_nobody_hears_of_a_private_table_and_may_stop_listening() -> None:
    table, told = failed(1), list[str]()
    unsubscribe = table.subscribe(told.append)
    table.clear(KEY)
    unsubscribe()
    assert told == []


def test_the_nth_failure_in_a_row_bars_for_n_durations_up_to_300_seconds() -> None:
    table = Penalties(40.0)
    assert [table.fail(KEY, 100.0) for _ in range(9)] == [40, 80, 120, 160, 200, 240, 280, 300, 300]
    assert table.remaining(KEY, 100.0) == MAX_PENALTY == 300.0


def test_a_penalty_ends_by_itself() -> None:
    table = failed(1)
    assert table.remaining(KEY, 109.5) == 0.5
    assert table.remaining(KEY, 110.0) == 0.0
    assert table.remaining(KEY, 1000.0) == 0.0


def test_a_failure_when_the_penalty_has_just_ended_is_the_next_in_the_row() -> None:
    assert failed(1).fail(KEY, 110.0) == 20.0


@pytest.mark.parametrize(
    ("now", "barred"),
    [(130.0, 40.0), (139.9, 40.0), (140.0, 30.0), (150.0, 20.0), (160.0, 10.0), (9999.0, 10.0)],
)
def test_one_strike_is_forgiven_for_each_duration_after_the_penalty_without_a_failure(
    now: float, barred: float
) -> None:
    assert failed(3).fail(KEY, now) == barred  # three strikes, barred until 130


def test_a_failure_while_barred_never_ends_the_penalty_earlier() -> None:
    table = failed(3)
    table.bar(KEY, 200.0, 100.0)
    assert table.fail(KEY, 110.0) == 190.0


def test_a_pause_that_was_asked_for_counts_no_strike_and_is_at_most_300_seconds() -> None:
    table = Penalties(10.0)
    table.bar(KEY, 2.5, 100.0)
    assert table.remaining(KEY, 100.0) == 2.5
    assert table.fail(KEY, 102.5) == 10.0
    table.bar(KEY, 1e9, 102.5)
    assert table.remaining(KEY, 102.5) == 300.0


def test_a_shorter_pause_never_shortens_what_there_is() -> None:
    table = failed(1)
    table.bar(KEY, 1.0, 100.0)
    assert table.remaining(KEY, 100.0) == 10.0


def test_clearing_forgets_the_strikes_as_well() -> None:
    table = failed(3)
    table.clear(KEY)
    table.clear("tcp:127.0.0.1:1")
    assert table.remaining(KEY, 100.0) == 0.0
    assert table.fail(KEY, 100.0) == 10.0


def test_endpoints_are_barred_apart() -> None:
    assert failed(3).remaining("unix:/run/a.sock", 100.0) == 0.0


@pytest.mark.parametrize("by_pause", [False, True])
def test_the_table_holds_1024_endpoints_and_forgets_the_first_to_end(by_pause: bool) -> None:
    table = Penalties(10.0)
    for number in range(1025):
        if by_pause:
            table.bar(f"memory:{number}", 10.0, 100.0 + number / 1024)
        else:
            table.fail(f"memory:{number}", 100.0 + number / 1024)
    assert len(table) == 1024
    assert table.remaining("memory:0", 101.0) == 0.0
    assert table.remaining("memory:1", 101.0) == 9.0 + 1 / 1024


def test_a_new_incarnation_is_forgiven_but_what_its_endpoint_asked_for_stands() -> None:
    penalties = Penalties(10.0)
    penalties.fail("asked", 0.0)
    penalties.bar("asked", 4.0, 0.0)
    penalties.fail("failed", 0.0)
    for key in ("asked", "failed", "unknown"):
        penalties.forgive(key)
    assert penalties.remaining("asked", 0.0) == 4.0
    assert penalties.firm("asked", 1.0) == 3.0
    assert penalties.remaining("failed", 0.0) == 0.0
    assert penalties.fail("asked", 5.0) == 10.0


def test_a_penalty_never_becomes_less_severe_and_an_expired_one_lends_nothing() -> None:
    table = Penalties(10.0)
    table.fail(KEY, 0.0, FailureSeverity.FATAL)
    table.fail(KEY, 1.0, FailureSeverity.SOFT)
    assert table.firm(KEY, 1.0) == table.remaining(KEY, 1.0) == 20.0
    table.fail(KEY, 21.0, FailureSeverity.SOFT)
    assert (table.firm(KEY, 21.0), table.remaining(KEY, 21.0)) == (0.0, 30.0)


def test_only_a_fatal_penalty_and_a_pause_that_was_asked_for_are_firm() -> None:
    table = Penalties(10.0)
    assert table.firm(KEY, 0.0) == 0.0
    table.fail(KEY, 0.0, FailureSeverity.HARD)
    assert table.firm(KEY, 0.0) == 0.0
    table.bar(KEY, 3.0, 0.0)
    assert (table.firm(KEY, 1.0), table.firm(KEY, 3.0)) == (2.0, 0.0)
    table.fail(KEY, 3.0, FailureSeverity.FATAL)
    assert table.firm(KEY, 3.0) == 20.0


def test_the_same_trouble_told_twice_is_one_strike() -> None:
    """``known`` is what was known as the attempt began; whoever has barred it since has told of the same trouble."""
    table = Penalties(10.0)
    assert table.fail(KEY, 100.0, known=99.0) == 10.0
    assert table.fail(KEY, 101.0, FailureSeverity.FATAL, known=99.0) == 9.0
    assert table.firm(KEY, 101.0) == 9.0
    assert table.fail(KEY, 102.0, known=110.0) == 20.0


def test_a_pause_that_was_asked_for_meanwhile_is_another_trouble() -> None:
    table = Penalties(10.0)
    table.bar(KEY, 1.0, 100.0)
    assert table.fail(KEY, 100.5, known=99.0) == 10.0
