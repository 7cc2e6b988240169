"""Numbers take little room, and no more than their columns have."""

import pytest

from meshvisor.supervisor.top.figures import ago, rate, size, span, spark


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0ms"), (0.95, "950ms"), (1.0, "1s"), (59.9, "59s"), (60.0, "1m00"), (3599.0, "59m59"), (3600.0, "1h00"),
     (86_399.0, "23h59"), (86_400.0, "1d"), (864_000.0, "10d")],
)  # fmt: skip
def test_ages(seconds: float, text: str) -> None:
    assert ago(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0K"), (2048, "2K"), (24 * 1024**2, "24M"), (999 * 1024**2, "999M"), (1000 * 1024**2, "1.0G")],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(None, "-"), (0.0, "0"), (0.04, "0"), (0.3, "0.3"), (9.94, "9.9"), (9.96, "10"), (999.4, "999"), (999.6, "1.0k"),
     (12_345.0, "12.3k"), (99_949.0, "99.9k"), (250_000.0, "250k"), (1_240_000.0, "1.2M")],
)  # fmt: skip
def test_rates(per_second: float | None, text: str) -> None:
    assert rate(per_second) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.00004, "40us"),
        (0.0009994, "999us"),
        (0.0012, "1.2ms"),
        (0.25, "250ms"),
        (2.5, "2.5s"),
    ],
)
def test_short_times(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


def test_bars_are_as_high_as_what_they_count_and_never_higher_than_a_line() -> None:
    assert spark([0, 1, 2, 6, 7, 1000]) == "▁▃▄███"
    assert spark([0, 1, 9], unicode=False) == "_:#"
    assert spark([]) == ""
