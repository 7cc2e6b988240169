"""A supervisor with 20 workers and nothing to do, beside others: ``python -m benchmarks.operator [--quick]``.

What the supervising process itself costs, in processor time and memory, and how long its operator waits for an answer
to "how are they?", from the start of the command to its end. The others supervise processes that know nobody, watch
nothing but deaths, and are asked by their own tools.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.outside.proc import pss

from .disciplines import STATUS, SUPERVISOR_CPU, SUPERVISOR_MEMORY
from .idle import REST, percent
from .recovery import peers
from .recovery.ours import running
from .table import Row, merge, render

COUNT = 20
ASKED = ("gunicorn", "circus", "supervisord")


def answer(command: Sequence[str], folder: Path) -> float:
    """Return how many milliseconds a command takes, and that it works."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=30)
    took = (time.perf_counter() - began) * 1000
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return took


def _question(name: str, folder: Path) -> list[str]:
    """Return how the tool of a peer is called, as its own script would call it; nothing where there is none."""
    if name.startswith("supervisord"):
        start = "from supervisor.supervisorctl import main; main()"
        return [sys.executable, "-P", "-c", start, "-c", str(folder / "supervisord.conf"), "status"]
    if name.startswith("circus"):
        start = "from circus.circusctl import main; main()"
        return [sys.executable, "-P", "-c", start, "--endpoint", f"ipc://{folder}/control", "list", "worker"]
    return []


def ours(seconds: float, rounds: int) -> Iterator[Row]:
    """Measure ``supervise run`` with its defaults, hang detection at 100 ms."""
    name = f"meshvisor, {COUNT} linked workers, a spare"
    with running(COUNT, "spare", hang_timeout="100ms") as mesh:
        time.sleep(REST)
        yield Row(SUPERVISOR_CPU, name, percent([mesh.pid], seconds), unit="%")
        yield Row(SUPERVISOR_MEMORY, name, [pss(mesh.pid) / 1e6], unit="MB")
        command = [sys.executable, "-m", "meshvisor.supervisor", "status", "--file", str(mesh.file)]
        yield Row(STATUS, "meshvisor: supervise status", [answer(command, mesh.folder) for _ in range(rounds)])


def others(seconds: float, rounds: int, names: Sequence[str]) -> Iterator[Row]:
    """Measure those that can be run here, as they come."""
    for contender in (peers.CONTENDERS[name][0] for name in names):
        try:
            title = peers.title_of(contender, False)
            with peers.running(contender, COUNT, False) as peer:
                time.sleep(REST)
                yield Row(SUPERVISOR_CPU, title, percent([peer.pid], seconds), unit="%")
                yield Row(SUPERVISOR_MEMORY, title, [pss(peer.pid) / 1e6], unit="MB")
                if question := _question(contender.name, peer.folder):
                    yield Row(STATUS, title, [answer(question, peer.folder) for _ in range(rounds)])
        except peers.ABSENT as why:
            yield Row(SUPERVISOR_CPU, contender.name, note=peers.excuse(why))


def rows(quick: bool) -> Iterator[Row]:
    """Measure ours and the others'."""
    seconds, rounds = (2.0, 3) if quick else (6.0, 9)
    yield from ours(seconds, rounds)
    yield from others(seconds, rounds, ASKED[-1:] if quick else ASKED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    print(render(merge(rows(parser.parse_args().quick))), end="")


if __name__ == "__main__":
    main()
