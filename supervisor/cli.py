"""The ``supervise`` command.

Exit status: 0 done, 1 failed, 2 usage or configuration, 3 restart limit exceeded, 4 no such mesh running. What a
command needs is imported when it runs: ``status`` must not wait for the supervisor's half of the package.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ..shared.memory.blacklist import SharedBlacklist
    from .client import Client

FAILED, USAGE, NOT_RUNNING = 1, 2, 4
INTERRUPTED = 130

F = TypeVar("F", bound=Callable[..., Any])

_json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


def _mesh_options(command: F) -> F:
    file = click.option("-f", "--file", metavar="FILE", help="The mesh of this file (default: ./mesh.toml).")
    name = click.option("--name", metavar="NAME", help="The mesh of this name.")
    return file(name(command))


def _endpoint(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return the key of the endpoint that was named."""
    from ..shared.core.endpoint import Endpoint
    from ..shared.core.penalties import MAX_KEY

    if value is None:
        return None
    try:
        key = Endpoint.parse(value).key
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None
    if len(key.encode()) > MAX_KEY:
        raise click.BadParameter(f"{key!r} is longer than {MAX_KEY} bytes", context, parameter)
    return key


def _duration(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """Return the seconds that were named, as in mesh.toml."""
    from ..shared.config.values import seconds

    try:
        return seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="meshvisor", message="meshvisor %(version)s")
def supervise() -> None:
    """Run a mesh of supervised processes, and look after it."""


@supervise.command()
@click.argument("file", default="mesh.toml")
def run(file: str) -> int:
    """Run the mesh of FILE (default: mesh.toml) in the foreground.

    The first Ctrl-C stops it cleanly, the second at once.
    """
    from ..shared.config import load_config
    from .foreground import run as run_in_foreground

    return run_in_foreground(load_config(file))


@supervise.command()
@click.argument("file", default="mesh.toml")
@_json_option
def check(file: str, as_json: bool) -> int:
    """Check FILE (default: mesh.toml), its worker classes included, and start nothing."""
    from ..shared.errors import ConfigError
    from .check import check as check_file

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


@supervise.command()
@click.argument("target", metavar="[FOLDER|FILE]", default="mesh.toml")
def init(target: str) -> None:
    """Write a mesh.toml and a worker to begin with; never over anything that is there."""
    import shlex

    from .init import write_example

    mesh, worker = write_example(Path(target))
    click.echo(f"wrote {mesh} and {worker}; now: supervise run {shlex.quote(str(mesh))}")


@supervise.command()
@_mesh_options
@_json_option
def status(file: str | None, name: str | None, as_json: bool) -> None:
    """Show how a running mesh is."""
    import time

    import msgspec

    from .status import render
    from .style import wants_colour

    with _client(file, name) as client:
        found = client.status()
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        click.echo(render(found, time.time(), colour=wants_colour(sys.stdout.isatty())), nl=False, color=True)


@supervise.command()
@_mesh_options
@click.option("--no-wait", is_flag=True, help="Return as soon as the stop has begun.")
@_json_option
def shutdown(file: str | None, name: str | None, no_wait: bool, as_json: bool) -> None:
    """Stop a running mesh cleanly, and wait until it is over."""
    with _client(file, name) as client:
        client.shutdown()
        if not no_wait:
            client.wait_until_over()
        text = "is stopping" if no_wait else "has stopped"
        click.echo(json.dumps({"mesh": client.name}) if as_json else f"the mesh {client.name} {text}")


@supervise.command()
@click.argument("slot", required=False)
@_mesh_options
@click.option("--now", is_flag=True, help="Show instead where the threads of SLOT are at this moment.")
@_json_option
def why(slot: str | None, file: str | None, name: str | None, now: bool, as_json: bool) -> None:
    """Tell the latest incident (of SLOT), also when nothing runs any more."""
    from .style import wants_colour
    from .why import Past, trace

    if now and slot is None:
        raise click.UsageError("--now needs a slot", click.get_current_context())
    if now and slot is not None:
        with _client(file, name) as client:
            click.echo(trace(client, slot, as_json=as_json), nl=False)
        return
    past = Past.of_mesh(*_located(file, name))
    if as_json:
        click.echo(past.latest_json(slot))
    else:
        click.echo(past.story(slot, colour=wants_colour(sys.stdout.isatty())), nl=False, color=True)


@supervise.group()
def blacklist() -> None:
    """See which endpoints are barred, and bar or free one."""


@blacklist.command(name="list")
@_mesh_options
@_json_option
def blacklist_list(file: str | None, name: str | None, as_json: bool) -> None:
    """Show which endpoints are barred for everybody, and for how long."""
    import msgspec

    from .blacklist import penalties
    from .style import wants_colour

    with _blacklist(file, name) as table:
        found = sorted(table.active(), key=lambda penalty: penalty.remaining)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    elif found:
        click.echo("\n".join(penalties(found, colour=wants_colour(sys.stdout.isatty()))), color=True)
    else:
        click.echo("no endpoint is barred")


