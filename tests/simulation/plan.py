"""What a run is: drawn from its seed, with the kinds of faults and their strength (others call it a "swarm")."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from meshvisor.shared.transport.chaos import ChaosOptions

DISTURBANCES = (
    "cuts",
    "resets",
    "holes",
    "switches",
    "partitions",
    "swizzles",
    "kills",
    "pauses",
    "leaves",
    "joins",
)
"""What the script of a run can do to a mesh; see ``Script``."""

SIZES = (8, 8, 8, 40, 300, 3_000, 20_000)
LARGE_SIZES = (66_000, 70_000, 150_000)


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. Durations in seconds, sizes in bytes.

    ``heartbeat`` is the interval and the time-out on links, or None; ``disturbances`` is how often, on average,
    each kind of disturbance that this run has comes.
    """

    seed: int
    nodes: int
    duration: float
    chaos: ChaosOptions
    shared_fate: bool
    heartbeat: tuple[float, float] | None
    blacklist_duration: float
    attempt_timeout: float
    senders: int
    send_every: float
    sizes: tuple[int, ...]
    consume_within: tuple[float, float]
    news_within: tuple[float, float]
    coalesce: float
    disturbances: dict[str, float]
    spares: int = 0

    def with_spares(self, count: int) -> Plan:
        """Return the same run with so many spares, which take places and die."""
        return replace(self, spares=count, disturbances={**self.disturbances, "kills": 0.5, "spare_deaths": 3.0})

    @property
    def detection(self) -> float | None:
        """How long a severed link may seem linked, if nothing else holds up what was on its way when it was cut."""
        chaos = self.chaos
        is_prompt = chaos.bandwidth is None and chaos.rechunk is None and not chaos.delay[1] and not chaos.stall[1]
        if self.heartbeat is None or not is_prompt:
            return None
        return sum(self.heartbeat) + 2 * chaos.latency[1]

    @property
    def shares_penalties(self) -> bool:
        """Whether the nodes share a blacklist, as the workers of a mesh do, or have one each: every other run."""
        return self.seed % 2 == 1

    def chaos_with(self, seed: int) -> ChaosOptions:
        """Return the chaos of the run with dice of its own."""
        return replace(self.chaos, seed=seed)

    def dice(self, whose: str) -> random.Random:
        """Return dice of the run for ``whose`` use alone, so that no draw depends on the order of others."""
        return random.Random(f"{self.seed}/{whose}")


def draw(seed: int) -> Plan:
    """Return the run that ``seed`` stands for."""
    rng = random.Random(f"plan {seed}")
    nodes = rng.choice((2, 2, 3, 3, 4, 5, 6, 8, 10))
    heartbeat = rng.choice((None, (0.5, 2.0), (1.0, 3.0)))
    size = min(nodes, 4)
    plan = Plan(
        seed=seed,
        nodes=nodes,
        duration=rng.choice((3.0, 6.0, 12.0) if nodes < 6 else (2.0, 4.0, 6.0)),
        chaos=_draw_chaos(rng, seed, is_watched=heartbeat is not None),
        shared_fate=rng.random() < 0.5,
        heartbeat=heartbeat,
        blacklist_duration=rng.choice((0.2, 1.0, 10.0)),
        attempt_timeout=rng.choice((1.0, 5.0)),
        senders=rng.randint(1, 3),
        send_every=rng.choice((0.02, 0.1, 0.5)) * size,
        sizes=SIZES + (LARGE_SIZES if rng.random() < 0.4 else ()),
        consume_within=rng.choice(((0.0, 0.0), (0.0, 0.0), (0.0, 0.05), (0.0, 2.0))),
        news_within=rng.choice(((0.0, 0.0), (0.0, 0.01), (0.0, 0.5))),
        coalesce=rng.choice((0.0, 0.5)),
        disturbances={},
    )
    share = rng.choice((0.15, 0.45))  # some runs have few kinds, so that one fault does not hide another
    kinds = [kind for kind in DISTURBANCES if rng.random() < share]
    return replace(plan, disturbances={kind: rng.choice((0.5, 1.5, 4.0)) for kind in kinds})


def _draw_chaos(rng: random.Random, seed: int, *, is_watched: bool) -> ChaosOptions:
    """Draw what is wrong with every stream. Without heartbeats nobody would find a half-open one."""
    options = ChaosOptions(seed=seed)
    draws: list[tuple[float, Callable[[], ChaosOptions]]] = [
        (0.5, lambda: replace(options, latency=(0.0, rng.choice((0.001, 0.02, 0.1))))),
        (0.3, lambda: replace(options, rechunk=rng.choice(((1, 200), (1, 2000), (500, 20_000))))),
        (0.3, lambda: replace(options, delay=(0.0, 0.02), delay_probability=rng.choice((0.05, 0.5)))),
        (0.2, lambda: replace(options, stall=(0.0, rng.choice((0.2, 2.0))), stall_probability=0.02)),
        (0.2, lambda: replace(options, bandwidth=rng.choice((30_000.0, 300_000.0)))),
        (0.2, lambda: replace(options, close_delay=rng.choice((0.01, 0.5)))),
        (0.2, lambda: replace(options, disconnect_probability=rng.choice((0.001, 0.01)))),
        (0.2, lambda: replace(options, disconnect_at_byte=int(10 ** rng.uniform(3.3, 5.3)))),
        (0.1, lambda: replace(options, disconnect_at=rng.randint(3, 200))),
        (0.25 if is_watched else 0.0, lambda: replace(options, half_open=rng.choice(("read", "write", "both")))),
    ]
    for probability, change in draws:
        if rng.random() < probability:
            options = change()
    if options.half_open is not None and not options.disconnects:
        options = replace(options, disconnect_probability=0.005)  # half-open some time, not from the start
    return options
