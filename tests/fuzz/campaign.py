"""Runs one target under coverage for so much CPU time, in processes of its own, and sums up what they say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tests.fuzz.target import Target

_STATUS = re.compile(rb"^#(\d+)\s.*?cov: (\d+) ft: (\d+)", re.MULTILINE)
_UNITS = re.compile(rb"^stat::number_of_executed_units:\s+(\d+)", re.MULTILINE)
_LOOK = 0.5  # seconds between two looks at how much CPU time was used
_STUCK = 1200  # seconds of wall time for one input, on a machine that may be busy with something else
_PATIENCE = 60.0
_MEMORY = 2048  # MiB
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a campaign. ``cpu`` is in seconds; ``findings`` are the files that broke something."""

    target: str
    runs: int
    cpu: float
    edges: int
    features: int
    findings: tuple[Path, ...]

    def __str__(self) -> str:
        rate = self.runs / self.cpu if self.cpu else 0.0
        found = ", ".join(map(str, self.findings)) or "none"
        return (
            f"{self.target:20} {self.runs:>9,} runs {rate:>8,.0f} exec/s {self.edges:>5} edges "
            f"{self.features:>6} features {self.cpu:>7.1f} CPU s   findings: {found}"
        )


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to go on: CPU seconds, all jobs together, or a number of inputs for each job (0: no such limit)."""

    seconds: float = 0.0
    runs: int = 0
    jobs: int = 1


def sow(target: Target, corpus: Path) -> None:
    """Put the seeds of ``target`` into ``corpus``, which may have grown before."""
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / sha256(seed).hexdigest()[:40]).write_bytes(seed)


def fuzz(target: Target, corpus: Path, effort: Effort) -> Outcome:
    """Fuzz ``target`` from what is in ``corpus``, and leave there what reaches more of it."""
    sow(target, corpus)
    found = corpus.parent / f"{corpus.name}-findings"
    found.mkdir(exist_ok=True)
    before = set(found.iterdir())
    with tempfile.TemporaryDirectory(prefix="meshvisor-fuzz-") as scratch:
        jobs = [_Job(target, corpus, found, scratch, effort.runs) for _ in range(effort.jobs)]
        try:
            _watch(jobs, effort.seconds)
        finally:
            for job in jobs:
                job.end()
    after = tuple(sorted(set(found.iterdir()) - before))
    for job in jobs:
        if job.status and not after:
            sys.stderr.write(job.said().decode(errors="replace"))
    edges, features = max(job.reached() for job in jobs)
    return Outcome(target.name, sum(job.runs() for job in jobs), sum(job.cpu for job in jobs), edges, features, after)


def _watch(jobs: Sequence[_Job], seconds: float) -> None:
    """Wait until all have ended, or have used their share of so many CPU seconds (0: however many)."""
    while any(job.is_running() for job in jobs):
        if seconds and sum(job.cpu for job in jobs) >= seconds:
            return
        time.sleep(_LOOK)


class _Job:
    """One process. ``cpu`` is what it has used so far, ``status`` how it ended."""

    def __init__(self, target: Target, corpus: Path, found: Path, scratch: str, runs: int) -> None:
        self.cpu = 0.0
        self.status: int | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (closed by ``end``, or with the process)
        options = [
            f"-max_len={target.longest}",
            f"-artifact_prefix={found}/",
            f"-timeout={_STUCK}",
            f"-rss_limit_mb={_MEMORY}",
            "-print_final_stats=1",
            "-reload=1",
            *([f"-runs={runs}"] if runs else []),
        ]
        command = [sys.executable, "-m", "tests.fuzz.process", target.name, *options, str(corpus)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=self._output, env={**os.environ, "TMPDIR": scratch}
        )

    def is_running(self) -> bool:
        """Return whether it is, and note what it has used."""
        if self.status is None:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._note(status, usage.ru_utime + usage.ru_stime)
            else:
                self.cpu = _used(self._process.pid)
        return self.status is None

    def end(self) -> None:
        """Have it finish what it is doing, and say what it has reached."""
        deadline = time.monotonic() + _PATIENCE
        if self.is_running():
            os.kill(self._process.pid, signal.SIGUSR1)  # libFuzzer's own way to end well
        while self.is_running():
            if time.monotonic() > deadline:
                os.kill(self._process.pid, signal.SIGKILL)
            time.sleep(0.05)

    def _note(self, status: int, cpu: float) -> None:
        self.cpu = cpu
        self.status = self._process.returncode = os.waitstatus_to_exitcode(status)

    def said(self) -> bytes:
        """Return the last it has written."""
        self._output.seek(0)
        return self._output.read()[-4000:]

    def _figures(self) -> list[tuple[bytes, ...]]:
        self._output.seek(0)
        return _STATUS.findall(self._output.read())

    def reached(self) -> tuple[int, int]:
        """Return how many edges and features of the code it has reached."""
        return max(((int(edges), int(features)) for _, edges, features in self._figures()), default=(0, 0))

    def runs(self) -> int:
        """Return how many inputs it has run."""
        self._output.seek(0)
        units = _UNITS.findall(self._output.read())
        return int(units[-1]) if units else max((int(number) for number, _, _ in self._figures()), default=0)


def _used(pid: int) -> float:
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK
