"""Writers of shared memory that are killed and stopped at random: ``python -m tests.memory_storm``.

``--writers`` processes write to one blacklist, and to bare records whose every byte is known from the first eight,
as fast as they can, and check whatever they read. Meanwhile one after the other is killed and replaced, or stopped
for a moment and continued. Exit with 1 if anything was wrong:

    torn       a record whose bytes do not belong together, or a penalty that nobody has set
    blind      a record that had no good copy when it was read
    slow       a call that took more than 5 ms of its own thread's processor time; one in 100,000 is let pass, since
               what the host of a virtual machine takes away is counted as the thread's, too
    lost       a record that cannot be read or written when it is over
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

from meshvisor.shared.core.penalties import FailureSeverity
from meshvisor.shared.memory.blacklist import SharedBlacklist
from meshvisor.shared.memory.entry import Penalty
from meshvisor.shared.memory.record import Records, record_words
from meshvisor.shared.memory.segment import HEADER_WORDS, Layout, Segment

PAYLOAD = 400
RECORDS = 16
KEYS = [f"tcp:127.0.0.1:{4500 + number}" for number in range(48)]
STRUCK = KEYS[:16]  # only ever barred by ``strike``, so that strikes and end are known to belong together
PACE = 0.002
SLOW = 5_000_000
SEVERITIES = list(FailureSeverity)
LAYOUT = Layout(kind=99, version=1, name="storm", unit=record_words(PAYLOAD) * 8)

T = TypeVar("T")


@dataclass(slots=True)
class Outcome:
    """What became of it all."""

    kills: int = 0
    stops: int = 0
    killed_writing: int = 0  # had marked the table, and had not come to the end
    stopped_writing: int = 0
    calls: int = 0
    refused: int = 0
    torn: int = 0
    blind: int = 0
    slow: int = 0
    worst: int = 0  # nanoseconds of a thread's own time in one call
    lost: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.torn or self.blind or self.lost or self.slow > self.calls // 100_000)


class Tally:
    """Counts of one writer, in memory that outlives it."""

    COUNTS = ("calls", "refused", "torn", "blind", "slow", "worst")

    def __init__(self, memory: memoryview, writer: int) -> None:
        self._memory = memory
        self._first = writer * len(self.COUNTS)

    def __getitem__(self, name: str) -> int:
        return self._memory[self._first + self.COUNTS.index(name)]

    def add(self, name: str, number: int = 1) -> None:
        """Count ``number`` more."""
        self._memory[self._first + self.COUNTS.index(name)] += number

    def timed(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, and see how much of its thread's time it took."""
        begin = time.thread_time_ns()
        result = call()
        own = time.thread_time_ns() - begin
        self.add("calls")
        self.add("slow", own > SLOW)
        if own > self["worst"]:
            self.add("worst", own - self["worst"])
        return result


