"""The main view, as it is seen at given sizes."""

import io
import time
from collections.abc import Iterator
from itertools import product

import pytest
from rich.console import Console
from rich.text import Text
from tests.supervisor.top.mesh import MIB, full, incident, link, node, seen, worker

from meshvisor.shared.core.states import ConnectionState
from meshvisor.supervisor.cells import width
from meshvisor.supervisor.snapshot import Answer, ExitCause, MeshState, MeshStatus, WorkerState
from meshvisor.supervisor.top.facts import Facts, Observer
from meshvisor.supervisor.top.marks import Marks
from meshvisor.supervisor.top.matrix import Matrix
from meshvisor.supervisor.top.picture import View, picture, scrolled

NO_MATRIX = Matrix()


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def text_of(lines: list[Text]) -> str:
    """Return what rich writes for ``lines`` where there are no colours."""
    console = Console(file=io.StringIO(), width=300, color_system=None, highlight=False)
    with console.capture() as captured:
        for line in lines:
            console.print(line, soft_wrap=True)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def small() -> tuple[Facts, Matrix]:
    crash: dict[str, object] = {"cause": ExitCause.EXITED, "code": 1, "signal": None, "text": "KeyError: 'a'\nmore"}
    return seen(
        worker("counter-0", cpu=97.0),
        worker("counter-1", WorkerState.BACKOFF, None, restarts=12, incarnation=13),
        worker("web", rss=1500 * MIB, uptime=0.5),
        nodes=(
            node("counter-0", link("counter-1", ConnectionState.DISCONNECTED), carried=700),
            node("counter-1", answer=Answer.ABSENT),
        ),
        incidents=(
            incident("counter-1", 100.0),
            incident("counter-1", 2.0, ready=True, next_try=1_000_004.0, **crash),
        ),
    )


def test_at_80_columns() -> None:
    facts, matrix = small()
    lines = picture(facts, matrix, View("counter-1"), Marks(), 80, 16)
    assert len(lines) == 16
    assert (
        text_of(lines)
        == """\
 demo  ● running · 2 of 3 ready · up 1h02 · 1.4k msg/s · 0 of 1 links  13:46:40
  SLOT      STATE       INC      UP   CPU    MEM    LAG   IN/S  RST 5 MIN
  counter-0 ● ready       1    2m05   97%    24M  400us   1.4k    0 ▁▁▁▁▁▁▁▁
▸ counter-1 ● backoff    13   in 4s     -      -      -      -   12 ▁▁▁▁▁▃▁▃
  web       ● ready       1   500ms    3%   1.5G      -      -    0 ▁▁▁▁▁▁▁▁

 LINKS  0 of 1 up, 1 not
             0 1
 0 counter-0 ╲ x
 1 counter-1 x ╲
 ■ <3ms  ■ <30ms  ■ <300ms  ■ slower  x not there

 LATEST INCIDENTS
 13:46:38  counter-1  ended with status 1: KeyError: 'a'
 13:45:00  counter-1  was killed by SIGSEGV
 ↑↓ select  r restart  s stop  S start  l logs  w why  m links  ? help  q quit
"""
    )


def test_on_a_wide_terminal_the_links_stand_beside_the_slots() -> None:
    facts, matrix = seen(worker("a"), worker("b"), worker("c"), nodes=full("a", "b", "c", srtt=0.003, carried=5))
    assert (
        text_of(picture(facts, matrix, View("a", message="a is ready"), Marks(colour=False), 132, 11))
        == """\
 demo  ● running · 3 of 3 ready · up 1h02 · 30 msg/s · 3 of 3 links                                                        13:46:40
  SLOT STATE       INC      UP   CPU    MEM   IN/S  RST 5 MINUTES                 LINKS  3 of 3 up   half within 3.0ms
▸ a    ● ready       1    2m05    3%    24M     10    0 ▁▁▁▁▁▁▁▁▁▁▁▁                  0 1 2
  b    ● ready       1    2m05    3%    24M     10    0 ▁▁▁▁▁▁▁▁▁▁▁▁              0 a ╲ ▒ ▒
  c    ● ready       1    2m05    3%    24M     10    0 ▁▁▁▁▁▁▁▁▁▁▁▁              1 b ▒ ╲ ▒
                                                                                  2 c ▒ ▒ ╲
                                                                                  ░ <3ms  ▒ <30ms  ▓ <300ms  █ slower

 NO INCIDENTS

 a is ready
"""  # noqa: E501
    )


