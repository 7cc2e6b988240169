"""A process outside of a mesh that bars and frees endpoints of it all the time: ``churn.py SOCKET SEED KEY...``

It also has keys of its own, of which it knows what must be true. Ends with 1, and says why on stderr, if it is not.
"""

from __future__ import annotations

import os
import random
import sys
import time

from meshvisor.shared.core.penalties import FailureSeverity
from meshvisor.shared.memory.blacklist import SharedBlacklist

LONGEST = 2.0
"""Seconds that a penalty lasts at most."""
_PAUSE = 0.002
_SEVERITIES = list(FailureSeverity)


def main(socket: str, seed: str, keys: list[str]) -> None:
    """Churn until killed, or until whoever started this is gone."""
    rng = random.Random(seed)
    me, parent = os.getpid(), os.getppid()
    blacklist = SharedBlacklist.attach(socket, source=f"churn-{me}")
    own = [f"tcp:127.9.9.9:{1 + (me * 8 + number) % 60_000}" for number in range(8)]
    while os.getppid() == parent:
        key, severity, seconds = rng.choice(keys or own), rng.choice(_SEVERITIES), rng.uniform(0.001, LONGEST)
        if rng.random() < 0.3:
            blacklist.clear_penalty(key)
        else:
            blacklist.set_penalty(key, severity, seconds)
        _check_own(blacklist, rng.choice(own), severity, seconds)
        time.sleep(_PAUSE)


def _check_own(blacklist: SharedBlacklist, key: str, severity: FailureSeverity, seconds: float) -> None:
    """Bar a key that nobody else bars: it must be barred that long and that hard, and never for longer than anybody
    says."""
    begun = time.monotonic()
    if not blacklist.set_penalty(key, severity, seconds):
        return  # the table's lock was not to be had
    penalty = blacklist.get_penalty(key)
    passed = time.monotonic() - begun
    if penalty is None:
        if passed < seconds:
            sys.exit(f"{key} was barred for {seconds} s, and after {passed} s it is not")
    elif not seconds - passed - 0.001 <= penalty.remaining <= LONGEST or penalty.severity.rank < severity.rank:
        sys.exit(f"{key} was barred for {seconds} s ({severity}), and after {passed} s it is {penalty}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
