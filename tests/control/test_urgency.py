"""Short turns are asked of the kernel of this machine; what it has taken over is read back from it."""

import ctypes
import os
import platform
import struct
import sys

import pytest

_GET = {"x86_64": 315, "aarch64": 275}.get(platform.machine())
_SHORT = 100_000

pytestmark = pytest.mark.skipif(
    _GET is None
    or tuple(map(int, platform.release().split("-")[0].split(".")[:2])) < (6, 12)
    or os.sched_getscheduler(0) != os.SCHED_OTHER
    or os.getpriority(os.PRIO_PROCESS, 0) < 0,
    reason="needs Linux 6.12, x86_64 or aarch64, and the usual scheduling policy",
)


def attributes() -> tuple[int, int, int]:
    """Return the flags, the nice value and the length of a turn of this thread."""
    found = ctypes.create_string_buffer(48)
    assert ctypes.CDLL(None).syscall(_GET, 0, found, 48, 0) == 0
    _, _, flags, nice, _, runtime, _, _ = struct.unpack("=IIQiIQQQ", found.raw)
    return flags, nice, runtime


def in_a_child(what: str) -> str:
    """Return what a child process prints that has done ``what``: this one is to stay as it is."""
    program = f"""
from meshvisor.shared.control.urgency import *
from tests.control.test_urgency import attributes
import os
{what}
"""
    reading, writing = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, writing, 1)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", program], environment, file_actions=actions)
    os.close(writing)
    with open(reading, encoding="ascii") as stream:
        said = stream.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return said.strip()


def test_a_supervisor_has_short_turns_and_what_it_starts_has_not() -> None:
    said = in_a_child(
        "ask_for_short_turns(inherit=False)\nprint(attributes()[1:], flush=True)\n"
        "if os.fork() == 0: print(attributes(), flush=True)\nelse: os.wait()"
    )
    mine, forked = said.splitlines()
    assert mine == f"({attributes()[1]}, {_SHORT})"
    assert forked == str(attributes())


def test_a_newborn_inherits_them_and_gives_them_back() -> None:
    said = in_a_child(
        "ask_for_short_turns(inherit=True)\n"
        "if os.fork() == 0: print(attributes()[2], flush=True); ask_for_usual_turns(); "
        "print(attributes(), flush=True)\nelse: os.wait()"
    )
    assert said.splitlines() == [str(_SHORT), str(attributes())]


def test_a_lower_priority_is_kept() -> None:
    said = in_a_child("os.nice(5)\nask_for_short_turns(inherit=True)\nprint(attributes()[1:], flush=True)")
    assert said == f"({attributes()[1] + 5}, {_SHORT})"
