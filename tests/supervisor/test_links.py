"""The links of a mesh, put together from what both ends say, and shown as a table and as a graph."""

import itertools
import json
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from meshvisor.shared.control.links import LinkStatus, LinkTotals
from meshvisor.shared.core.states import ConnectionState
from meshvisor.shared.memory.board import Stage
from meshvisor.supervisor.graph import dot
from meshvisor.supervisor.links import Condition, Pairs, to_json
from meshvisor.supervisor.matrix import Canvas
from meshvisor.supervisor.overview import render
from meshvisor.supervisor.scales import Measure, RoundTrip, Traffic, scale_for
from meshvisor.supervisor.snapshot import Answer, MeshLinks, NodeLinks, WorkerState

UP = ConnectionState.ESTABLISHED


def end(peer: str, state: ConnectionState = UP, **facts: Any) -> LinkStatus:
    return LinkStatus(peer, 1, state, facts.pop("age", 2.0), **facts)


def node(name: str, *links: LinkStatus, worker: str = "w", **facts: Any) -> NodeLinks:
    one = NodeLinks(
        name, worker, WorkerState.READY, 1, 1, Answer.FRESH, Stage.READY, 0.0, 0, 0, 0, 0, LinkTotals(), links
    )
    return msgspec.structs.replace(one, **facts)


def silent(name: str, **facts: Any) -> NodeLinks:
    return node(name, answer=Answer.SILENT, **facts)


def mesh(*nodes: NodeLinks) -> MeshLinks:
    return MeshLinks("demo", 1, 1.0, nodes)


def complete(count: int, worker: str = "w", **facts: Any) -> MeshLinks:
    names = [f"{worker}-{number}" for number in range(count)]
    return mesh(*(node(name, *(end(peer, **facts) for peer in names if peer != name), worker=worker) for name in names))


def changed(links: MeshLinks, one: str, other: str, **facts: Any) -> MeshLinks:
    """Return ``links`` with another end at ``one`` of the link to ``other``."""

    def change(node: NodeLinks) -> NodeLinks:
        if node.name != one:
            return node
        ends = (msgspec.structs.replace(link, **facts) if link.peer == other else link for link in node.links)
        return msgspec.structs.replace(node, links=tuple(ends))

    return msgspec.structs.replace(links, nodes=tuple(map(change, links.nodes)))


@pytest.mark.parametrize(
    ("links", "condition"),
    [
        (mesh(node("a", end("b")), node("b", end("a"))), Condition.UP),
        (mesh(node("a", end("b")), silent("b")), Condition.UP),
        (mesh(silent("a"), silent("b")), Condition.UNKNOWN),
        (mesh(node("a", end("b")), node("b", end("a", ConnectionState.DEGRADED))), Condition.MENDING),
        (mesh(node("a", end("b", ConnectionState.RECONNECTING)), node("b", end("a"))), Condition.MENDING),
        (mesh(node("a", end("b", ConnectionState.CONNECTING)), silent("b")), Condition.COMING),
        (mesh(node("a", end("b", ConnectionState.DISCONNECTED)), silent("b")), Condition.MISSING),
        (mesh(node("a", end("b")), node("b", answer=Answer.ABSENT, state=WorkerState.BACKOFF)), Condition.MISSING),
        (mesh(node("a"), node("b", answer=Answer.ABSENT, state=WorkerState.STOPPED)), Condition.NONE),
    ],
)
def test_a_link_is_as_good_as_its_worse_end_says(links: MeshLinks, condition: Condition) -> None:
    pairs = Pairs(links)
    assert pairs["a", "b"].condition is pairs["b", "a"].condition is condition
    assert list(pairs) == [("a", "b")]


def test_what_one_end_cannot_say_the_other_one_says() -> None:
    ours = end("b", messages_out=3, calls_out=2, messages_in=7, srtt=0.002)
    pair = Pairs(mesh(node("a", ours), silent("b")))["a", "b"]
    assert (pair.sent("a"), pair.sent("b"), pair.rtt) == (5, 7, 0.002)
    both = Pairs(mesh(node("a", end("b", srtt=0.002)), node("b", end("a", srtt=0.003))))
    assert both["a", "b"].rtt == 0.003
    pair = Pairs(mesh(silent("a"), silent("b")))["a", "b"]
    assert (pair.sent("a"), pair.rtt, pair.worst) == (0, None, None)


