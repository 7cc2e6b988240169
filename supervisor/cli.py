"""The ``supervise`` command.

Exit status: 0 done, 1 failed, 2 usage or configuration, 3 restart limit exceeded, 4 no such mesh running. A command is
imported when it is named: ``status`` must not wait for the supervisor's half of the package.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

import click

FAILED, USAGE, NOT_RUNNING = 1, 2, 4
INTERRUPTED = 130

# In the order of `supervise --help`, each with the module of ``commands`` that it is in.
COMMANDS = {
    "run": "lifetime",
    "check": "lifetime",
    "init": "lifetime",
    "status": "look",
    "top": "look",
    "start": "change",
    "stop": "change",
    "restart": "change",
    "scale": "change",
    "reload": "change",
    "logs": "history",
    "events": "events",
    "why": "history",
    "mesh": "mesh",
    "metrics": "metrics",
    "blacklist": "blacklist",
    "shutdown": "lifetime",
    "completion": "completion",
}


class _Commands(click.Group):
    """The commands, each found in its module when it is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f".commands.{COMMANDS[name]}", __package__)
        command: click.Command = getattr(module, name)
        return command

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; of one that there is not, say what was most likely meant: click knows none of ours."""
        name = arguments[0]
        if name in COMMANDS or name.startswith("-") or context.resilient_parsing:
            return super().resolve_command(context, arguments)
        from ..shared.config.report import closest

        hint = closest(name, COMMANDS)
        context.fail(f"No such command {name!r}" + (f' (did you mean "{hint}"?)' if hint else ""))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="meshvisor", message="meshvisor %(version)s")
def supervise() -> None:
    """Run a mesh of supervised processes, and look after it."""


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
    elif isinstance(error, OSError):  # no room for a file, no descriptor left: the system's business, not a mistake
        text, code = str(error), FAILED
    else:
        raise error
    if as_json:
        click.echo(json.dumps({"error": text, "code": code}))
        return code
    from .cells import clean

    text = "\n".join(map(clean, text.split("\n")))  # in it may be what a worker, or whoever was dialled, has said
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