def pattern(number: int) -> bytes:
    """Return a payload whose every byte, and length, follows from ``number``."""
    words = 1 + number % (PAYLOAD // 8)
    return b"".join((number * (index + 1) & (1 << 64) - 1).to_bytes(8, "little") for index in range(words))


def is_whole(payload: bytes) -> bool:
    """Whether all of a payload belongs to one ``pattern``."""
    return not payload or payload == pattern(int.from_bytes(payload[:8], "little"))


def is_sound(key: str, penalty: Penalty) -> bool:
    """Whether some writer can have set this."""
    return (
        penalty.key == key
        and penalty.source.startswith("writer-")
        and 1 <= penalty.reporters <= 8
        and penalty.retry_after == (penalty.severity is FailureSeverity.SOFT and key not in STRUCK)
        and penalty.remaining <= (min(300.0, PACE * penalty.strikes) if key in STRUCK else 0.05)
    )


class Writer:
    """One process of the storm."""

    def __init__(self, number: int, seed: str, tally: Tally, descriptors: tuple[int, int, int]) -> None:
        blacklist, wake, segment = descriptors
        self._rng = random.Random(seed)
        self._tally = tally
        self._blacklist = SharedBlacklist.attach(blacklist, source=f"writer-{number}", wake_fd=wake)
        self._segment = Segment.attach(LAYOUT, segment)
        self._records = Records(self._segment, HEADER_WORDS, RECORDS, PAYLOAD)

    def run(self) -> NoReturn:
        """Write and read until killed."""
        while True:
            key = self._rng.choice(KEYS)
            self._write_penalty(key)
            self._read_penalty(self._rng.choice(KEYS))
            self._write_records()
            self._read_record(self._rng.randrange(RECORDS))

    def _write_penalty(self, key: str) -> None:
        blacklist, tally = self._blacklist, self._tally
        if self._rng.random() < 0.1:
            tally.timed(lambda: blacklist.clear_penalty(key))
        elif key in STRUCK:
            if tally.timed(lambda: blacklist.strike(key, "hard", PACE)) is None:
                tally.add("refused")
        else:
            # A key has one severity, and only the soft ones were asked for: the fields belong together.
            severity = SEVERITIES[KEYS.index(key) % len(SEVERITIES)]
            asked = severity is FailureSeverity.SOFT
            duration = self._rng.uniform(0.001, 0.05)
            tally.timed(lambda: blacklist.set_penalty(key, severity, duration, retry_after=asked))

    def _read_penalty(self, key: str) -> None:
        blacklist, tally = self._blacklist, self._tally
        penalty = tally.timed(lambda: blacklist.get_penalty(key))
        tally.add("torn", penalty is not None and not is_sound(key, penalty))
        tally.timed(lambda: blacklist.remaining(key))
        if self._rng.random() < 0.01:
            found = tally.timed(blacklist.active)
            tally.add("torn", sum(not is_sound(penalty.key, penalty) for penalty in found))

    def _write_records(self) -> None:
        payload = pattern(self._rng.getrandbits(64))
        if not self._tally.timed(self._segment.lock):
            self._tally.add("refused")
            return
        try:
            self._tally.timed(lambda: [self._records.write(index, payload) for index in range(RECORDS)])
        finally:
            self._segment.unlock()

    def _read_record(self, index: int) -> None:
        record = self._tally.timed(lambda: self._records.read(index))
        self._tally.add("blind", record is None)
        self._tally.add("torn", record is not None and not is_whole(record[1]))


class Storm:
    """The writers, what they write to, and what is done to them."""

    def __init__(self, writers: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self._blacklist = SharedBlacklist.create(source="writer-none")
        self._segment = Segment.create(LAYOUT, RECORDS)
        self._records = Records(self._segment, HEADER_WORDS, RECORDS, PAYLOAD)
        self._memory = memoryview(mmap.mmap(-1, writers * len(Tally.COUNTS) * 8)).cast("Q")
        self._pids = [0] * writers
        self.outcome = Outcome()

    def run(self, kills: int, stops: int) -> Outcome:
        """Let it happen, and look at what is left."""
        begin = time.monotonic()
        blows = [self._kill] * kills + [self._stop] * stops
        self._rng.shuffle(blows)
        try:
            for number in range(len(self._pids)):
                self._start(number)
            for blow in blows:
                time.sleep(self._rng.uniform(0.0, 0.004))
                blow(self._rng.randrange(len(self._pids)))
        finally:
            for pid in self._pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        self._look()
        self.outcome.seconds = time.monotonic() - begin
        return self.outcome

    def _start(self, number: int) -> None:
        seed, parent = f"{self._rng.random()}", os.getpid()
        descriptors = self._blacklist.fileno(), self._blacklist.wake_fd, self._segment.fileno()
        pid = os.fork()
        if not pid:
            try:
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: ends with us, even when stopped
                if os.getppid() == parent:
                    Writer(number, seed, Tally(self._memory, number), descriptors).run()
            finally:
                os._exit(1)
        self._pids[number] = pid

    def _kill(self, number: int) -> None:
        self.outcome.kills += 1
        os.kill(self._pids[number], signal.SIGKILL)
        _, status = os.waitpid(self._pids[number], 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            self.outcome.lost.append(f"writer {number} ended by itself")
        self.outcome.killed_writing += self._is_writing()
        self._start(number)

    def _stop(self, number: int) -> None:
        self.outcome.stops += 1
        os.kill(self._pids[number], signal.SIGSTOP)
        os.waitid(os.P_PID, self._pids[number], os.WSTOPPED)
        tally = Tally(self._memory, number)
        time.sleep(self._rng.uniform(0.0, 0.01))
        self.outcome.stopped_writing += self._is_writing()
        for key in KEYS:  # whatever the stopped one holds, reading goes on
            penalty = tally.timed(lambda key=key: self._blacklist.get_penalty(key))  # type: ignore[misc]
            tally.add("torn", penalty is not None and not is_sound(key, penalty))
        os.kill(self._pids[number], signal.SIGCONT)

    def _is_writing(self) -> bool:
        """Whether the table has been marked by one writer for so long that it will not come to the end."""
        generation = self._blacklist._table.generation
        time.sleep(0.0005)
        return bool(generation & 1) and self._blacklist._table.generation == generation

    def _look(self) -> None:
        """Read and write everything once more, with nobody left to disturb."""
        outcome = self.outcome
        for number in range(len(self._pids)):
            tally = Tally(self._memory, number)
            for name in Tally.COUNTS[:-1]:
                setattr(outcome, name, getattr(outcome, name) + tally[name])
            outcome.worst = max(outcome.worst, tally["worst"])
        for key in KEYS:
            self._blacklist.clear_penalty(key)
            if not self._blacklist.set_penalty(key, "fatal", 60.0) or not self._blacklist.remaining(key) > 50.0:
                outcome.lost.append(key)
        if [penalty.key for penalty in self._blacklist.active()] != sorted(KEYS):
            outcome.lost.append("the table holds something else")
        for index in range(RECORDS):
            record = self._records.read(index)
            if record is None or not is_whole(record[1]) or not self._segment.lock():
                outcome.lost.append(f"record {index}")
                continue
            sequence = self._records.write(index, pattern(index))
            self._segment.unlock()
            if self._records.read(index) != (sequence, pattern(index)):
                outcome.lost.append(f"record {index}")


def main() -> int:
    """Run one storm and print what became of it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.memory_storm", description="Kill and stop writers at random."
    )
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--stops", type=int, default=100)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcome = Storm(arguments.writers, arguments.seed).run(arguments.kills, arguments.stops)
    sys.stdout.write(
        f"{outcome.kills} kills ({outcome.killed_writing} while the table was being written), "
        f"{outcome.stops} stops ({outcome.stopped_writing}), {arguments.writers} writers, {outcome.seconds:.1f} s\n"
        f"{outcome.calls:,} calls, {outcome.refused:,} refused, {outcome.torn} torn, {outcome.blind} blind, "
        f"{outcome.slow} slow (longest {outcome.worst / 1e6:.2f} ms of its own), "
        f"{len(outcome.lost)} lost {outcome.lost[:5] or ''}\n"
    )
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