def test_a_few_nodes_are_shown_with_their_names_and_all_figures() -> None:
    links = changed(complete(3), "w-0", "w-1", messages_out=1234)
    assert render(links, Canvas()) == (
        "demo has 3 links between 3 workers, all up\n"
        "nothing has been sent yet\n"
        "\n"
        "           w-0       w-1       w-2\n"
        "w-0                1,234         ·\n"
        "w-1          ·                   ·\n"
        "w-2          ·         ·\n"
        "\n"
        "messages, calls and replies, sent from row to column  · up, nothing sent\n"
    )


def test_more_nodes_are_numbered() -> None:
    links = changed(complete(10), "w-9", "w-0", calls_out=4321)
    lines = render(links, Canvas(60)).splitlines()
    assert lines[3] == "          1   2   3   4   5   6   7   8   9  10"
    assert lines[4] == " 1 w-0        ·   ·   ·   ·   ·   ·   ·   ·   ·"
    assert lines[13] == "10 w-9   4k   ·   ·   ·   ·   ·   ·   ·   ·"


def test_many_nodes_have_one_character_each() -> None:
    links = changed(complete(40), "w-0", "w-1", messages_out=500)
    lines = render(links, Canvas(60)).splitlines()
    assert lines[3:6] == [
        "                 1         2         3         4",
        "        1234567890123456789012345678901234567890",
        " 1 w-0   ▃······································",
    ]
    assert lines[-3:] == [
        "messages, calls and replies, sent from row to column:",
        "▁ < 10  ▂ < 100  ▃ < 1k  ▄ < 10k  ▅ < .1M  ▆ more",
        "· up, nothing sent",
    ]
    plain = render(links, Canvas(60, unicode=False))
    assert plain.isascii()
    assert " 1 w-0   3......................................\n" in plain


@pytest.mark.parametrize(("width", "height", "rows"), [(80, 24, 10), (80, None, 10), (200, 60, 20), (200, None, 100)])
def test_neighbours_are_taken_together_when_there_is_no_room(width: int, height: int | None, rows: int) -> None:
    links = complete(100)
    for names in (("w-0", "w-99"), ("w-1", "w-98"), ("w-2", "w-97")):
        links = changed(links, *names, state=ConnectionState.DEGRADED, failure="broken")
    lines = render(links, Canvas(width, height)).splitlines()
    assert lines[0] == "demo has 4,950 links between 100 workers, 4,947 of them up"
    table = [line for line in lines if line.lstrip().split(" ")[0].isdecimal() and " w-" in line]
    assert len(table) == rows
    assert ("-3" in table[0]) == (rows < 100)
    assert max(map(len, lines)) <= width
    assert height is None or len(lines) <= height - 1
    assert lines[-3:] == [
        f"w-{number} and w-{99 - number} lost their connection 2.0 s ago: broken" for number in range(3)
    ]


def test_columns_that_do_not_fit_at_all_come_below() -> None:
    names = [f"single{number}" for number in range(100)]
    links = mesh(*(node(name, *(end(peer) for peer in names if peer != name), worker=name) for name in names))
    lines = render(links, Canvas(80)).splitlines()
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.startswith("  1 single0")]) == 2


def test_what_is_not_as_it_should_be_is_said_in_sentences() -> None:
    links = mesh(
        node("a", end("b", ConnectionState.CONNECTING, failure="no route\x1b[2J", failed=0.5), end("c"), end("e")),
        node("b", end("a"), end("c")),
        silent("c", lag=3.0),
        node("d", answer=Answer.ABSENT, state=WorkerState.BACKOFF),
        node("e", answer=Answer.ABSENT, state=WorkerState.PARKED),
    )
    text = render(links, Canvas(80))
    assert text.startswith("demo has 6 links between 5 workers, 2 of them up\n")
    assert text.endswith(
        "\nc does not answer (its loop is 3.0 s behind); its links are as the others see\n  them\n"
        "d has no links: it is waiting for its next start\n"
        "e is parked\n"
        "a and b are not linked yet, 2.0 s after they could be: no route?[2J (500 ms ago)\n"
    )
    legend = "· up, nothing sent  - no link wanted  ○ being dialled  x not there\n"
    assert legend in text


def test_only_so_many_sentences_are_said() -> None:
    links = mesh(*(node(f"n{number}", answer=Answer.ABSENT, state=WorkerState.STOPPED) for number in range(30)))
    lines = render(links, Canvas(80)).splitlines()
    assert lines[-1] == "... and 18 more (--json has all)"
    assert len([line for line in lines if line.endswith("is stopped")]) == 12


