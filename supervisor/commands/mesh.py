"""The links of a mesh: ``mesh``."""

from __future__ import annotations

import shutil
import sys

import click

from .options import client_of, json_option, mesh_options


@click.command()
@mesh_options
@json_option
@click.option("--dot", "as_dot", is_flag=True, help="Answer as a graph for Graphviz: supervise mesh --dot | dot -Tsvg")
@click.option(
    "--show",
    type=click.Choice(["traffic", "rtt"]),
    help="What the cells show (default: rtt where pings measure it, else traffic).",
)
def mesh(file: str | None, name: str | None, as_json: bool, as_dot: bool, show: str | None) -> None:
    """Show the links between all workers: a row and a column for each, or for several, as there is room.

    A cell is one link. While it is up, it shows how much the worker of the row has sent to that of the column
    (traffic), or how long the link takes there and back (rtt). Within one machine links are not pinged, because the
    liveness board tells who is well: there the round trip is that of the handshake, when the link was made. Links that
    are not up are named beneath, each with the reason.
    """
    from ..graph import dot
    from ..links import to_json
    from ..matrix import Canvas
    from ..overview import render
    from ..scales import Measure
    from ..style import wants_colour

    if as_json and as_dot:
        raise click.UsageError("--json and --dot are two answers; ask for one of them", click.get_current_context())
    with client_of(file, name) as client:
        links = client.links()
    if as_json:
        click.echo(to_json(links).decode())
    elif as_dot:
        click.echo(dot(links), nl=False)
    else:
        is_terminal, size = sys.stdout.isatty(), shutil.get_terminal_size()
        height = size.lines if is_terminal else None
        canvas = Canvas(size.columns, height, wants_colour(is_terminal), _has_unicode())
        click.echo(render(links, canvas, Measure(show) if show else None), nl=False, color=True)


def _has_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
