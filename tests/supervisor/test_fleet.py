"""Which slots there are, what they are called, and in which order they come."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from meshvisor.shared.config.model import WorkerConfig
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.child import Child
from meshvisor.supervisor.fleet import Fleet


def worker(name: str, replicas: int = 1, *depends_on: str) -> WorkerConfig:
    return WorkerConfig(name, Path("/"), command=(name,), replicas=replicas, depends_on=depends_on)


def make(config: WorkerConfig, name: str, replica: int) -> Any:
    slot = SimpleNamespace(name=name, replica=replica, config=config, child=Child(config, lambda: 0.0))
    slot.configure = lambda config: setattr(slot, "config", config)
    return slot


def fleet(*workers: WorkerConfig) -> Fleet:
    made = Fleet(make)
    for config in workers:
        made.add(config)
    return made


def names(slots: Any) -> list[str]:
    return [slot.name for slot in slots]


def end(*slots: Any) -> None:
    for slot in slots:
        slot.child.stop(0.0)


def test_a_single_slot_is_called_as_its_worker_and_keeps_that_name() -> None:
    made = fleet(worker("a"), worker("b", 2))
    assert names(made) == ["a", "b-0", "b-1"]
    assert names(made.grow(worker("a", 3))) == ["a-1", "a-2"]
    assert names(made) == ["a", "a-1", "a-2", "b-0", "b-1"]


def test_the_order_is_by_level_then_as_in_the_file_then_by_number() -> None:
    made = fleet(worker("web", 2, "db"), worker("db"), worker("cron"))
    assert made.order == ["db", "cron", "web-0", "web-1"]
    assert [names(level) for level in made.levels] == [["db", "cron"], ["web-0", "web-1"]]


def test_a_name_means_all_slots_of_the_worker_or_one_slot() -> None:
    made = fleet(worker("a"), worker("b", 2))
    assert [names(made.named(name)) for name in ("a", "b", "b-1")] == [["a"], ["b-0", "b-1"], ["b-1"]]
    with pytest.raises(SupervisorError, match="b-2"):
        made.named("b-2")


def test_a_slot_that_would_be_called_as_another_worker_is_refused_and_nothing_has_changed() -> None:
    made = fleet(worker("a"), worker("a-1"))
    with pytest.raises(SupervisorError, match="2 of a would need a slot a-1, which is a worker"):
        made.grow(worker("a", 2))
    assert names(made) == ["a", "a-1"]


def test_who_is_to_go_has_no_name_any_more_and_counts_until_it_is_over() -> None:
    made = fleet(worker("a", 3))
    leaving = made.dismiss("a", 1)
    assert names(leaving) == ["a-2", "a-1"]  # the highest number first
    assert names(made.named("a")) == ["a-0"]
    assert [made.has(slot) for slot in made] == [True, False, False]
    assert made.take_out() == []
    assert names(made) == ["a-0", "a-1", "a-2"]
    end(leaving[0])
    assert names(made.take_out()) == ["a-2"]
    assert [made.is_leaving(slot) for slot in leaving] == [False, True]
    assert names(made) == ["a-0", "a-1"]


def test_who_is_to_go_stays_if_it_is_wanted_again_by_its_number() -> None:
    made = fleet(worker("a", 3))
    first, second, third = made
    made.dismiss("a")
    end(first)
    made.take_out()
    grown = made.grow(worker("a", 2))
    assert sorted(names(grown)) == ["a-0", "a-1"]
    assert second in grown
    assert first not in grown  # it was gone: this is another one
    assert names(made.named("a")) == ["a-0", "a-1"]
    assert made.is_leaving(third)


def test_a_worker_goes_with_its_last_slot() -> None:
    made = fleet(worker("a"), worker("b", 2, "a"))
    leaving = made.slots_of("b")
    made.forget_worker("b")
    with pytest.raises(SupervisorError, match="'b'"):
        made.named("b")
    assert made.order == ["a", "b-0", "b-1"]  # it still stops in its turn
    made.sort(["a"])
    assert names(made) == ["a", "b-0", "b-1"]
    end(*leaving)
    made.take_out()
    assert (names(made), made.order) == (["a"], ["a"])
    assert names(made.add(replace(worker("b"), replicas=1))) == ["b"]


def test_a_worker_without_slots_is_one_all_the_same() -> None:
    made = fleet(worker("a", 0), worker("b"))
    assert (len(made), made.named("a"), made.order) == (1, [], ["b"])
    assert names(made.grow(worker("a", 1))) == ["a-0"]
