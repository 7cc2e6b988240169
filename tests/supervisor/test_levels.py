from pathlib import Path

import pytest

from meshvisor.shared.config.model import WorkerConfig
from meshvisor.supervisor.levels import start_levels


def worker(name: str, *depends_on: str) -> WorkerConfig:
    return WorkerConfig(name, Path("/"), command=("true",), depends_on=depends_on)


def names(*workers: WorkerConfig) -> list[list[str]]:
    return [[worker.name for worker in level] for level in start_levels(workers)]


def test_a_worker_is_one_level_above_its_highest_dependency() -> None:
    assert names(worker("d", "a", "c"), worker("c", "b"), worker("b"), worker("a")) == [["b", "a"], ["c"], ["d"]]


def test_workers_that_depend_on_nothing_share_a_level_in_their_order() -> None:
    assert names(worker("z"), worker("a"), worker("m")) == [["z", "a", "m"]]


def test_no_workers_have_no_levels() -> None:
    assert names() == []


@pytest.mark.parametrize("depends_on", ["b", "unknown"])
def test_a_circle_or_an_unknown_name_is_refused(depends_on: str) -> None:
    with pytest.raises(ValueError, match=r"among a, b"):
        names(worker("a", depends_on), worker("b", "a"))
