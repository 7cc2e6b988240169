"""What the guardian does when its supervisor is killed, and what it leaves alone."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from meshvisor.supervisor.guard import Guard
from meshvisor.supervisor.guardian import Guardian
from meshvisor.supervisor.leftovers import Mark, start_time

# A supervisor with three children: a recorded one that has a child of its own, one that carries the mark only, and one
# that is nobody's. Each of them has left the process group of the supervisor.
_SUPERVISOR = """
import asyncio, os, subprocess, sys
from meshvisor.supervisor.guard import Guard
from meshvisor.supervisor.leftovers import VARIABLE, Mark

def start(script, **environment):
    process = subprocess.Popen(
        ["sh", "-c", script], env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.PIPE, start_new_session=True, text=True,
    )
    return process.pid, int(process.stdout.readline())

async def main():
    mark = Mark.of_this_process("guarded")
    guard = Guard(asyncio.get_running_loop(), mark)
    guard.start()
    leader, member = start("sleep 1000 & echo $!; wait")
    guard.record(leader)
    stray, _ = start("echo $$; exec sleep 1000", **{VARIABLE: str(mark)})
    stranger, _ = start("echo $$; exec sleep 1000")
    forgotten, _ = start("echo $$; exec sleep 1000")
    guard.record(forgotten)
    guard.forget(forgotten)
    print(guard.pid, leader, member, stray, stranger, forgotten, flush=True)
    if "replace" in sys.argv:
        before = guard.pid
        os.kill(before, 9)
        while guard.pid in (None, before):
            await asyncio.sleep(0.001)
        print(guard.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Program:
    """The supervisor in a process of its own, and witnesses of what it started."""

    def __init__(self, witness: Callable[[int], Any], *options: str) -> None:
        arguments = [sys.executable, "-c", _SUPERVISOR, *options]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.pids = [int(pid) for pid in self.process.stdout.readline().split()]
        if options:
            self.pids[0] = int(self.process.stdout.readline())
        self.guardian, self.leader, self.member, self.stray, self.stranger, self.forgotten = map(witness, self.pids)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def clean_up(self) -> None:
        for pid in self.pids[-2:]:
            os.kill(pid, signal.SIGKILL)


def test_recorded_groups_and_marked_strays_die_with_a_killed_supervisor_and_nothing_else_does(witness: Any) -> None:
    program = Program(witness)
    program.kill()
    for victim in (program.leader, program.member, program.stray, program.guardian):
        assert victim.saw_the_end()
    assert not program.stranger.saw_the_end(within=0)
    assert not program.forgotten.saw_the_end(within=0)
    program.clean_up()


def test_a_guardian_ignores_what_a_terminal_sends_to_everybody(witness: Any) -> None:
    program = Program(witness)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(program.pids[0], number)
    program.kill()
    assert program.leader.saw_the_end()
    assert program.guardian.saw_the_end()
    program.clean_up()


def test_a_guardian_that_dies_is_replaced_and_told_everything_again(witness: Any) -> None:
    program = Program(witness, "replace")
    program.kill()
    for victim in (program.leader, program.member, program.stray, program.guardian):
        assert victim.saw_the_end()
    assert not program.forgotten.saw_the_end(within=0)
    program.clean_up()


def test_a_guard_that_is_closed_ends_its_guardian_and_kills_nothing() -> None:
    recorded = subprocess.Popen(["sleep", "1000"], start_new_session=True)

    async def main() -> None:
        before = sorted(os.listdir("/proc/self/fd"))
        guard = Guard(asyncio.get_running_loop(), Mark.of_this_process("guarded"))
        guard.start()
        guard.record(recorded.pid)
        await guard.close()
        assert guard.pid is None
        assert sorted(os.listdir("/proc/self/fd")) == before

    asyncio.run(main())
    assert recorded.poll() is None
    recorded.kill()
    recorded.wait()


def test_a_recorded_number_that_another_process_has_by_now_is_left_alone() -> None:
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    started = start_time(process.pid)
    assert started is not None
    ours.send(b"+%d %d" % (process.pid, started - 1))
    ours.close()
    guardian = Guardian(str(Mark.of_this_process("guarded")).encode())
    assert not guardian.obey(theirs.fileno())
    theirs.close()
    guardian.clean_up()
    assert process.poll() is None
    process.kill()
    process.wait()
