"""What a run has found can be said again at any time, word for word, from its file."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.__main__ import LATEST, README, load, measure, parse
from benchmarks.clauses import CLAUSES
from benchmarks.judge import index, judge
from benchmarks.report import Run, agreement, blocks, comparison, machine, markdown, refresh, terminal
from benchmarks.table import Row, as_json, from_json

RECORDED = Path(__file__).with_name("recorded.json")
RUN = Run.from_json(json.loads(RECORDED.read_text()))
SHOWN = ("start-spare", "hang-false", "small-3.11-await", "small-3.13-await", "gone", "blacklist-read")
FINDINGS = judge(index(RUN.rows), [clause for clause in CLAUSES if clause.key in SHOWN])


def test_the_table_in_a_terminal() -> None:
    lines = [re.sub("  +", "  ", line.strip()) for line in terminal(FINDINGS).splitlines()]
    assert lines == [
        "ours  asked  met  best peer  times better",
        "",
        "SIGKILL → on_start of the replacement, 16 workers",
        "spare  2.80 ms  <= 3 ms  yes  6.00 ms, gunicorn 27.0.1, --preload, with imports  2.14 x",
        "",
        "hung event loop → verdict, hang_timeout = 100ms",
        "false verdicts under load  0 verdicts (watched for 30 s)  <= 0 verdicts  yes",
        "",
        "64 B messages, one link, exactly once",
        "Python 3.11, await  2.00 x (3.60 M/s)  >= 2.3 x pyzmq PAIR  NO  1.80 M/s, pyzmq PAIR  2.00 x",
        "Python 3.13, await  -  >= 2.3 x pyzmq PAIR  -  no Python 3.13 at hand",
        "",
        "supervisor killed",
        "100 workers gone  95.0 ms  <= 150 ms  yes  never: 2 of 2 others",
        "",
        "shared blacklist",
        "read of a slot  330 ns  <= 500 ns  yes  390 ns, LMDB  1.18 x",
        "",
        "4 of 6 met, 1 not, 1 without a figure.",
    ]


def test_the_table_in_the_page() -> None:
    assert markdown(FINDINGS).splitlines()[:4] == [
        "|  | ours | asked | met | best peer | times better |",
        "|---|--:|--:|---|---|--:|",
        "| **SIGKILL → `on_start` of the replacement, 16 workers** | | | | | |",
        "| spare | 2.80 ms | ≤ 3 ms | yes | 6.00 ms, gunicorn 27.0.1, --preload, with imports | 2.14 x |",
    ]
    missed = "| Python 3.11, await | 2.00 x (3.60 M/s) | ≥ 2.3 x pyzmq PAIR | **no** | 1.80 M/s, pyzmq PAIR | 2.00 x |"
    assert missed in markdown(FINDINGS)


def test_the_rest_of_the_page() -> None:
    filled = blocks(RUN)
    assert filled["machine"] == (
        "A processor, 2 cores, 25 GB; Linux 6.18; Python 3.11.7 (and none). "
        "Commit `abc1234`, 11 minutes, load before it 0.2. pyzmq 27.\n"
    )
    assert filled["workers"].splitlines()[2:] == ["| 100 | 4,950 | - | 3.60 | - | - | - | - | 95.0 |"]
    assert filled["links"].splitlines()[2:] == ["| 2 | 4.00 | - | - | 1.20 M/s |", "| 50 | 60.0 | - | - | - |"]
    assert filled["sizes"].splitlines() == [
        "| one message | pyzmq PAIR |",
        "|---|--:|",
        "| 1 B | 2.00 M/s |",
        "| 64 B | 1.80 M/s |",
        "| 1 KiB | 600 k/s |",
        "| 1 MiB | 4,000/s |",
    ]
    assert filled["recovery"].splitlines()[2:5] == [
        "| gunicorn 27.0.1, --preload, bare | 2.00 |  | 1 |  |",
        "| meshvisor, N = 16, spare | 2.80 | 3.10 (max) | 3 |  |",
        "| gunicorn 27.0.1, --preload, with imports | 6.00 |  | 1 |  |",
    ]


def test_a_run_that_is_not_one_to_go_by_says_so() -> None:
    facts = {**RUN.machine, "quick": True, "load": 3.1, "failed": {"link": "RuntimeError: no"}}
    why = "it was a quick one; other programs had the machine, too; it failed in link.**\n"
    assert machine(facts).endswith(why)
    assert "This run shows" not in machine(RUN.machine)


def test_a_part_that_fails_keeps_what_it_had_and_no_other_from_being_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(quick: bool) -> Iterator[Row]:
        yield Row("d", "x", [1.0])
        raise RuntimeError("no such luck\nand more")

    monkeypatch.setattr("benchmarks.parts.PARTS", {"bad": breaks, "good": lambda quick: iter([Row("d", "x", [2.0])])})
    monkeypatch.setattr("benchmarks.machine.facts", lambda: {"cores": 2})
    facts, rows = measure(["bad", "good"], True)
    assert rows == [Row("d", "x", [1.0, 2.0])]
    assert facts["failed"] == {"bad": "RuntimeError: no such luck"}
    assert (facts["cores"], facts["quick"], list(facts["seconds"])) == (2, True, ["bad", "good"])


def test_two_runs_are_compared_figure_by_figure_and_what_differs_says_why() -> None:
    other = json.loads(RECORDED.read_text())
    other["rows"][0]["samples"] = [4.2]
    second = Run.from_json(other)
    lines = [re.sub("  +", "  ", line.strip()) for line in comparison(RUN, second).splitlines()]
    assert lines[1:3] == [
        "start-spare: spare  figure  2.80  4.20  50 %  ! no reason known",
        "start-spare: spare  x best peer  2.14  1.43  50 %  ! no reason known",
    ]
    assert agreement(RUN, second).splitlines()[0].endswith("figures agree within 20%; half of them within 0.0%.")
    assert agreement(RUN, RUN).count("\n") == 1


def test_a_page_is_refreshed_between_its_marks_and_nowhere_else() -> None:
    text = "a\n<!-- x -->\nold\n<!-- /x -->\nb <!-- y -->\n"
    assert refresh(text, {"x": "new\n"}) == "a\n<!-- x -->\nnew\n<!-- /x -->\nb <!-- y -->\n"
    with pytest.raises(ValueError, match="there is no place for 'z'"):
        refresh(text, {"z": ""})


def test_the_page_says_what_the_latest_run_has_found() -> None:
    text = README.read_text()
    assert refresh(text, blocks(load(LATEST))) == text
    for shown in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (README.parent / shown).is_file()


def test_a_run_that_is_written_and_read_is_the_same() -> None:
    rows = [Row("a", "x", [1.5, 2.0], "late", "MB"), Row("a", "y", [], "not installed")]
    assert from_json(json.loads(json.dumps(as_json(rows)))) == rows


def test_a_file_that_is_no_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"x\.json is no run of the benchmarks"):
        load(tmp_path / "x.json")


@pytest.mark.slow
def test_every_plot_is_drawn_and_its_bytes_depend_on_the_figures_alone(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.plots import PLOTS, draw

    rows = index(load(LATEST).rows)
    drawn = {file.name: file.read_bytes() for file in draw(rows, tmp_path)}
    assert drawn.keys() == {f"{name}.svg" for name in PLOTS}
    [again] = draw(rows, tmp_path, ["detection"])
    assert again.read_bytes() == drawn["detection.svg"]


def test_the_command_line_has_what_its_help_says() -> None:
    asked = parse(["--only", "link", "--only", "gone", "--quick", "--json", "x", "--compare", "a", "b"])
    assert (asked.only, asked.quick, asked.json, asked.compare) == (
        ["link", "gone"],
        True,
        Path("x"),
        [Path("a"), Path("b")],
    )
