"""The table of all metrics: what is in it is exposed, and nothing else. Pure: figures in, numbers out.

Names carry base units (seconds, bytes), and ``_total`` if they only grow; what grows begins at 0 with each process that
it is about. Those of each link are N times N, so they are for whoever asks for them, by ``/metrics?links=each``;
otherwise a worker says what all its links have carried together. If it does not answer in time (it hangs, is frozen,
has just begun), ``meshvisor_slot_answering`` is 0 and what only itself can say is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..shared.control.links import LinkStatus
from ..shared.core.states import UP
from .figures import BlacklistFigures, MeshFigures, SlotFigures
from .snapshot import Answer, NodeLinks, WorkerState

Sample = tuple[tuple[str, ...], float]
"""The values of the labels, and of the metric."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, its labels, what it says, and where it is to be found."""

    name: str
    labels: tuple[str, ...]
    text: str
    samples: Callable[[MeshFigures], Iterable[Sample]]

    @property
    def kind(self) -> str:
        """``counter`` or ``gauge``."""
        return "counter" if self.name.endswith("_total") else "gauge"


def _mesh(name: str, text: str, value: Callable[[MeshFigures], float]) -> Family:
    return Family(name, (), text, lambda figures: [((), value(figures))])


def _slot(name: str, text: str, value: Callable[[SlotFigures], float | None]) -> Family:
    def samples(figures: MeshFigures) -> Iterator[Sample]:
        for slot in figures.slots:
            if (found := value(slot)) is not None:
                yield (slot.name, slot.worker), found

    return Family(name, ("slot", "worker"), text, samples)


def _node(name: str, text: str, value: Callable[[NodeLinks], float]) -> Family:
    def samples(figures: MeshFigures) -> Iterator[Sample]:
        for node in figures.nodes:
            if node.answer is Answer.FRESH:
                yield (node.name, node.worker), value(node)

    return Family(name, ("slot", "worker"), text, samples)


def _link(name: str, text: str, value: Callable[[LinkStatus], float | None]) -> Family:
    def samples(figures: MeshFigures) -> Iterator[Sample]:
        for node in figures.nodes:
            for link in node.links:
                if (found := value(link)) is not None:
                    yield (node.name, link.peer), found

    return Family(name, ("slot", "peer"), text, samples)


def _barred(name: str, text: str, value: Callable[[BlacklistFigures], float]) -> Family:
    def samples(figures: MeshFigures) -> list[Sample]:
        return [((), value(figures.blacklist))] if figures.blacklist is not None else []

    return Family(name, (), text, samples)


def _states(figures: MeshFigures) -> Iterator[Sample]:
    for slot in figures.slots:
        for state in WorkerState:
            yield (slot.name, slot.worker, state), float(slot.state is state)


def _slots(figures: MeshFigures) -> Iterator[Sample]:
    for state in WorkerState:
        yield (state,), sum(slot.state is state for slot in figures.slots)


def _entries(figures: MeshFigures) -> Iterator[Sample]:
    if figures.blacklist is not None:
        for severity, count in figures.blacklist.entries.items():
            yield (severity,), count


def _answering(figures: MeshFigures) -> Iterator[Sample]:
    for node in figures.nodes:
        yield (node.name, node.worker), float(node.answer is Answer.FRESH)


def _of_node(value: Callable[[SlotFigures], float]) -> Callable[[SlotFigures], float | None]:
    return lambda slot: value(slot) if slot.is_node else None


