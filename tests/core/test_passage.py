"""Whether what is written to the data channel arrives."""

from meshvisor.shared.core.liveness import MAX_UNANSWERED
from meshvisor.shared.core.passage import Passage


def passage() -> Passage:
    return Passage(0.25, 2.0, 10.0)


def test_a_channel_on_which_everything_arrives_is_never_stuck() -> None:
    watch = passage()
    for now in (20.0, 30.0, 40.0):
        watch.asked(1, 100)
        watch.answered(1, 100, now)
    assert not watch.is_stuck


def test_a_slow_channel_that_moves_is_not_stuck() -> None:
    watch = passage()
    for step in range(100):
        watch.asked(1, 10_000)
        watch.answered(1, step + 1, 11.0 + step)
    assert not watch.is_stuck


def test_a_channel_on_which_nothing_moves_is_stuck_at_the_timeout_and_not_before() -> None:
    watch = passage()
    watch.asked(1, 100)
    watch.answered(1, 0, 11.875)
    assert not watch.is_stuck
    watch.asked(2, 100)
    watch.answered(2, 0, 12.0)
    assert watch.is_stuck


def test_on_a_long_way_a_lost_segment_has_four_round_trips_more_to_be_sent_again() -> None:
    watch = passage()
    watch.asked(1, 100)
    watch.answered(1, 0, 15.875, 1.0)
    assert not watch.is_stuck
    watch.asked(2, 100)
    watch.answered(2, 0, 16.0, 1.0)
    assert watch.is_stuck


def test_an_acknowledgement_is_a_sign_of_life_and_puts_the_question_off() -> None:
    watch = passage()
    assert watch.ask_at == 10.25
    watch.moved(11.0)
    assert watch.ask_at == 11.25
    watch.asked(1, 100)
    watch.answered(1, 0, 12.875)
    assert not watch.is_stuck
    watch.asked(2, 100)
    watch.answered(2, 0, 13.0)
    assert watch.is_stuck


def test_an_answer_before_any_question_says_nothing() -> None:
    watch = passage()
    watch.answered(1, 0, 100.0)
    assert not watch.is_stuck


def test_the_answer_to_an_earlier_question_is_judged_by_what_was_written_then() -> None:
    """On a long way one asks again before the first answer is there."""
    watch = passage()
    for nonce in range(1, 10):
        watch.asked(nonce, 100 * nonce)
    for nonce in range(1, 10):
        watch.answered(nonce, 100 * nonce, 20.0 + nonce)
    assert not watch.is_stuck


def test_a_channel_that_is_stuck_is_found_on_a_long_way_too() -> None:
    watch = passage()
    for nonce in range(1, 10):
        watch.asked(nonce, 100)
    watch.answered(1, 0, 12.0)
    assert watch.is_stuck


def test_asking_later_is_an_interval_later() -> None:
    watch = passage()
    watch.ask_later(10.5)
    assert watch.ask_at == 10.75


def test_of_many_questions_the_earliest_is_forgotten_and_its_answer_says_nothing() -> None:
    watch = passage()
    for nonce in range(1, MAX_UNANSWERED + 2):
        watch.asked(nonce, 100)
    watch.answered(1, 0, 20.0)
    assert not watch.is_stuck
    watch.answered(2, 0, 22.0)
    assert watch.is_stuck
