"""A benchmark's table says no more than its samples do."""

import pytest
from benchmarks.table import Row, as_json, merge, render


@pytest.mark.parametrize(
    ("count", "tail"),
    [(1, None), (2, ("max", 2)), (49, ("max", 49)), (50, ("p98", 49)), (99, ("p98", 98)), (100, ("p99", 99))],
)
def test_the_tail_is_what_so_many_samples_support(count: int, tail: tuple[str, float] | None) -> None:
    assert Row("d", "n", range(1, count + 1)).tail == tail


def test_ratios_are_to_the_first_figure_of_a_discipline_and_a_note_stands_for_none() -> None:
    rows = [Row("a", "none", note="never"), Row("a", "one", [2.0]), Row("a", "two", [5.0, 5.0]), Row("b", "x", [1.0])]
    cells = [line.split() for line in render(rows).splitlines()]
    assert cells[2:6] == [
        ["a"],
        ["none", "never"],
        ["one", "2.00", "ms", "1", "1.00x"],
        ["two", "5.00", "ms", "5.00", "max", "2", "2.50x"],
    ]
    assert cells[8] == ["x", "1.00", "ms", "1", "1.00x"]


def test_turns_are_put_together() -> None:
    first, second = Row("a", "x", [1.0, 2.0]), Row("a", "x", [3.0], note="late")
    other = Row("a", "y")
    assert merge([first, other, second]) == [Row("a", "x", [1.0, 2.0, 3.0], note="late"), other]


def test_a_program_gets_all_samples() -> None:
    assert as_json([Row("a", "x", [1.23456, 3.0], unit="MB")]) == [
        {
            "discipline": "a",
            "name": "x",
            "unit": "MB",
            "p50": 2.11728,
            "tail": {"max": 3.0},
            "n": 2,
            "note": "",
            "samples": [1.2346, 3.0],
        }
    ]