def test_without_unicode_everything_is_ascii() -> None:
    facts, matrix = small()
    nodes = full("a", "b", "c")
    for view in (picture(facts, matrix, View("web"), Marks(False, False), 100, 24),
                 picture(*seen(worker("a"), nodes=nodes), View(), Marks(False, False), 100, None)):  # fmt: skip
        assert text_of(view).isascii()


def test_a_hundred_slots_scroll_with_what_is_selected() -> None:
    workers = [worker(f"w-{number}") for number in range(100)]
    facts, matrix = seen(*workers, nodes=full(*(one.name for one in workers)))
    view = scrolled(facts, View(), 80, 24, matrix, Marks())
    assert (view.selected, view.first) == ("w-0", 0)
    view = scrolled(facts, View("w-50", view.first), 80, 24, matrix, Marks())
    lines = text_of(picture(facts, matrix, view, Marks(), 80, 24)).splitlines()
    assert (view.first, lines[-3]) == (32, "  33 to 51 of 100 slots")
    assert lines[-4].startswith("▸ w-50")
    assert scrolled(facts, View("gone", 90), 80, 24, matrix, Marks()).selected == "w-90"
    assert scrolled(facts, View("w-99", 0), 80, 24, matrix, Marks()).first == 81


def test_too_many_nodes_for_the_room_are_shown_by_worker() -> None:
    names = [f"{group}-{number}" for group in ("alpha", "beta") for number in range(60)]
    facts, matrix = seen(worker("alpha-0"), nodes=full(*names))
    shown = text_of(picture(facts, matrix, View(), Marks(), 80, 24))
    assert " 0 alpha ■ ■\n 1 beta  ■ ■\n" in shown
    assert "LINKS  7140 of 7140 up" in shown


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (Facts("demo", 0.0), "is asked how it is"),
        (Facts("demo", 0.0, is_gone=True), "has ended; waiting for it to come back"),
    ],
)
def test_a_mesh_that_says_nothing_is_told_so(facts: Facts, said: str) -> None:
    assert said in text_of(picture(facts, NO_MATRIX, View(), Marks(), 80, 24))
    assert scrolled(facts, View("a"), 80, 24, NO_MATRIX, Marks()) == View("a")


def test_a_supervisor_that_does_not_answer_any_more_is_told_so() -> None:
    observer = Observer("demo")
    status, matrix = small()
    assert "no answer" not in text_of(picture(status, matrix, View(), Marks(), 120, 24))
    observer.status(MeshStatus("demo", 9, MeshState.RUNNING, 1.0, ()), 1.0)
    assert "no answer for 9s" in text_of(picture(observer.facts(10.0, 0.0), NO_MATRIX, View(), Marks(), 120, 24))


def test_at_no_size_anything_is_too_wide_or_too_high() -> None:
    workers = [worker(f"a-rather-long-name-{number}") for number in range(12)]
    facts, matrix = seen(
        *workers, nodes=full(*(one.name for one in workers)), incidents=tuple(incident("a", n) for n in range(9))
    )
    for columns, rows in product((1, 5, 20, 40, 60, 80, 131, 132, 200), (1, 2, 3, 8, 24, 60)):
        view = scrolled(facts, View("a-rather-long-name-7"), columns, rows, matrix, Marks())
        lines = picture(facts, matrix, view, Marks(), columns, rows)
        assert len(lines) == rows
        assert max(width(line.plain) for line in lines) <= columns
        if rows > 8 and columns > 40:
            assert any(line.plain.startswith("▸") for line in lines)
