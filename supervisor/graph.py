"""The links of a mesh as a graph for Graphviz: its nodes in a circle. Pure: facts in, text out."""

from __future__ import annotations

import math

from .event import duration
from .links import Condition, Pair, Pairs
from .snapshot import Answer, MeshLinks, NodeLinks

_SPACING = 1.1  # inches from one node of the circle to the next

_LINES = {
    Condition.UP: 'color="#2e8b57"',
    Condition.MENDING: 'color="#d08700", style=dashed',
    Condition.COMING: 'color="#d08700", style=dotted',
    Condition.MISSING: 'color="#c0392b", style=dotted',
    Condition.UNKNOWN: 'color="#888888", style=dotted',
}
_FILLS = {Answer.FRESH: "#e8f5ee", Answer.SILENT: "#fdf0d5", Answer.ABSENT: "#f3f3f3"}


def dot(links: MeshLinks) -> str:
    """Return ``links`` in the DOT language: a node for each worker, and an edge for each link that there is to be.

    The more an edge carries the thicker it is; its tooltip (in SVG) says more. Every node is pinned to its place, since
    a layout that is searched for takes half a minute when a hundred nodes are linked with all others.
    """
    count = len(links.nodes)
    radius = _SPACING / (2 * math.sin(math.pi / count)) if count > 1 else 0.0
    places = [(math.sin(turn) * radius, math.cos(turn) * radius) for turn in _turns(count)]
    lines = [
        f"graph {_quoted(links.mesh)} {{",
        "  graph [layout=neato, outputorder=edgesfirst];",
        '  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=11];',
        *(f"  {_node(node, *place)};" for node, place in zip(links.nodes, places, strict=True)),
        *(f"  {_edge(pair)};" for pair in Pairs(links).values() if pair.condition is not Condition.NONE),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _turns(count: int) -> list[float]:
    return [2 * math.pi * number / count for number in range(count)]


def _node(node: NodeLinks, x: float, y: float) -> str:
    label = node.name if node.answer is Answer.FRESH else f"{node.name}\n{node.state}"
    tooltip = f"{node.name} is {node.state}, incarnation {node.incarnation}, process {node.pid or '-'}"
    fill = _FILLS[node.answer]
    texts = f"label={_quoted(label)}, tooltip={_quoted(tooltip)}"
    return f'{_quoted(node.name)} [{texts}, fillcolor="{fill}", pos="{x:.3f},{y:.3f}!"]'


def _edge(pair: Pair) -> str:
    sent, received = pair.sent(pair.one), pair.sent(pair.other)
    width = 0.6 + 0.4 * math.log10(1 + sent + received)
    attributes = f"{_LINES[pair.condition]}, penwidth={width:.2f}, tooltip={_quoted(_tooltip(pair, sent, received))}"
    return f"{_quoted(pair.one)} -- {_quoted(pair.other)} [{attributes}]"


def _tooltip(pair: Pair, sent: int, received: int) -> str:
    end = pair.worst
    parts = [f"{pair.one} and {pair.other}: {pair.condition}" + ("" if end is None else f" for {duration(end.age)}")]
    if pair.condition is Condition.UP:
        parts.append(f"{sent} messages and calls there, {received} back")
    elif end is not None and end.failure:
        parts.append(end.failure)
    return ", ".join(parts)


def _quoted(text: str) -> str:
    """Return ``text`` as a string of DOT; its newlines are those of labels."""
    printable = "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