@blacklist.command(name="add")
@click.argument("key", callback=_endpoint)
@click.option("--duration", default="10s", callback=_duration, help="For how long, at most 5m (default: 10s).")
@click.option("--severity", type=click.Choice(["soft", "hard", "fatal"]), default="hard", help="Default: hard.")
@_mesh_options
@_json_option
def blacklist_add(key: str, duration: float, severity: str, file: str | None, name: str | None, as_json: bool) -> None:
    """Bar the endpoint KEY (such as tcp:127.0.0.1:4500) for everybody; a longer or worse penalty stays as it is."""
    import msgspec

    from ..shared.core.penalties import FailureSeverity
    from .blacklist import bar
    from .event import duration as in_words

    with _blacklist(file, name) as table:
        penalty = bar(table, key, FailureSeverity(severity), duration)
    if as_json:
        click.echo(msgspec.json.encode(penalty).decode())
    else:
        click.echo(f"{key} is barred for {in_words(penalty.remaining)} ({penalty.severity})")


@blacklist.command(name="clear")
@click.argument("key", required=False, callback=_endpoint)
@_mesh_options
@_json_option
def blacklist_clear(key: str | None, file: str | None, name: str | None, as_json: bool) -> None:
    """Free the endpoint KEY, or all of them, for everybody; who waits for one dials it at once."""
    from .blacklist import lift

    with _blacklist(file, name) as table:
        freed = lift(table, key)
    if as_json:
        click.echo(json.dumps({"cleared": freed}))
    elif freed:
        click.echo("\n".join(f"{one} is free" for one in freed))
    else:
        click.echo("no endpoint was barred" if key is None else f"{key} was not barred")


def _client(file: str | None, name: str | None) -> Client:
    """Return a connection to the mesh that was named by its file or by its name."""
    from .client import Client

    base, name, _ = _located(file, name)
    return Client(base, name)


def _blacklist(file: str | None, name: str | None) -> SharedBlacklist:
    """Return the blacklist of the mesh that was named by its file or by its name."""
    from .attach import attach_blacklist

    base, name, _ = _located(file, name)
    return attach_blacklist(base, name, "operator")


def _located(file: str | None, name: str | None) -> tuple[Path, str, Path | None]:
    """Return where the mesh that was meant has its runtime directory, its name, and its file if that was given."""
    from ..shared.config import locate
    from ..shared.config.values import NAME, NAME_RULE
    from .directory import base_directory

    if name is None:
        file = file if file is not None else "mesh.toml"
        name, base = locate(file)
        return base_directory(base), name, Path(file)
    if file is not None:
        raise click.UsageError("-f and --name both say which mesh; give one of them", click.get_current_context())
    if not NAME.fullmatch(name):
        raise click.UsageError(f"the name of a mesh {NAME_RULE}", click.get_current_context())
    return base_directory(None), name, None


# Running a command, and saying what went wrong.


def main() -> None:
    """The entry point of ``supervise``."""
    if not sys.platform.startswith("linux"):
        sys.exit(f"meshvisor runs on Linux only; this is {sys.platform}")
    _open_missing_descriptors()
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: list[str]) -> int:
    """Run one command line and return its exit status; errors are told as the user asked for it."""
    try:
        status = supervise.main(arguments, prog_name="supervise", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return FAILED
    except Exception as error:
        return _report(error, as_json="--json" in arguments)


def _report(error: Exception, *, as_json: bool) -> int:
    """Tell the user about ``error`` and return the exit status for it."""
    from ..shared.errors import ConfigError, MeshError

    if isinstance(error, ConfigError):
        text, code = str(error), USAGE
    elif isinstance(error, click.ClickException):
        if not as_json:
            error.show()
            return error.exit_code
        text, code = error.format_message(), error.exit_code
    elif isinstance(error, MeshError):
        text, code = str(error), _code_of(error)
    else:
        raise error
    if as_json:
        click.echo(json.dumps({"error": text, "code": code}))
    else:
        click.echo(text if isinstance(error, ConfigError) else f"supervise: {text}", err=True)
    return code


def _code_of(error: Exception) -> int:
    from .directory import NotRunning
    from .naming import UnknownSlot

    if isinstance(error, UnknownSlot):
        return USAGE
    return NOT_RUNNING if isinstance(error, NotRunning) else FAILED


def _open_missing_descriptors() -> None:
    """Put /dev/null where standard input, output or error is closed: a file or socket must never take their numbers."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _forget_stdout() -> None:
    """Keep the interpreter from complaining at its end about an output that nobody reads any more."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
