import pytest

from meshvisor.shared.config.model import Backoff
from meshvisor.supervisor.backoff import restart_delay

CALM = Backoff(initial=0.01, max=30.0, factor=2.0, jitter=0.0)


@pytest.mark.parametrize(
    ("restart", "seconds"),
    [(1, 0.0), (2, 0.01), (3, 0.02), (4, 0.04), (13, 20.48), (14, 30.0), (15, 30.0), (100_000, 30.0)],
)
def test_the_first_restart_is_immediate_and_the_others_grow_up_to_a_limit(restart: int, seconds: float) -> None:
    assert restart_delay(CALM, restart, 0.5) == pytest.approx(seconds)


@pytest.mark.parametrize(("jitter", "draw", "seconds"), [(1.0, 0.0, 8.0), (1.0, 0.75, 2.0), (0.5, 0.5, 6.0)])
def test_jitter_takes_its_share_of_what_is_drawn(jitter: float, draw: float, seconds: float) -> None:
    assert restart_delay(Backoff(initial=8.0, max=30.0, jitter=jitter), 2, draw) == seconds


def test_a_constant_wait_stays_constant() -> None:
    backoff = Backoff(initial=2.0, max=30.0, factor=1.0, jitter=0.0)
    assert [restart_delay(backoff, restart, 0.0) for restart in (2, 3, 1000)] == [2.0, 2.0, 2.0]
