"""Ends what a dead supervisor leaves behind; run as ``python -I -S guardian.py SOCKET MARK TITLE``.

A script of its own, which imports nothing of this package, so that it costs next to nothing while it waits. The
parent-death signal and the lifeline end the workers and commands themselves; this is for what those have started.

Over the socket it is told, one packet each: ``+PID START`` to record a process that leads a group (START as in
/proc/PID/stat), ``-PID`` to forget it, ``.`` to end in peace. When the socket ends without that, the supervisor is
dead: every process of a recorded group or session is killed, and every one that carries MARK in its environment, until
none is left.
"""

import os
import select
import signal
import sys

IGNORED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)

_VARIABLE = b"MESHVISOR_MESH="
_PACKET = 64
_PASSES = 20
_PASS_TIME = 1000  # milliseconds that the deaths of one pass may take


def _stat(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the third (state) on; none when the process is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return []
    return [] if fields[0] in (b"Z", b"X") else fields


def _carries(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return _VARIABLE + mark in file.read().split(b"\0")
    except OSError:
        return False


class Guardian:
    """What it has been told, and what follows from that."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._leaders: dict[int, int] = {}

    def obey(self, descriptor: int) -> bool:
        """Take orders until there are no more; return whether that was meant. What is no order is passed over."""
        while packet := os.read(descriptor, _PACKET):
            if packet == b".":
                return True
            kind, numbers = packet[:1], [int(word) for word in packet[1:].split() if word.isdigit()]
            match kind, numbers:
                case b"+", [pid, started]:
                    self._leaders[pid] = started
                case b"-", [pid]:
                    self._leaders.pop(pid, None)
        return False

    def clean_up(self) -> None:
        """Kill what is left of the mesh, and what that starts meanwhile; give up after a bounded time."""
        for _ in range(_PASSES):
            groups = self._groups()
            pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
            concerned = [pid for pid in pids if self._is_concerned(pid, groups)]
            pidfds = [pidfd for pid in concerned if (pidfd := self._kill(pid, groups)) is not None]
            if not pidfds:
                return
            self._wait(pidfds)

    def _groups(self) -> set[int]:
        """Return the recorded groups but for those whose number another process has by now."""
        reused = {pid for pid, start in self._leaders.items() if (found := _stat(pid)) and int(found[19]) != start}
        return self._leaders.keys() - reused

    def _is_concerned(self, pid: int, groups: set[int]) -> bool:
        fields = _stat(pid)
        if not fields:
            return False
        for leader in {int(fields[2]), int(fields[3])} & groups:  # its process group, its session
            if int(fields[19]) >= self._leaders[leader]:
                return True
        return _carries(pid, self._mark)

    def _kill(self, pid: int, groups: set[int]) -> int | None:
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return None
        # Asked again behind the descriptor: now the answer and the process cannot be of two lives of the number.
        if self._is_concerned(pid, groups):
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                return pidfd
            except OSError:
                pass
        os.close(pidfd)
        return None

    def _wait(self, pidfds: list[int]) -> None:
        poll = select.poll()
        for pidfd in pidfds:
            poll.register(pidfd, select.POLLIN)
        left = set(pidfds)
        while left and (dead := poll.poll(_PASS_TIME)):
            for pidfd, _ in dead:
                poll.unregister(pidfd)
                left.discard(pidfd)
        for pidfd in pidfds:
            os.close(pidfd)


def main(arguments: list[str]) -> None:
    """Wait for the end of the supervisor, and clean up behind it."""
    # A terminal's signals go to everybody, and the end of a session too: they are not meant for the last one standing.
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    with open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write("mesh-guardian")
    descriptor, mark = int(arguments[0]), arguments[1].encode()
    guardian = Guardian(mark)
    if not guardian.obey(descriptor):
        guardian.clean_up()


if __name__ == "__main__":
    main(sys.argv[1:])