FAMILIES = (
    Family(
        "meshvisor_mesh_info",
        ("mesh", "release"),
        "The mesh, and the release of meshvisor that supervises it; always 1.",
        lambda figures: [((figures.mesh, figures.release), 1.0)],
    ),
    _mesh("meshvisor_supervisor_uptime_seconds", "How long the mesh has been up.", lambda f: f.uptime),
    _mesh("meshvisor_supervisor_cpu_seconds_total", "CPU time of the supervisor's process.", lambda f: f.cpu),
    _mesh("meshvisor_supervisor_resident_memory_bytes", "Memory of the supervisor's process.", lambda f: f.rss),
    _mesh(
        "meshvisor_supervisor_loop_lag_seconds",
        "How late the supervisor's event loop was at worst since the scrape before.",
        lambda f: f.lag,
    ),
    _mesh(
        "meshvisor_supervisor_events_dropped_total",
        "Events that readers have lost because they were too slow.",
        lambda f: f.events_dropped,
    ),
    Family(
        "meshvisor_supervisor_incidents_total",
        ("cause",),
        "Unplanned ends of processes, by their cause.",
        lambda figures: [((cause,), count) for cause, count in figures.incidents.items()],
    ),
    Family("meshvisor_supervisor_slots", ("state",), "Slots, by their state.", _slots),
    Family(
        "meshvisor_slot_state", ("slot", "worker", "state"), "1 for the state that the slot is in, else 0.", _states
    ),
    _slot("meshvisor_slot_ready", "1 if the slot has a process that is ready, else 0.", lambda slot: slot.is_ready),
    _slot("meshvisor_slot_incarnation", "The number of the slot's latest process.", lambda slot: slot.incarnation),
    _slot("meshvisor_slot_restarts_total", "Restarts of the slot, without an operator's.", lambda slot: slot.restarts),
    _slot("meshvisor_slot_uptime_seconds", "Age of the slot's process; 0 without one.", lambda slot: slot.uptime),
    _slot("meshvisor_slot_cpu_seconds_total", "CPU time of the slot's process.", lambda slot: slot.cpu),
    _slot("meshvisor_slot_resident_memory_bytes", "Memory of the slot's process.", lambda slot: slot.rss),
    _slot("meshvisor_slot_loop_lag_seconds", "How far the worker's event loop is behind.", lambda slot: slot.lag),
    _slot("meshvisor_slot_log_lines_total", "Lines that were written to the slot's log.", lambda slot: slot.log_lines),
    _slot("meshvisor_slot_log_bytes_total", "Bytes that were written to the slot's log.", lambda slot: slot.log_size),
    _slot(
        "meshvisor_slot_links_up",
        "Other workers that are linked with this one, by its latest word.",
        _of_node(lambda slot: slot.links_up),
    ),
    _slot(
        "meshvisor_slot_links_expected",
        "Other workers that this one is to be linked with, by its latest word.",
        _of_node(lambda slot: slot.links_total),
    ),
    _slot(
        "meshvisor_slot_messages_received_total",
        "Messages that the worker has received; up to date to some seconds.",
        _of_node(lambda slot: slot.messages_in),
    ),
    _slot(
        "meshvisor_slot_messages_sent_total",
        "Messages that the worker has sent; up to date to some seconds.",
        _of_node(lambda slot: slot.messages_out),
    ),
    Family(
        "meshvisor_slot_answering",
        ("slot", "worker"),
        "1 if the worker has told in time how its links are, else 0.",
        _answering,
    ),
    _node(
        "meshvisor_slot_received_bytes_total", "Bytes that came over the worker's links.", lambda n: n.totals.bytes_in
    ),
    _node("meshvisor_slot_sent_bytes_total", "Bytes that went over the worker's links.", lambda n: n.totals.bytes_out),
    _node(
        "meshvisor_slot_call_frames_received_total",
        "Requests, replies and cancels of calls that the worker has received.",
        lambda node: node.totals.calls_in,
    ),
    _node(
        "meshvisor_slot_call_frames_sent_total",
        "Requests, replies and cancels of calls that the worker has sent.",
        lambda node: node.totals.calls_out,
    ),
    _node(
        "meshvisor_slot_reconnects_total",
        "How often links of the worker got another connection after they had lost one.",
        lambda node: node.totals.reconnects,
    ),
    _link("meshvisor_link_up", "1 if this end of the link is up, else 0.", lambda link: float(link.state in UP)),
    _link(
        "meshvisor_link_round_trip_seconds",
        "Round trip of the link: of its pings, or within one machine of the handshake.",
        lambda link: link.srtt,
    ),
    _link(
        "meshvisor_link_reconnects_total",
        "How often the link got another connection after it had lost one.",
        lambda link: link.reconnects,
    ),
    _link("meshvisor_link_received_bytes_total", "Bytes that came over the link.", lambda link: link.bytes_in),
    _link("meshvisor_link_sent_bytes_total", "Bytes that went over the link.", lambda link: link.bytes_out),
    _link("meshvisor_link_messages_received_total", "Messages that came over the link.", lambda link: link.messages_in),
    _link("meshvisor_link_messages_sent_total", "Messages that went over the link.", lambda link: link.messages_out),
    _link(
        "meshvisor_link_unacknowledged_messages",
        "Messages and frames of calls that wait for their acknowledgement.",
        lambda link: link.replay_depth,
    ),
    Family("meshvisor_blacklist_entries", ("severity",), "Endpoints that nobody dials now.", _entries),
    _barred(
        "meshvisor_blacklist_capacity_entries", "Entries that fit into the blacklist.", lambda table: table.capacity
    ),
    _barred(
        "meshvisor_blacklist_evictions_total",
        "Entries that a full blacklist has lost before their time.",
        lambda table: table.evictions,
    ),
    _barred(
        "meshvisor_blacklist_refused_updates_total",
        "Updates by the supervisor that the blacklist's lock has not let through.",
        lambda table: table.refused,
    ),
)
