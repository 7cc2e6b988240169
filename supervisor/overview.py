"""The links of a mesh as text: how many, the table, and what is not as it should be. Pure: facts in, text out."""

from __future__ import annotations

from textwrap import wrap

from .event import duration
from .links import Condition, Pair, Pairs, carried, is_over
from .matrix import Canvas, matrix
from .scales import Measure, scale_for
from .snapshot import Answer, MeshLinks, NodeLinks, WorkerState
from .status import memory
from .style import BOLD, paint

_MOST_SENTENCES = 12

_ABSENT = {WorkerState.BACKOFF: "waiting for its next start", WorkerState.READY: "just taking its place"}


def render(links: MeshLinks, canvas: Canvas, measure: Measure | None = None) -> str:
    """Return ``links`` for a person, ending with a newline; ``measure``: see ``scale_for``."""
    pairs = Pairs(links)
    lines = [paint(_headline(links, pairs), BOLD, on=canvas.colour)]
    if len(links.nodes) > 1:
        lines += [_carried(links), "", *matrix(links, pairs, scale_for(links, measure), canvas)]
    if said := sentences(links, pairs):
        lines += ["", *(line for one in said for line in wrap(one, canvas.width, subsequent_indent="  "))]
    return "\n".join(lines) + "\n"


def _headline(links: MeshLinks, pairs: Pairs) -> str:
    wanted = [pair for pair in pairs.values() if pair.condition is not Condition.NONE]
    up = sum(pair.condition is Condition.UP for pair in wanted)
    count = f"{len(wanted):,} link{'s' * (len(wanted) != 1)}"
    workers = f"{len(links.nodes)} worker{'s' * (len(links.nodes) != 1)}"
    state = f", {'all' if up == len(wanted) else f'{up:,} of them'} up" if wanted else ""
    return f"{links.mesh} has {count} between {workers}{state}"


def _carried(links: MeshLinks) -> str:
    """Return what the workers that are there now have sent so far."""
    total = carried(links)
    again = f", {total.reconnects:,} reconnects" if total.reconnects else ""
    if not total.messages_out and not total.calls_out:
        return f"nothing has been sent yet{again}"
    return (
        f"{total.messages_out:,} messages, {total.calls_out:,} calls and replies: {memory(total.bytes_out)} sent{again}"
    )


def sentences(links: MeshLinks, pairs: Pairs) -> list[str]:
    """Return what is not as it should be, one a line: workers first, then links."""
    said = [sentence for node in links.nodes if (sentence := _of_node(node))]
    said += [sentence for pair in pairs.values() if (sentence := _of_pair(pair))]
    left = len(said) - _MOST_SENTENCES
    return said if left <= 1 else [*said[:_MOST_SENTENCES], f"... and {left} more (--json has all)"]


def _of_node(node: NodeLinks) -> str:
    if is_over(node):
        return f"{node.name} is {node.state}"
    if node.answer is Answer.ABSENT:
        return f"{node.name} has no links: it is {_ABSENT.get(node.state, node.state)}"
    if node.answer is Answer.SILENT:
        behind = f" (its loop is {duration(node.lag)} behind)" if node.lag and node.lag >= 0.1 else ""
        return f"{node.name} does not answer{behind}; its links are as the others see them"
    return ""


def _of_pair(pair: Pair) -> str:
    end = pair.worst
    if end is None or pair.condition not in (Condition.MENDING, Condition.COMING):
        return ""
    names, reason = f"{pair.one} and {pair.other}", _printable(end.failure)
    if pair.condition is Condition.MENDING:
        why = f": {reason}" if reason else ""
        return f"{names} lost their connection {duration(end.age)} ago{why}"
    when = f" ({duration(end.failed)} ago)" if end.failed is not None else ""
    why = f": {reason}{when}" if reason else ""
    return f"{names} are not linked yet, {duration(end.age)} after they could be{why}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
