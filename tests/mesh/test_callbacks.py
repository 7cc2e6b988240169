"""Functions of the application: all are called, and none can break us."""

from collections.abc import Callable

import pytest

from meshvisor.shared.mesh.callbacks import Callbacks


def test_a_function_added_twice_is_called_twice_and_taken_away_one_by_one() -> None:
    seen: list[int] = []
    callbacks: Callbacks[int] = Callbacks()
    stop = callbacks.add(seen.append)
    callbacks.add(seen.append)
    callbacks.notify(1)
    stop()
    stop()
    callbacks.notify(2)
    assert seen == [1, 1, 2]


def test_one_that_raises_is_logged_and_the_others_still_run(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []
    callbacks: Callbacks[int] = Callbacks()

    def faulty(news: int) -> None:
        raise RuntimeError("a mistake")

    callbacks.add(faulty)
    callbacks.add(seen.append)
    callbacks.notify(1)
    assert seen == [1]
    assert "a mistake" in caplog.text


def test_one_that_takes_another_away_has_it_called_no_more() -> None:
    seen: list[int] = []
    stops: list[Callable[[], None]] = []
    callbacks: Callbacks[int] = Callbacks()
    callbacks.add(lambda news: stops[0]())
    stops.append(callbacks.add(seen.append))
    callbacks.notify(1)
    assert seen == []


def test_one_that_is_added_meanwhile_hears_of_the_next_news() -> None:
    seen: list[int] = []
    callbacks: Callbacks[int] = Callbacks()
    stop = callbacks.add(lambda news: [callbacks.add(seen.append), stop()].clear())
    callbacks.notify(1)
    callbacks.notify(2)
    assert seen == [2]
