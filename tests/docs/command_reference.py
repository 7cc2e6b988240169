"""The commands of ``supervise`` as text: from the very objects that parse its command lines."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from meshvisor.supervisor.cli import COMMANDS, supervise

# What an exit status means, for all commands; and for each what it can end with, beside 2 for a wrong command line.
_STATUSES = {
    0: "done",
    1: "failed; the reason is on stderr",
    2: "the command line or mesh.toml is wrong, or there is no slot of that name; nothing was done",
    3: "`run`: the mesh had more incidents than `max_restarts` allows, and has stopped",
    4: "no such mesh runs",
    130: "interrupted by Ctrl-C",
}
_ASKING = {0: "answered", 4: "no such mesh runs"}
_CHANGING = {
    0: "done, or with `--no-wait`: begun",
    1: "a slot missed its goal: the reason is told, and the rest left as it is",
    2: "there is no such slot or worker",
    4: "no such mesh runs",
}
EXITS: dict[str, dict[int, str]] = {
    "run": {
        0: "it was stopped as asked, or ended well",
        1: "something ended badly and is not restarted; a second Ctrl-C; or the mesh runs already",
        2: "mesh.toml has faults; nothing was started",
        3: "restart limit exceeded",
    },
    "check": {0: "right (there may be warnings)", 2: "it has faults"},
    "init": {0: "written", 1: "something of that name is there, or it cannot be written"},
    "status": _ASKING,
    "top": _ASKING,
    "start": _CHANGING,
    "stop": _CHANGING,
    "restart": _CHANGING,
    "scale": _CHANGING,
    "reload": {
        0: "done, or with `--no-wait`: begun; with `--dry-run`: it would be accepted",
        1: "refused, or a slot missed its goal and everything is as it was",
        2: "mesh.toml has faults; nothing has changed",
        4: "no such mesh runs",
    },
    "logs": {0: "shown", 2: "there is no such slot or worker", 4: "by `--name`: no such mesh runs"},
    "events": _ASKING,
    "why": {0: "told", 2: "there is no such slot", 4: "with `--now`, or by `--name`: no such mesh runs"},
    "mesh": _ASKING,
    "metrics": _ASKING,
    "blacklist list": _ASKING,
    "blacklist add": {0: "done", 1: "the table could not be written", 2: "KEY is no endpoint", 4: "no such mesh runs"},
    "blacklist clear": {
        0: "done",
        1: "the table could not be written",
        2: "KEY is no endpoint",
        4: "no such mesh runs",
    },
    "shutdown": {0: "it has stopped, or with `--no-wait`: it is stopping", 4: "no such mesh runs"},
    "completion": {0: "printed"},
}


def exits() -> str:
    """Return the table of what exit statuses mean."""
    rows = "".join(f"| {code} | {text} |\n" for code, text in _STATUSES.items())
    return f"| status | |\n| --: | --- |\n{rows}"


def reference() -> str:
    """Return a chapter for each command: how it is written, what it does, its options and exit statuses."""
    return "\n".join(_chapter(name, command, context) for name, command, context in all_commands())


def all_commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield every command that does something, by its full name, in the order of ``supervise --help``."""
    root = click.Context(supervise, info_name="supervise")
    for name in COMMANDS:
        command = supervise.get_command(root, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=root)
        if isinstance(command, click.Group):
            for inner, one in command.commands.items():
                yield f"{name} {inner}", one, click.Context(one, info_name=inner, parent=context)
        else:
            yield name, command, context


def _chapter(name: str, command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    options = [one.get_help_record(context) or ("", "") for one in command.params if isinstance(one, click.Option)]
    rows = "".join(f"| `{_cell(flags)}` | {_cell(meaning)} |\n" for flags, meaning in options)
    table = f"\n| option | |\n| --- | --- |\n{rows}" if rows else ""
    ends = ". ".join(f"{code}: {meaning}" for code, meaning in EXITS[name].items())
    return f"### {name}\n\n`{usage}`\n\n{_escaped(text)}\n{table}\nExit status {ends}.\n"


def _escaped(text: str) -> str:
    """Return help as Markdown: an indented or aligned paragraph is shown as it is."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(_aligned(one) if ":  " in one else one for one in paragraphs)


def _aligned(paragraph: str) -> str:
    return "\n".join(f"    {line}" for line in paragraph.splitlines())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
