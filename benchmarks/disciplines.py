"""What is measured, by the names that rows carry and clauses refer to."""

from __future__ import annotations

import sys

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

TO_START = "SIGKILL -> first line of the replacement (meshvisor: on_start, all imports done)"
TO_MESH = "SIGKILL -> all links of the replacement up at both ends"
FROM_STOP = "SIGSTOP -> replaced"
FROM_HANG = "the event loop hangs (time.sleep in a callback; hang_timeout = 100 ms)"
FALSE = "verdicts about 8 healthy workers beside 8 busy processes, hang_timeout = 100 ms"
FORMATION = "mesh formed"
MEMORY = "PSS of a worker"
IDLE = "processor time of an idle mesh (all workers), hang detection at 100 ms"
ORPHANS = "supervisor killed -> every worker gone"
SUPERVISOR_CPU = "processor time of a supervisor with 20 idle workers"
SUPERVISOR_MEMORY = "PSS of a supervisor with 20 idle workers"
STATUS = "asking from a shell how 20 workers are"
BIRTHS = "kill -> on_start, as a library makes it and as a supervisor does"

CALLS = "calls of add(x, y), 64 in flight on one link"
COPIES = "memory taken for one message of 16 MiB, in bodies (both ends in one process)"
PING = "control channel while the reader stalls: ping and answer"
STALL = "longest pause of the sender's event loop while its reader stalls"
GROWTH = "growth of both processes while the reader stalls"
FAN_RATE = "64 B messages into one process over N links"
FAN_MEMORY = "memory of one link in the process that has N"
FAN_CPU = "processor time of a process with N idle links, pings each 250 ms"
FAN_UP = "linking one process with N others"

CHECK = "blacklist: check, nobody wrote since the last"
READ = "blacklist: read of a slot after another write"
UPDATE = "blacklist: update, locked and merged"
DIALS = "dials of a bad endpoint by many processes"
STAMP = "liveness: stamp of one turn of the event loop"


def messages(size: int, python: str = PYTHON) -> str:
    """Return the discipline of messages of ``size`` bytes one way over a Unix socket."""
    return f"{shown(size)} messages over one link (Unix socket), Python {python}"


def round_trip(cores: str) -> str:
    """Return the discipline of 64 B there and back; ``cores`` is ``one core`` or ``across cores``."""
    return f"round trip of 64 B, {cores}"


def shown(size: int) -> str:
    """Return a number of bytes as one writes it."""
    for unit, scale in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale:
            return f"{size // scale} {unit}"
    return f"{size} B"
