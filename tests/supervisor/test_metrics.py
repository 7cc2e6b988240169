"""The metrics of a mesh: what is in the table is exposed, in the format that Prometheus reads, piece by piece."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from meshvisor.shared.control.links import LinkStatus, LinkTotals
from meshvisor.shared.core.penalties import FailureSeverity
from meshvisor.shared.core.states import ConnectionState
from meshvisor.shared.memory.board import Stage
from meshvisor.supervisor.event import Event
from meshvisor.supervisor.exposition import pieces
from meshvisor.supervisor.figures import COUNTED, BlacklistFigures, MeshFigures, SlotFigures, Tally
from meshvisor.supervisor.metrics import FAMILIES
from meshvisor.supervisor.snapshot import Answer, ExitCause, NodeLinks, WorkerState

SLOT = SlotFigures(
    name="a-0",
    worker="a",
    is_node=True,
    state=WorkerState.READY,
    is_ready=True,
    incarnation=3,
    restarts=2,
    uptime=10.5,
    cpu=1.25,
    rss=4096,
    lag=0.001,
    messages_in=7,
    messages_out=8,
    links_up=1,
    links_total=2,
    log_lines=5,
    log_size=500,
)
COMMAND = msgspec.structs.replace(SLOT, name="redis", worker="redis", is_node=False, lag=None)
LINK = LinkStatus("b", 1, ConnectionState.ESTABLISHED, 2.0, 0.002, None, 0.0, 10, 20, 30, 40, 50, 60, 70, 80)
NODE = NodeLinks(
    "a-0",
    "a",
    WorkerState.READY,
    7,
    3,
    Answer.FRESH,
    Stage.READY,
    0.0,
    0,
    0,
    1,
    2,
    LinkTotals(1, 2, 3, 4, 5, 6, 7),
    (LINK,),
)
SILENT = msgspec.structs.replace(NODE, name="b", worker="b", answer=Answer.SILENT, totals=LinkTotals(), links=())
FIGURES = MeshFigures(
    mesh="demo",
    release="1.0",
    uptime=100.0,
    cpu=2.5,
    rss=8192,
    lag=0.004,
    events_dropped=1,
    incidents={**dict.fromkeys(COUNTED, 0), ExitCause.HUNG: 3},
    slots=(SLOT, COMMAND),
    nodes=(NODE, SILENT),
    blacklist=BlacklistFigures(
        {FailureSeverity.SOFT: 0, FailureSeverity.HARD: 2, FailureSeverity.FATAL: 0}, 1024, 4, 5
    ),
)


def exposed(figures: MeshFigures = FIGURES) -> str:
    return b"".join(pieces(figures)).decode()


def value(name: str, labels: dict[str, str], figures: MeshFigures = FIGURES) -> float | None:
    """Return the value of the sample with exactly these labels."""
    for family in text_string_to_metric_families(exposed(figures)):
        for sample in family.samples:
            if (sample.name, sample.labels) == (name, labels):
                return sample.value
    return None


def test_what_is_exposed_is_what_is_in_the_table() -> None:
    found = {}
    for family in text_string_to_metric_families(exposed()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert {sample.name for sample in family.samples} == {name}
        (labels,) = {frozenset(sample.labels) for sample in family.samples}
        found[name] = (family.type, labels, family.documentation)
    assert found == {family.name: (family.kind, frozenset(family.labels), family.text) for family in FAMILIES}
    assert list(found) == [family.name for family in FAMILIES]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_metric_has_a_name_with_a_base_unit_and_says_in_one_sentence_what_it_is(family: Any) -> None:
    assert re.fullmatch(r"meshvisor_[a-z]+(_[a-z]+)+", family.name)
    assert not re.search(r"milli|micro|percent|kilo|mega|_ms|_mb", family.name)
    assert re.fullmatch(r"[A-Z1].*\.", family.text)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of Debian's package prometheus")
def test_promtool_finds_nothing_to_complain_of() -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=exposed(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("meshvisor_mesh_info", {"mesh": "demo", "release": "1.0"}, 1.0),
        ("meshvisor_supervisor_cpu_seconds_total", {}, 2.5),
        ("meshvisor_supervisor_incidents_total", {"cause": "hung"}, 3.0),
        ("meshvisor_supervisor_incidents_total", {"cause": "oom"}, 0.0),
        ("meshvisor_supervisor_slots", {"state": "ready"}, 2.0),
        ("meshvisor_supervisor_slots", {"state": "parked"}, 0.0),
        ("meshvisor_slot_state", {"slot": "a-0", "worker": "a", "state": "ready"}, 1.0),
        ("meshvisor_slot_state", {"slot": "a-0", "worker": "a", "state": "failed"}, 0.0),
        ("meshvisor_slot_restarts_total", {"slot": "redis", "worker": "redis"}, 2.0),
        ("meshvisor_slot_resident_memory_bytes", {"slot": "redis", "worker": "redis"}, 4096.0),
        ("meshvisor_slot_loop_lag_seconds", {"slot": "a-0", "worker": "a"}, 0.001),
        ("meshvisor_slot_loop_lag_seconds", {"slot": "redis", "worker": "redis"}, None),
        ("meshvisor_slot_links_expected", {"slot": "a-0", "worker": "a"}, 2.0),
        ("meshvisor_slot_links_expected", {"slot": "redis", "worker": "redis"}, None),
        ("meshvisor_slot_answering", {"slot": "a-0", "worker": "a"}, 1.0),
        ("meshvisor_slot_answering", {"slot": "b", "worker": "b"}, 0.0),
        ("meshvisor_slot_sent_bytes_total", {"slot": "a-0", "worker": "a"}, 2.0),
        ("meshvisor_slot_sent_bytes_total", {"slot": "b", "worker": "b"}, None),
        ("meshvisor_slot_reconnects_total", {"slot": "a-0", "worker": "a"}, 7.0),
        ("meshvisor_link_up", {"slot": "a-0", "peer": "b"}, 1.0),
        ("meshvisor_link_round_trip_seconds", {"slot": "a-0", "peer": "b"}, 0.002),
        ("meshvisor_link_messages_sent_total", {"slot": "a-0", "peer": "b"}, 40.0),
        ("meshvisor_link_unacknowledged_messages", {"slot": "a-0", "peer": "b"}, 70.0),
        ("meshvisor_blacklist_entries", {"severity": "hard"}, 2.0),
        ("meshvisor_blacklist_refused_updates_total", {}, 5.0),
    ],
)
def test_a_metric_is_what_its_name_says(name: str, labels: dict[str, str], expected: float | None) -> None:
    assert value(name, labels) == expected


def test_a_link_that_is_being_mended_is_not_up() -> None:
    link = msgspec.structs.replace(LINK, state=ConnectionState.RECONNECTING, srtt=None)
    figures = msgspec.structs.replace(FIGURES, nodes=(msgspec.structs.replace(NODE, links=(link,)),))
    labels = {"slot": "a-0", "peer": "b"}
    assert value("meshvisor_link_up", labels, figures) == 0.0
    assert value("meshvisor_link_round_trip_seconds", labels, figures) is None


def test_metrics_without_samples_are_left_out() -> None:
    text = exposed(msgspec.structs.replace(FIGURES, slots=(), nodes=(), blacklist=None))
    assert {line.split()[2].split("_")[1] for line in text.splitlines() if line.startswith("# HELP")} == {
        "mesh",
        "supervisor",
    }


def test_a_large_mesh_is_told_in_small_pieces_each_sample_once() -> None:
    slots = tuple(msgspec.structs.replace(SLOT, name=f"a-{number}") for number in range(250))
    figures = msgspec.structs.replace(FIGURES, slots=slots)
    made = [piece.decode() for piece in pieces(figures)]
    assert max(piece.count("\n") for piece in made) <= 102
    lines = "".join(made).splitlines()
    assert len(lines) == len(set(lines))
    kinds = Counter(line.split("{")[0] for line in lines if not line.startswith("#"))
    assert (kinds["meshvisor_slot_state"], kinds["meshvisor_slot_ready"]) == (250 * 8, 250)


def exited(cause: ExitCause, follows: str = "restart", **details: Any) -> Event:
    facts = {"cause": cause, "next": follows, "delay": 0.0, "code": 1, "signal": None, "uptime": 1.0, "ready": True}
    return Event(0.0, "slot-exited", "a", 1, {**facts, "tail": [], **details})


def test_incidents_are_counted_by_their_cause_and_what_was_asked_for_is_none() -> None:
    tally = Tally()
    for event in (
        exited(ExitCause.HUNG),
        exited(ExitCause.HUNG),
        exited(ExitCause.SIGNALED, "parked"),
        exited(ExitCause.STOPPED),
        exited(ExitCause.EXITED, "stopped", delay=None),
        exited(ExitCause.EXITED, shortage=1),
        exited(ExitCause.EXITED, shortage=2),
        Event(0.0, "slot-ready", "a", 1),
    ):
        tally.heard(event)
    assert {cause: count for cause, count in tally.incidents.items() if count} == {
        "hung": 2,
        "signaled": 1,
        "exited": 1,
    }
    assert set(tally.incidents) == set(ExitCause) - {ExitCause.STOPPED}


def test_what_makes_the_text_is_loaded_only_by_whoever_needs_it() -> None:
    modules = (
        "supervisor.supervisor supervisor.control supervisor.client supervisor.foreground supervisor.commands.metrics"
    )
    script = f"import sys, {', '.join(f'meshvisor.{name}' for name in modules.split())}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "prometheus_client" not in done.stdout.split()
    assert "meshvisor.supervisor.gauge" in done.stdout.split()
