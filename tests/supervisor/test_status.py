"""The table of ``supervise status``."""

import re

from meshvisor.supervisor.snapshot import ExitCause, LastExit, MeshState, MeshStatus, WorkerState, WorkerStatus
from meshvisor.supervisor.status import memory, render

READY = WorkerStatus("counter-0", WorkerState.READY, 12345, 2, 1, 300.0, True, 99.4, 31 * 2**20, 5, 5, None)
KILLED = LastExit(ExitCause.SIGNALED, None, "SIGKILL", 1000.0, 4.0)
BACKOFF = WorkerStatus("counter-1", WorkerState.BACKOFF, None, 3, 3, 0.0, False, 0.0, 0, 0, 5, KILLED)
ENDED = LastExit(ExitCause.EXITED, 0, None, 880.0, 4.0)
STOPPED = WorkerStatus("once", WorkerState.STOPPED, None, 1, 0, 0.0, False, 0.0, 0, 0, 0, ENDED)
MESH = MeshStatus("wordcount", 77, MeshState.RUNNING, 301.0, (READY, BACKOFF, STOPPED))


def test_the_table_has_one_line_per_slot() -> None:
    assert render(MESH, now=1002.3) == (
        "wordcount is running: 1 of 3 slots ready, up 5 min (supervisor is process 77)\n"
        "\n"
        "SLOT       STATE      PID  UPTIME  RESTARTS   CPU  MEMORY  PEERS  LAST EXIT\n"
        "counter-0  ready    12345   5 min         1  99 %  31 MiB    5/5  -\n"
        "counter-1  backoff      -       -         3     -       -    0/5  SIGKILL, 2.3 s ago\n"
        "once       stopped      -       -         0     -       -      -  status 0, 2 min ago\n"
    )


def test_a_mesh_without_slots_has_no_table() -> None:
    text = render(MeshStatus("empty", 1, MeshState.STARTING, 0.5, ()), now=0.0)
    assert text == "empty is starting: 0 of 0 slots ready, up 500 ms (supervisor is process 1)\n"


def test_colours_change_nothing_but_the_colours() -> None:
    coloured = render(MESH, now=1002.3, colour=True)
    assert "\x1b[32mready  \x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == render(MESH, now=1002.3)


def test_the_last_exit_says_how_and_when() -> None:
    ends = {
        LastExit(ExitCause.STOPPED, None, "SIGTERM", 0.0, 1.0): "stopped (SIGTERM), 10.0 s ago",
        LastExit(ExitCause.STOPPED, 0, None, 0.0, 1.0): "stopped (0), 10.0 s ago",
        LastExit(ExitCause.START_TIMEOUT, None, "SIGKILL", 0.0, 1.0): "start-timeout (SIGKILL), 10.0 s ago",
        LastExit(ExitCause.EXITED, 3, None, 20.0, 1.0): "status 3, 0 ms ago",  # a clock that was set back
    }
    for end, text in ends.items():
        slot = WorkerStatus("a", WorkerState.STOPPED, None, 1, 0, 0.0, False, 0.0, 0, 0, 0, end)
        assert text in render(MeshStatus("m", 1, MeshState.RUNNING, 1.0, (slot,)), now=10.0)


def test_memory_is_told_in_the_unit_that_fits() -> None:
    assert [memory(size) for size in (0, 2048, 30 * 2**20, 3 * 2**29)] == ["0 KiB", "2 KiB", "30 MiB", "1.5 GiB"]


def test_a_parked_slot_says_when_it_is_tried_again() -> None:
    parked = WorkerStatus("a", WorkerState.PARKED, None, 4, 3, 0.0, False, 0.0, 0, 0, 0, None, 24.2)
    text = render(MeshStatus("m", 1, MeshState.RUNNING, 1.0, (parked,)), now=10.0)
    assert re.search(r"^a +parked, 24.2 s +- ", text, re.MULTILINE)
