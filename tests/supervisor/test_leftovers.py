import asyncio
import errno
import os
import subprocess
from pathlib import Path

import pytest

from meshvisor.supervisor.leftovers import VARIABLE, Mark, kill_orphans, place_of


def test_a_mark_can_be_read_back() -> None:
    mark = Mark.of_this_process("wordcount", "0a1b")
    assert Mark.parse(str(mark)) == mark
    assert (mark.mesh, mark.pid, mark.place) == ("wordcount", os.getpid(), "0a1b")


@pytest.mark.parametrize(
    "text",
    ["", "m", "m:1:2", "m:x:2:b:p", "m:1:x:b:p", "m:1:2:b", "m:1:2:b:p:c", "m:²:2:b:p", f"m:1:{'9' * 5000}:b:p"],
)
def test_what_is_no_mark_is_none(text: str) -> None:
    assert Mark.parse(text) is None


def test_a_mark_of_a_living_supervisor_is_not_orphaned() -> None:
    assert not Mark.of_this_process("m").is_orphaned


def test_a_pid_that_was_given_to_somebody_else_and_another_boot_mean_that_the_supervisor_is_gone() -> None:
    mark = Mark.of_this_process("m")
    assert Mark(mark.mesh, mark.pid, mark.started + 1, mark.boot).is_orphaned
    assert Mark(mark.mesh, mark.pid, mark.started, "another").is_orphaned
    assert Mark(mark.mesh, 2**22 + 1, mark.started, mark.boot).is_orphaned


def test_a_supervisor_that_cannot_be_looked_for_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without descriptors nothing in /proc can be read; the workers of a living mesh were killed for that."""
    mark = Mark.of_this_process("m")
    dead = Mark("m", 2**22 + 1, mark.started, mark.boot)

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("builtins.open", refuse)
    assert not mark.is_orphaned
    assert not dead.is_orphaned


def test_two_runtime_directories_are_two_places_however_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert place_of(tmp_path / "link" / "demo") == place_of(tmp_path / "demo") != place_of(tmp_path / "other" / "demo")
    assert ":" not in place_of(tmp_path)


def test_what_a_mesh_of_the_same_name_left_behind_elsewhere_is_not_touched(tmp_path: Path) -> None:
    """A mesh that started killed what a dead one of its name, in another folder, had left to its own next start."""
    here, there = place_of(tmp_path / "here"), place_of(tmp_path / "there")
    dead = Mark("demo", 2**22 + 1, 1, Mark.of_this_process("demo").boot, there)
    left = subprocess.Popen(["sleep", "1000"], env={**os.environ, VARIABLE: str(dead)})
    try:
        assert asyncio.run(kill_orphans("demo", here)) == []
        assert left.poll() is None
        assert asyncio.run(kill_orphans("demo", there)) == [left.pid]
    finally:
        left.kill()
        left.wait()
