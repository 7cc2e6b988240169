"""The life of a mesh: ``init``, ``check``, ``run`` and ``shutdown``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from .options import USAGE, client_of, json_option, mesh_options


@click.command()
@click.argument("file", type=click.Path(), default="mesh.toml")
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", help="One JSON object a line, or text."
)
@click.option("--watch", is_flag=True, help="Restart the workers whose source files change, and reload FILE.")
def run(file: str, log_format: str, watch: bool) -> int:
    """Run the mesh of FILE (default: mesh.toml) in the foreground.

    The first Ctrl-C stops it cleanly, the second at once.
    """
    from ...shared.config import load_config
    from ..foreground import run as run_in_foreground

    return run_in_foreground(load_config(file), as_json=log_format == "json", watch=watch)


@click.command()
@click.argument("file", type=click.Path(), default="mesh.toml")
@json_option
def check(file: str, as_json: bool) -> int:
    """Check FILE (default: mesh.toml), its worker classes included, and start nothing."""
    from ...shared.errors import ConfigError
    from ..check import check as check_file

    try:
        config, warnings = check_file(file)
    except ConfigError as error:
        if not as_json:
            raise
        click.echo(json.dumps([asdict(fault) for fault in error.faults]))
        return USAGE
    for warning in warnings:
        click.echo(f"{file}:{warning.line}: {warning}", err=True)
    if as_json:
        click.echo("[]")
        return 0
    slots = sum(worker.replicas for worker in config.workers)
    workers = f"{len(config.workers)} worker{'s' * (len(config.workers) != 1)}"
    click.echo(f"{file} is fine: {workers} in {slots} slot{'s' * (slots != 1)}, mesh {config.mesh.name}")
    return 0


@click.command()
@click.argument("target", metavar="[FOLDER|FILE]", default="mesh.toml")
def init(target: str) -> None:
    """Write a mesh.toml and a worker to begin with; never over anything that is there."""
    import shlex

    from ..init import write_example

    mesh, worker = write_example(Path(target))
    click.echo(f"wrote {mesh} and {worker}; now: supervise run {shlex.quote(str(mesh))}")


@click.command()
@mesh_options
@click.option("--no-wait", is_flag=True, help="Return as soon as the stop has begun.")
@json_option
def shutdown(file: str | None, name: str | None, no_wait: bool, as_json: bool) -> None:
    """Stop a running mesh cleanly, and wait until it is over."""
    with client_of(file, name) as client:
        client.shutdown()
        if not no_wait:
            client.wait_until_over()
        text = "is stopping" if no_wait else "has stopped"
        click.echo(json.dumps({"mesh": client.name}) if as_json else f"the mesh {client.name} {text}")
