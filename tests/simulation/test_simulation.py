"""Whole meshes under drawn faults keep every invariant. More seeds: ``python -m tests.simulation``."""

import sys
from collections.abc import Iterator

import pytest
from tests.simulation.plan import DISTURBANCES, draw
from tests.simulation.run import run

BATCH = 5


@pytest.fixture
def untraced() -> Iterator[None]:
    """Do not measure coverage meanwhile: it costs more than the seeds do, and a few reach the same lines."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("first", range(0, 100, BATCH), ids=lambda first: f"seeds {first} to {first + BATCH - 1}")
def test_no_invariant_is_broken(first: int) -> None:
    outcomes = [run(seed) for seed in range(first, first + BATCH)]
    broken = [outcome for outcome in outcomes if outcome.violations]
    assert not broken, "\n".join(map(str, broken))


@pytest.mark.slow
@pytest.mark.parametrize("spares", [1, 2])
def test_no_invariant_is_broken_when_spares_take_places(spares: int) -> None:
    outcomes = [run(seed, spares) for seed in range(spares, 12, 2)]
    broken = [outcome for outcome in outcomes if outcome.violations]
    assert not broken, "\n".join(map(str, broken))


def test_a_seed_means_one_run() -> None:
    assert [run(seed) for seed in (5, 17, 23)] == [run(seed) for seed in (5, 17, 23)]


def test_the_seeds_of_a_hundred_draw_every_kind_of_fault() -> None:
    plans = [draw(seed) for seed in range(100)]
    assert {kind for plan in plans for kind in plan.disturbances} == set(DISTURBANCES)
    assert {plan.nodes for plan in plans} >= {2, 3, 4, 5, 6, 8, 10}
    assert any(plan.chaos.half_open for plan in plans)
    assert all(plan.heartbeat for plan in plans if plan.chaos.half_open)
    assert any(plan.detection for plan in plans)
    assert any(max(plan.sizes) > 64 * 1024 for plan in plans)
    for field in ("latency", "delay", "stall"):
        assert any(getattr(plan.chaos, field)[1] for plan in plans)
    for field in ("rechunk", "bandwidth", "close_delay", "disconnect_at", "disconnect_at_byte"):
        assert any(getattr(plan.chaos, field) for plan in plans)
