"""What is done to the mesh, and when: drawn from a seed, endlessly. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """One thing that is done to the mesh."""

    KILL = "SIGKILL of a worker"
    SEGV = "SIGSEGV of a worker"
    RAISE = "exception in a callback"
    EXIT = "os._exit in a callback"
    STOP = "SIGSTOP of a worker"
    SLEEP = "sleep in a callback"
    DEADLOCK = "deadlock in a callback"
    SPIN = "endless loop in a callback"
    GROW = "growth beyond max_memory"
    SWELL = "growth beyond memory_soft"
    COMMAND = "SIGKILL of a command"
    SICK = "command that is not well"
    ZYGOTE = "SIGKILL of the zygotes"
    PAUSE = "supervisor stopped for a moment"
    CUT = "connections cut"
    CHURN = "blacklist churn from outside"
    DISK = "no room for logs"
    DESCRIPTORS = "no descriptors left"
    PROCESSES = "no processes left"
    ROLL = "rolling restart"
    SCALE = "scale up and down"
    RELOAD = "reload"
    SUPERVISOR_KILL = "SIGKILL of the supervisor"
    SUPERVISOR_RESTART = "stop and start of the mesh"


ENDS = (Kind.SUPERVISOR_KILL, Kind.SUPERVISOR_RESTART)
"""What ends a life of the supervisor, and with it everything there is."""
_WEIGHTS = {Kind.KILL: 5, Kind.CUT: 4, Kind.STOP: 2, Kind.RAISE: 2, Kind.CHURN: 2, Kind.ROLL: 2}
_MOST = 9
_LONGEST_PAUSE = 0.5
_SHORTEST_CALM, _LONGEST_CALM = 1.5, 3.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, ``after`` so many seconds of peace; ``dice`` decides what of it is left open (who it hits, how)."""

    kind: Kind
    after: float
    dice: float

    def pick(self, number: int) -> int:
        """Return one of ``number`` things to choose from."""
        return min(int(self.dice * number), number - 1)


@dataclass(frozen=True, slots=True)
class Round:
    """Some ``faults``, which fall on each other, and ``calm`` seconds in which the mesh must be whole and stay so."""

    faults: Sequence[Fault]
    calm: float


def draw(seed: int, first: int) -> Iterator[Round]:
    """Yield rounds without end. The supervisor lives for ``first`` of them, and after that for two to four at a time.

    Between two shuffles of the deck, every kind has its turn, the common ones several times.
    """
    rng = random.Random(seed)
    deck = _deck(rng)
    ends = _ends(rng)
    left = first
    while True:
        count = rng.randint(4, _MOST)
        faults = [Fault(next(deck), rng.uniform(0, _LONGEST_PAUSE), rng.random()) for _ in range(count)]
        left -= 1
        if left == 0:
            faults.append(Fault(next(ends), rng.uniform(0, _LONGEST_PAUSE), rng.random()))
            left = rng.randint(2, 4)
        yield Round(tuple(faults), rng.uniform(_SHORTEST_CALM, _LONGEST_CALM))


def _deck(rng: random.Random) -> Iterator[Kind]:
    while True:
        cards = [kind for kind in Kind if kind not in ENDS for _ in range(_WEIGHTS.get(kind, 1))]
        rng.shuffle(cards)
        yield from cards


def _ends(rng: random.Random) -> Iterator[Kind]:
    while True:
        yield from rng.sample(ENDS, len(ENDS))
