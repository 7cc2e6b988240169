"""What is measured of a mesh: ``metrics``."""

from __future__ import annotations

import click

from .options import client_of, json_option, mesh_options


@click.command()
@mesh_options
@json_option
@click.option("--links", is_flag=True, help="With those of each link, too.")
def metrics(file: str | None, name: str | None, as_json: bool, links: bool) -> None:
    """Print the metrics of a mesh once, as Prometheus reads them, each with what it says.

    The same is served at /metrics (with --links: /metrics?links=each) where mesh.toml says so: [supervisor] metrics =
    "127.0.0.1:9464".
    """
    from ..links import to_json

    with client_of(file, name) as client:
        figures = client.figures(each=links)
    if as_json:
        click.echo(to_json(figures).decode())
        return
    from ..exposition import pieces

    click.echo(b"".join(pieces(figures)).decode(), nl=False)
