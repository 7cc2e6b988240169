"""What changes a running mesh: ``start``, ``stop``, ``restart``, ``scale`` and ``reload``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from .options import client_of, json_option, located, mesh_options, slot_names, wait_option, worker_names

if TYPE_CHECKING:
    from pathlib import Path

    from ...shared.control.requests import Difference, Done, Step
    from ..client import Client

_names = click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=slot_names)


@click.command()
@_names
@mesh_options
@wait_option
@json_option
def start(names: tuple[str, ...], file: str | None, name: str | None, wait: bool, as_json: bool) -> None:
    """Start slots, or all of a worker.

    A NAME is a slot, or else a worker. What is up stays up. What starts runs the code on disk. Done when all are ready.
    """
    with client_of(file, name) as client, _going_on("start", wait=wait):
        done = client.start(*names, wait=wait, told=_teller(as_json))
        _tell(client, done, f"starting {', '.join(names)}", as_json=as_json)


@click.command()
@_names
@mesh_options
@wait_option
@json_option
def stop(names: tuple[str, ...], file: str | None, name: str | None, wait: bool, as_json: bool) -> None:
    """Stop slots, or all of a worker.

    A NAME is a slot, or else a worker. They stay down until they are started. Done when all are down.
    """
    with client_of(file, name) as client, _going_on("stop", wait=wait):
        done = client.stop(*names, wait=wait, told=_teller(as_json))
        _tell(client, done, f"stopping {', '.join(names)}", as_json=as_json)


@click.command()
@_names
@click.option("--at-once", is_flag=True, help="All slots of a NAME at the same time.")
@mesh_options
@wait_option
@json_option
def restart(
    names: tuple[str, ...], at_once: bool, file: str | None, name: str | None, wait: bool, as_json: bool
) -> None:
    """Restart slots, or all of a worker.

    A NAME is a slot, or else a worker. They restart one after the other, with the code on disk; if one does not become
    ready with it, it goes back to the code before, and those after it are left as they are. Done when all are ready.
    """
    with client_of(file, name) as client, _going_on("restart", wait=wait):
        done = client.restart(*names, at_once=at_once, wait=wait, told=_teller(as_json))
        _tell(client, done, f"restarting {', '.join(names)}", as_json=as_json)


@click.command()
@click.argument("replicas", metavar="NAME N | NAME=N...", nargs=-1, required=True, shell_complete=worker_names)
@mesh_options
@wait_option
@json_option
def scale(replicas: tuple[str, ...], file: str | None, name: str | None, wait: bool, as_json: bool) -> None:
    """Have N slots for the worker NAME.

    Those with the highest numbers go first. It lasts until a reload that changes the worker's replicas, or the end of
    the run.
    """
    wanted = _replicas(replicas)
    with client_of(file, name) as client, _going_on("scaling", wait=wait):
        before = {worker: len(slots) for worker, slots in client.names().items()}
        done = client.scale(wanted, wait=wait, told=_teller(as_json))
        if as_json:
            _tell(client, done, "", as_json=True, replicas=wanted)
            return
        for worker, number in wanted.items():
            click.echo(_scaled(worker, before.get(worker, 0), number, is_done=done is not None))


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what it would change; status 1 if it would be refused.")
@mesh_options
@wait_option
@json_option
def reload(dry_run: bool, file: str | None, name: str | None, wait: bool, as_json: bool) -> int:
    """Go over to what the mesh's file says now.

    Changed rules count from now on. Other changes restart the processes that they concern, one after the other; if one
    does not become ready, all of them go back. A file with faults changes nothing (status 2). SIGHUP does the same.
    """
    with client_of(file, name) as client, _own_file(file, name), _going_on("reload", wait=wait):
        if dry_run:
            return _dry_run(client, as_json=as_json)
        changes: list[Difference] = []

        def found(difference: Difference) -> None:
            changes.append(difference)
            if not as_json and not difference.is_empty:
                _show(difference)

        done = client.reload(wait=wait, told=_teller(as_json), found=found)
        if as_json:
            _tell(client, done, "", as_json=True, changes=_as_json(changes[0]))
        elif done is None:
            click.echo("reloading")
        elif changes[0].is_empty:
            _show(changes[0])
        else:
            click.echo(f"reloaded in {_duration(done.seconds)}")
    return 0


def _dry_run(client: Client, *, as_json: bool) -> int:
    found = client.difference()
    if as_json:
        click.echo(json.dumps(_as_json(found)))
    else:
        _show(found)
    return 1 if found.refused else 0


# Telling.


def _teller(as_json: bool) -> Callable[[Step], None] | None:
    """Return what tells each step as it is made."""
    from ..outcome import sentence

    return None if as_json else lambda step: click.echo(sentence(step))


def _tell(client: Client, done: Done | None, begun: str, *, as_json: bool, **facts: Any) -> None:
    """Tell how it has ended, or that it has ``begun``."""
    from ..outcome import slots, unchanged

    if as_json:
        steps = [
            {"slot": step.slot, "state": step.state, "incarnation": step.incarnation, "seconds": step.seconds}
            for step in (done.steps if done else ())
        ]
        outcome = {"slots": steps, "seconds": done.seconds} if done else {}
        click.echo(json.dumps({"mesh": client.name, **facts, **outcome}))
    elif done is None:
        click.echo(begun)
    else:
        for line in unchanged(done.steps):
            click.echo(line)
        if sum(step.seconds is not None for step in done.steps) > 1:
            click.echo(f"{slots(len(done.steps))} in {_duration(done.seconds)}")


def _scaled(worker: str, before: int, number: int, *, is_done: bool) -> str:
    from ..outcome import slots

    if before == number:
        return f"{worker} has {slots(number)} already"
    return f"{worker} has {slots(number)} (had {before})" if is_done else f"scaling {worker} to {slots(number)}"


def _show(found: Difference) -> None:
    from ..outcome import differences
    from ..style import wants_colour

    lines = differences(found, colour=wants_colour(sys.stdout.isatty()))
    click.echo("\n".join(lines) if lines else f"nothing has changed in {found.file}", color=True)


def _as_json(found: Difference) -> dict[str, Any]:
    import msgspec

    facts: dict[str, Any] = msgspec.to_builtins(found)
    del facts["type"]
    return facts


def _duration(seconds: float) -> str:
    from ..event import duration

    return duration(seconds)


@contextmanager
def _going_on(what: str, *, wait: bool) -> Iterator[None]:
    """Say, if the user does not wait for the end, that this is not the end."""
    try:
        yield
    except KeyboardInterrupt:
        if not wait:
            raise
        click.echo(f"\nsupervise: the {what} goes on without being waited for", err=True)  # below the terminal's ^C
        raise click.Abort from None


# Understanding.


def _replicas(words: tuple[str, ...]) -> dict[str, int]:
    """Return the numbers that were asked for, by worker."""
    if len(words) == 2 and "=" not in words[0]:
        words = ("=".join(words),)
    wanted: dict[str, int] = {}
    for word in words:
        name, is_given, number = word.partition("=")
        if not is_given or not name:
            raise click.UsageError(f"{word!r} is not NAME=N", click.get_current_context())
        if not (number.isascii() and number.isdigit() and int(number[:5]) <= 1000):
            text = f"the number of slots of {name} must be from 0 to 1000, not {number!r}"
            raise click.UsageError(text, click.get_current_context())
        if name in wanted:
            raise click.UsageError(f"{name} is named twice", click.get_current_context())
        wanted[name] = int(number)
    return wanted


@contextmanager
def _own_file(file: str | None, name: str | None) -> Iterator[None]:
    """Name the file of a reload, in its faults, as the user does; another than that of the mesh is a mistake."""
    from ...shared.errors import ConfigError
    from ..directory import running_file

    base, mesh, given = located(file, name)
    own = running_file(base, mesh)
    if given is not None and own is not None and not _is_same(own, given):
        text = f"the mesh {mesh!r} runs by {own}, which is what it reloads, and not by {given}"
        raise click.UsageError(text, click.get_current_context())
    try:
        yield
    except ConfigError as error:
        raise ConfigError(str(given or error.file), error.faults) from None


def _is_same(own: Path, given: Path) -> bool:
    try:
        return own.samefile(given)
    except OSError:  # it has been removed: then that is what the supervisor has to say
        return True
