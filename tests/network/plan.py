"""What happens to the network next: drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from .wire import SIDES, Side


class Kind(StrEnum):
    """What can happen; each concerns one side, or both ways alike."""

    OUTAGE = "nothing arrives, both ways"
    DEAF = "nothing arrives, one way"
    HICCUP = "nothing arrives, for a moment"
    LOSS = "1 to 30 % of the packets are lost"
    UNRULY = "packets late, overtaken and doubled"
    NARROW = "a large message on a narrow line"
    CARRIER = "cable pulled"
    SWITCHED_OFF = "interface switched off"
    ADDRESS = "another address"
    RESET = "firewall forgets, and resets"
    VANISHED = "machine gone, a new one comes"


@dataclass(frozen=True, slots=True)
class Fault:
    """One of them; ``share``, from 0 to 1, says how bad it is, or how long it takes, where that can differ."""

    kind: Kind
    side: Side
    share: float


def draw(rng: random.Random) -> Fault:
    """Return what happens next."""
    return Fault(rng.choice(list(Kind)), rng.choice(SIDES), rng.random())
