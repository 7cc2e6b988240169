"""Runs tests again and again, in a process that has the test tools loaded: one that is forked for each run.

``python -m tests.mutations.server``, in the tree that is to be tested, takes the arguments of one run of pytest as a
line of JSON, and answers with its exit status; -1 if it took more than ``SECONDS`` of a processor.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys

import hypothesis.stateful
import msgspec
import pytest

SECONDS = 60
"""Of a processor, for one run. A mistake that makes something endless is found by that."""

_LOADED = (hypothesis.stateful, msgspec)  # what nearly every test needs, and no mistake is made in


def main() -> None:
    """Serve until the end of the input."""
    sys.dont_write_bytecode = True
    for line in sys.stdin:
        sys.stdout.write(f"{_run(json.loads(line))}\n")
        sys.stdout.flush()


def _run(arguments: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        status = pytest.ExitCode.INTERNAL_ERROR
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            null = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(null, stream)
            status = pytest.ExitCode(pytest.main(arguments))
        finally:
            os._exit(status)
    _, end = os.waitpid(pid, 0)
    if os.WIFSIGNALED(end):
        return -1 if os.WTERMSIG(end) in (signal.SIGXCPU, signal.SIGKILL) else 128 + os.WTERMSIG(end)
    return os.WEXITSTATUS(end)


if __name__ == "__main__":
    main()
