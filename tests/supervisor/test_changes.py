"""What a reload has to do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshvisor.shared.config.model import (
    Backoff,
    Health,
    LogOptions,
    MeshConfig,
    MeshSection,
    RestartPolicy,
    SupervisorSection,
    WorkerConfig,
)
from meshvisor.supervisor.changes import Changes, compare, keeping_scale, restored, slot_name


def worker(name: str = "a", **options: Any) -> WorkerConfig:
    return WorkerConfig(name, Path("/"), **{"class_path": "app:A", **options})


def mesh(*workers: WorkerConfig, **options: Any) -> MeshConfig:
    return MeshConfig(Path("/mesh.toml"), MeshSection("m"), SupervisorSection(**options), workers)


def test_the_same_is_no_change() -> None:
    changes = compare(mesh(worker()), mesh(worker()))
    assert changes == Changes()
    assert changes.is_empty


def test_workers_come_and_go() -> None:
    changes = compare(mesh(worker("a"), worker("b")), mesh(worker("b"), worker("c")))
    assert (changes.added, changes.removed, changes.replaced) == (("c",), ("a",), ())


@pytest.mark.parametrize(
    "policy",
    [
        {"restart": RestartPolicy.NEVER},
        {"success": frozenset({3})},
        {"significant": True},
        {"backoff": Backoff(max=1.0)},
        {"start_timeout": 1.0},
        {"stop_signal": "SIGINT"},
        {"stop_timeout": 1.0},
        {"hang_timeout": None},
        {"busy_timeout": 1.0},
        {"memory_soft": 1},
        {"max_memory": 1},
        {"health": Health(tcp="127.0.0.1:1")},
        {"log": LogOptions(keep=1)},
        {"depends_on": ("b",)},
    ],
    ids=lambda policy: next(iter(policy)),
)
def test_policy_changes_without_a_restart(policy: dict[str, Any]) -> None:
    """Supervisor 1322 (supervisors.md B 12); the list is that of DESIGN 5.3."""
    changes = compare(mesh(worker()), mesh(worker(**policy)))
    assert changes.adjusted == {"a": tuple(policy)}
    assert changes.replaced == ()


@pytest.mark.parametrize(
    "other", [{"class_path": "app:B"}, {"env": {"X": "1"}}, {"cwd": Path("/tmp")}, {"settings": {"n": 1}}]
)
def test_what_the_process_is_made_of_replaces_it(other: dict[str, Any]) -> None:
    changed = replace(worker(stop_timeout=1.0), **other)
    changes = compare(mesh(worker()), mesh(changed))
    assert (changes.replaced, changes.adjusted) == (("a",), {})


def test_another_number_of_replicas_restarts_nobody() -> None:
    changes = compare(mesh(worker(replicas=2)), mesh(worker(replicas=3)))
    assert changes.rescaled == {"a": (2, 3)}
    assert (changes.replaced, changes.adjusted) == ((), {})


def test_another_mesh_section_replaces_the_workers_and_no_command() -> None:
    old = mesh(worker("a"), worker("b", class_path=None, command=("b",)))
    new = replace(old, mesh=MeshSection("m", blacklist_duration=1.0))
    assert compare(old, new).replaced == ("a",)


def test_what_cannot_change_under_a_running_mesh_is_refused_by_name() -> None:
    old = mesh(worker())
    section = MeshSection("n", secret_file=Path("/secret"))
    new = replace(mesh(worker(), log_dir=Path("/elsewhere"), max_restarts=1), mesh=section)
    changes = compare(old, new)
    assert changes.refused == (
        "mesh.name cannot change while the mesh runs",
        "mesh.secret_file cannot change while the mesh runs",
        "supervisor.log_dir cannot change while the mesh runs",
    )
    assert changes.supervisor == ("max_restarts", "log_dir")


def test_what_a_failed_reload_takes_back_is_what_processes_are_made_of() -> None:
    before = mesh(worker("a"), worker("b"), worker("gone"))
    now = mesh(worker("a", env={"X": "1"}, stop_timeout=1.0), worker("b"), worker("new"), max_restarts=1)
    assert restored(replace(now, mesh=MeshSection("m", beat=1.0)), before, ["a"]) == mesh(
        worker("a", stop_timeout=1.0), worker("b"), worker("new"), max_restarts=1
    )


def test_what_was_scaled_stays_so_until_the_file_has_another_number() -> None:
    now = mesh(worker("a", replicas=7), worker("b", replicas=7), worker("c", replicas=1), worker("gone"))
    file = mesh(worker("a", replicas=2), worker("b", replicas=3), worker("c", replicas=4), worker("new", replicas=5))
    scaled = {"a": 2, "b": 2, "new": 5, "gone": 1}
    kept = keeping_scale(file, now, scaled)
    assert {one.name: one.replicas for one in kept.workers} == {"a": 7, "b": 3, "c": 4, "new": 5}
    assert replace(kept, workers=()) == replace(file, workers=())


@pytest.mark.parametrize(
    ("replica", "single", "name"), [(0, True, "a"), (1, True, "a-1"), (0, False, "a-0"), (2, False, "a-2")]
)
def test_a_slot_that_was_alone_keeps_its_name_when_others_join_it(replica: int, single: bool, name: str) -> None:
    assert slot_name(worker(), replica, single=single) == name