def test_the_headline_says_what_was_sent_and_how_often_links_were_made_again() -> None:
    totals = LinkTotals(messages_out=1200, messages_in=1200, bytes_out=3 * 1024, calls_out=7)
    links = mesh(node("a", end("b"), totals=totals), node("b", end("a"), totals=LinkTotals(calls_out=3)))
    assert render(links, Canvas()).splitlines()[1] == "1,200 messages, 10 calls and replies: 3 KiB sent"
    again = mesh(node("a", end("b")), node("b", end("a"), totals=LinkTotals(reconnects=2)))
    assert render(again, Canvas()).splitlines()[1] == "nothing has been sent yet, 2 reconnects"


def test_a_hundred_links_that_are_not_up_are_more_than_a_cell_can_say() -> None:
    links = changed(complete(100), "w-0", "w-99", state=ConnectionState.DEGRADED)
    assert "5 w-80..99   -1   ·   ·   ·   ·\n" in render(links, Canvas(40, 24))
    links = complete(100, state=ConnectionState.DEGRADED)
    assert "5 w-80..99  -## -## -## -## -##\n" in render(links, Canvas(40, 24))


def test_where_neighbours_are_taken_together_it_is_said_how() -> None:
    links = changed(complete(100), "w-0", "w-99", messages_out=7)
    title = "messages, calls and replies, sent from row to column"
    combination = "(all of them where several links are taken together)"
    assert f"{title}\n{combination}  · up, nothing sent\n" in render(links, Canvas(80))
    assert combination not in render(links, Canvas(300))


@pytest.mark.parametrize(("count", "said", "rest"), [(13, 13, ""), (14, 12, "... and 2 more (--json has all)")])
def test_one_sentence_more_is_said_rather_than_counted(count: int, said: int, rest: str) -> None:
    links = mesh(*(node(f"n{number}", answer=Answer.ABSENT, state=WorkerState.STOPPED) for number in range(count)))
    lines = render(links, Canvas(80)).splitlines()
    assert len([line for line in lines if line.endswith("is stopped")]) == said
    assert (lines[-1] if rest else "") == rest


def test_a_loop_that_is_hardly_behind_is_not_said_to_be() -> None:
    text = render(mesh(node("a"), silent("b", lag=0.09), silent("c", lag=0.1)), Canvas(200))
    assert "b does not answer; its links" in text
    assert "c does not answer (its loop is 100 ms behind); its links" in text


def test_only_the_signs_that_occur_are_explained() -> None:
    """Where neighbours are taken together, what is not up is counted; one character cannot say more than the worst."""
    links = changed(complete(100), "w-0", "w-99", state=ConnectionState.DEGRADED)
    counted, drawn = render(links, Canvas(80)), render(links, Canvas(200))
    assert ("-3 three links that are not up" in counted, "being mended" in counted) == (True, False)
    assert ("-3 three links that are not up" in drawn, "being mended" in drawn) == (False, True)
    crowd = mesh(*(node(f"g{n}", *(end(f"g{m}") for m in range(60) if m != n), worker=f"g{n // 2}") for n in range(60)))
    tiny = render(changed(crowd, "g0", "g59", state=ConnectionState.DEGRADED), Canvas(40, 24))
    assert "~ being mended" in tiny


def test_what_is_not_up_has_the_colour_of_trouble_though_other_links_beside_it_carry_much() -> None:
    links = changed(complete(100, messages_out=5), "w-0", "w-99", state=ConnectionState.DEGRADED)
    assert "\x1b[33m-1\x1b[0m" in render(links, Canvas(80, colour=True))


@pytest.mark.parametrize(
    ("scale", "values"),
    [
        (RoundTrip(is_watched=True), (0.0002, 0.0003, 0.001, 0.003, 0.01, 0.03)),
        (Traffic(), (9, 10, 100, 1000, 1e4, 1e5)),
    ],
)
def test_a_value_is_of_the_level_that_begins_with_the_greatest_bound_up_to_it(
    scale: RoundTrip | Traffic, values: tuple[float, ...]
) -> None:
    assert [scale.level(value) for value in values] == [0, 1, 2, 3, 4, 5]


def test_colours_are_for_terminals() -> None:
    links = changed(complete(3, messages_out=5), "w-0", "w-1", state=ConnectionState.DEGRADED)
    assert "\x1b" not in render(links, Canvas())
    text = render(links, Canvas(colour=True))
    assert "\x1b[33m~\x1b[0m" in text
    assert "\x1b[38;5;65m5\x1b[0m" in text


