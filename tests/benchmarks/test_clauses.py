"""The benchmarks measure everything that is asked, clause by clause, and judge it by what was measured alone."""

from collections.abc import Sequence

import pytest
from benchmarks.__main__ import chosen
from benchmarks.clauses import CLAUSES, LINES, Bound, Clause
from benchmarks.judge import agreements, index, judge, point, ratio
from benchmarks.parts import PARTS
from benchmarks.table import Row

# What the design asks (section 6), line by line, read once more by hand.
ASKED = {
    "start": ["<= 3 ms", "<= 8 ms"],
    "mesh": ["<= 4 ms", "<= 8 ms p99", "<= 12 ms", "<= 25 ms p99", "<= 13 ms"],
    "stop": ["<= 4.5 ms", "<= 13 ms"],
    "hang": ["<= 110 ms", "<= 250 ms", "<= 0 verdicts max"],
    "small": 2 * [">= 2.3 x pyzmq PAIR", ">= 3.5 x pyzmq PAIR", ">= 45 x pyzmq PAIR, asyncio"],
    "medium": [">= 2 x pyzmq PAIR"],
    "large": [">= 0.9 x raw sockets, 1 MiB buffers", ">= 0.8 x raw sockets", "<= 1.05 bodies"],
    "rtt": [f"<= {value} x raw sockets, 1 MiB buffers" for value in (1.5, 1.35, 4.7, 3)],
    "calls": [f">= {value} x pyzmq asyncio" for value in (8, 5, 8, 5)],
    "stall": ["<= 100 us", "<= 5 ms", "<= 0.5 MB"],
    "idle": ["<= 1 %", "<= 20 %"],
    "form": ["<= 850 ms", "<= 4 MB"],
    "gone": ["<= 150 ms"],
    "blacklist": ["<= 100 ns", "<= 500 ns", "<= 1500 ns"],
    "supervisor": ["<= 0.5 %", "<= 30 MB"],
    "status": ["<= 150 ms"],
}


def _asked(clause: Clause) -> str:
    unit = f"x {clause.base}" if clause.base else clause.asked.unit
    statistic = "" if clause.statistic == "p50" else f" {clause.statistic}"
    return f"{clause.asked.operator} {clause.asked.value:g} {unit}{statistic}"


def test_every_clause_that_is_asked_has_a_row() -> None:
    assert list(LINES) == list(ASKED)
    assert {line: [_asked(clause) for clause in CLAUSES if clause.line == line] for line in LINES} == ASKED


def test_a_clause_is_found_by_its_name_and_measured_by_a_part() -> None:
    assert len({clause.key for clause in CLAUSES}) == len(CLAUSES)
    assert {clause.part for clause in CLAUSES} <= PARTS.keys()
    assert chosen(["rtt-one-core-uvloop", "memory", "stop-spare"]) == ["kill", "peers", "link", "memory"]
    assert chosen([]) == list(PARTS)
    assert {clause.part for clause in CLAUSES} <= set(chosen([], quick=True))
    with pytest.raises(SystemExit, match="there is no row or part 'rtt'"):
        chosen(["rtt"])


LESS = Clause("start-spare", "spare", "kill", "d", "meshvisor, a", Bound("<=", 3, "ms"), rivals_unsteady="by a clock")
MORE = Clause("small", "await", "link", "d", "meshvisor, a", Bound(">=", 2, "x"), base="zmq")


def test_the_best_peer_is_the_quickest_of_the_others_and_ours_is_so_many_times_better() -> None:
    rows = [
        Row("d", "meshvisor, a", [2.0, 3.0, 4.0]),
        Row("d", "meshvisor, b", [1.0]),
        Row("d", "slow", [9.0]),
        Row("d", "quick", [6.0]),
        Row("d", "dead", note="never"),
        Row("other", "quicker", [0.1]),
    ]
    [found] = judge(index(rows), [LESS])
    assert (found.figure, found.met, found.peer, found.better, found.never) == (3.0, True, ("quick", 6.0), 2.0, 1)


def test_where_more_is_asked_the_best_peer_is_the_one_with_most() -> None:
    rows = [Row("d", "meshvisor, a", [30.0]), Row("d", "zmq", [20.0]), Row("d", "raw", [40.0])]
    [found] = judge(index(rows), [MORE])
    assert (found.value, found.figure, found.met, found.peer, found.better) == (30.0, 1.5, False, ("raw", 40.0), 0.75)


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        ([], "not measured"),
        ([Row("d", "meshvisor, a", note="no Python 3.13")], "no Python 3.13"),
        ([Row("d", "meshvisor, a", [1.0])], "zmq was not measured"),
    ],
)
def test_a_clause_without_a_figure_is_neither_met_nor_missed_and_says_why(rows: list[Row], note: str) -> None:
    [found] = judge(index(rows), [MORE])
    assert (found.figure, found.met, found.note) == (None, None, note)


@pytest.mark.parametrize(
    ("samples", "statistic", "value"),
    [
        (range(1, 101), "p99", 99),
        (range(1, 100), "p99", 99),
        (range(1, 100), "p50", 50),
        ([3, 1], "max", 3),
    ],
)
def test_a_statistic_is_what_its_name_says(samples: Sequence[float], statistic: str, value: float) -> None:
    assert point(samples, statistic) == value


def test_a_multiple_is_taken_round_by_round_so_that_a_machine_that_slows_down_does_not_count() -> None:
    assert ratio([10.0, 20.0, 30.0], [5.0, 10.0, 15.0]) == 2.0
    assert ratio([10.0, 2.0, 30.0], [5.0, 1.0, 10.0]) == 2.0
    assert ratio([10.0, 20.0], [5.0, 5.0, 5.0]) == 3.0


def test_two_runs_agree_within_a_fifth_of_the_smaller_figure() -> None:
    first = [Row("d", "meshvisor, a", [10.0]), Row("d", "peer", [20.0])]
    second = [Row("d", "meshvisor, a", [12.0]), Row("d", "peer", [30.0])]
    figure, better = agreements(index(first), index(second), [LESS])
    assert (figure.first, figure.second, figure.is_close) == (10.0, 12.0, True)
    assert (better.first, better.second, better.is_close) == (2.0, 2.5, False)
    assert (figure.why, better.why) == ("", "by a clock")
    [missing] = agreements(index(first), index([]), [LESS])
    assert (missing.second, missing.difference, missing.is_close) == (None, None, False)
