"""What grows is told from what goes up and down."""

from collections.abc import Iterable

from tests.soak.growth import Sample, trends

MIB = 1024 * 1024


def grown(sizes: Iterable[float] = (), counts: Iterable[float] = ()) -> list[str]:
    """Return which of two series of figures grows."""
    samples = [Sample({"s": size}, {}) for size in sizes] + [Sample({}, {"c": count}) for count in counts]
    return [trend.name for trend in trends(samples) if trend.is_growing]


def test_a_leak_of_one_descriptor_a_round_is_found() -> None:
    assert grown(counts=range(10, 40)) == ["c"]


def test_what_comes_back_does_not_grow() -> None:
    assert grown(counts=[10, 14, 9, 10, 11, 10, 15, 10, 9, 10] * 3) == []


def test_one_peak_at_the_end_is_no_growth() -> None:
    assert grown(counts=[*[10] * 29, 60]) == []


def test_warm_up_is_no_growth() -> None:
    assert grown(sizes=[20 * MIB, 30 * MIB, *[40 * MIB] * 10]) == []


def test_a_leak_of_memory_is_found_beyond_a_tenth_and_beyond_two_mebibytes() -> None:
    assert grown(sizes=[(100 + number) * MIB for number in range(30)]) == ["s"]
    assert grown(sizes=[100 * MIB + number * 1000 for number in range(30)]) == []
    assert grown(sizes=[(1 + number / 20) * MIB for number in range(30)]) == []


def test_of_a_few_samples_nothing_is_said() -> None:
    assert trends([Sample({}, {"c": count}) for count in range(5)]) == []
