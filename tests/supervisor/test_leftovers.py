import os

import pytest

from meshvisor.supervisor.leftovers import Mark


def test_a_mark_can_be_read_back() -> None:
    mark = Mark.of_this_process("wordcount")
    assert Mark.parse(str(mark)) == mark
    assert (mark.mesh, mark.pid) == ("wordcount", os.getpid())


@pytest.mark.parametrize("text", ["", "m", "m:1:2", "m:x:2:b", "m:1:x:b", "m:1:2:b:c"])
def test_what_is_no_mark_is_none(text: str) -> None:
    assert Mark.parse(text) is None


def test_a_mark_of_a_living_supervisor_is_not_orphaned() -> None:
    assert not Mark.of_this_process("m").is_orphaned


def test_a_pid_that_was_given_to_somebody_else_and_another_boot_mean_that_the_supervisor_is_gone() -> None:
    mark = Mark.of_this_process("m")
    assert Mark(mark.mesh, mark.pid, mark.started + 1, mark.boot).is_orphaned
    assert Mark(mark.mesh, mark.pid, mark.started, "another").is_orphaned
    assert Mark(mark.mesh, 2**22 + 1, mark.started, mark.boot).is_orphaned
