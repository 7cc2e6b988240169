"""Where the threads of any process are, as far as the kernel tells without the process's help."""

from __future__ import annotations

import os

_MOST_THREADS = 64


def whereabouts(pid: int) -> str:
    """Return one line for each thread of ``pid``: its name, its state, and the kernel function that it waits in.

    Empty when the process is gone.
    """
    try:
        threads = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    except OSError:
        return ""
    lines = [line for thread in threads[:_MOST_THREADS] if (line := _thread(pid, thread))]
    if len(threads) > _MOST_THREADS:
        lines.append(f"and {len(threads) - _MOST_THREADS} more threads")
    return "\n".join(lines) + "\n" if lines else ""


def _thread(pid: int, thread: int) -> str:
    folder = f"/proc/{pid}/task/{thread}"
    facts = dict(line.partition(":")[::2] for line in _read(f"{folder}/status").splitlines())
    if "State" not in facts:
        return ""
    state = facts["State"].strip().partition(" ")[2].strip("()")
    place = _read(f"{folder}/wchan").strip()
    waits = f" in {place}" if place not in ("", "0") else ""
    return f"thread {thread} ({facts.get('Name', '').strip()}): {state}{waits}"


def _read(file: str) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""