def test_a_mesh_of_one_worker_or_of_none_has_no_table() -> None:
    assert render(mesh(node("a")), Canvas()) == "demo has 0 links between 1 worker\n"
    assert render(mesh(), Canvas()) == "demo has 0 links between 0 workers\n"


def test_the_round_trip_is_shown_where_pings_measure_it_or_if_it_is_asked_for() -> None:
    made, measured = complete(2, srtt=0.0012), complete(2, srtt=0.0012, rttvar=0.0001)
    assert isinstance(scale_for(made), Traffic)
    assert isinstance(scale_for(measured), RoundTrip)
    assert "1.20\n\nround trip in ms, as it was when the link was made\n" in render(made, Canvas(), Measure.RTT)
    assert "1.20\n\nround trip in ms\n" in render(measured, Canvas())


@pytest.mark.parametrize(
    ("value", "short", "full"),
    [
        (1, "1", "1"),
        (999, "999", "999"),
        (1000, "1k", "1,000"),
        (99_400, "99k", "99,400"),
        (123_456, ".1M", "123,456"),
        (950_000, "1M", "950,000"),
        (12_345_678, "12M", "12M"),
        (10**14, "##", "##"),
    ],
)
def test_numbers_of_messages_fit_into_their_cells(value: int, short: str, full: str) -> None:
    assert (Traffic().in_short(value), Traffic().in_full(value)) == (short, full)


@pytest.mark.parametrize(
    ("value", "short", "full"),
    [
        (0.00004, "0.0", "0.04"),
        (0.0094, "9.4", "9.40"),
        (0.00996, "10", "9.96"),
        (0.25, "250", "250"),
        (5.0, "5s", "5000"),
    ],
)
def test_round_trips_fit_into_their_cells(value: float, short: str, full: str) -> None:
    scale = RoundTrip(is_watched=True)
    assert (scale.in_short(value), scale.in_full(value)) == (short, full)


def test_in_json_every_field_has_its_name() -> None:
    found = json.loads(to_json(complete(2, failure="broken")))
    assert list(found) == ["mesh", "pid", "uptime", "nodes"]
    assert set(found["nodes"][0]) == set(NodeLinks.__struct_fields__)
    (link,) = found["nodes"][1]["links"]
    assert set(link) == set(LinkStatus.__struct_fields__)
    assert (link["peer"], link["state"], link["failure"]) == ("w-0", "established", "broken")


def test_a_graph_has_each_node_and_each_link_once() -> None:
    links = changed(complete(4), "w-0", "w-1", state=ConnectionState.DEGRADED, failure='say "no"\x1b')
    text = dot(links)
    for one, other in itertools.combinations(range(4), 2):
        assert text.count(f'"w-{one}" -- "w-{other}" [') == 1
    assert 'tooltip="w-0 and w-1: mending for 2.0 s, say \\"no\\"?"' in text
    assert text.count("style=dashed") == 1


def test_a_link_that_nobody_can_tell_of_has_no_more_in_the_graph_than_that() -> None:
    text = dot(mesh(silent("a"), silent("b")))
    assert 'tooltip="a and b: unknown"' in text


def test_a_link_without_a_known_reason_has_none_in_the_graph() -> None:
    text = dot(mesh(node("a", end("b", ConnectionState.CONNECTING)), silent("b")))
    assert 'tooltip="a and b: coming for 2.0 s"' in text


@pytest.mark.parametrize("count", [2, 3, 7])
def test_no_two_nodes_are_at_one_place_in_the_graph(count: int) -> None:
    places = [line.partition("pos=")[2] for line in dot(complete(count)).splitlines() if "pos=" in line]
    assert len(set(places)) == count


def test_a_worker_that_is_over_stands_alone_in_the_graph() -> None:
    text = dot(mesh(node("a"), node("b", answer=Answer.ABSENT, state=WorkerState.FAILED)))
    assert '"b" [label="b\\nfailed"' in text
    assert "--" not in text


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
@pytest.mark.parametrize("make", [mesh, partial(complete, 1), partial(complete, 30)])
def test_graphviz_takes_the_graph(make: Callable[[], MeshLinks]) -> None:
    done = subprocess.run(["dot", "-Tsvg"], input=dot(make()), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "</svg>" in done.stdout
