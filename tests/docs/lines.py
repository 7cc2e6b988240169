"""The command lines that pages show: understood as ``supervise`` would, without doing anything."""

from __future__ import annotations

import importlib.util
import re
import shlex

import click
from tests.docs.blocks import ROOT

from meshvisor.supervisor.cli import supervise

_END = re.compile(r"\s(?:\||>|&&|;)\s.*|\s&$", re.DOTALL)
_NOT_TEXT = re.compile(r"```.*?```|<!-- generated.*?<!-- end -->", re.DOTALL)
_INLINE = re.compile(r"`(?:\.venv/bin/)?((?:supervise|python3? -m) [^`]+)`")


def inline(text: str) -> list[str]:
    """Return the command lines within the running text of a page."""
    return [" ".join(line.split()) for line in _INLINE.findall(_NOT_TEXT.sub("", text))]


def check_command(line: str) -> None:
    """Raise if a command line of ours cannot be given like that, or names a file that there is not."""
    words = shlex.split(_END.sub("", line), comments=True)
    program, *arguments = words
    match program.removeprefix(".venv/bin/"), arguments:
        case "supervise", _:
            _parse(arguments)
        case "python" | "python3", ["-m", module, *_]:
            assert importlib.util.find_spec(module) is not None, f"there is no module {module}"
        case "python" | "python3", [file, *_]:
            assert (ROOT / file).is_file(), f"there is no file {file}"
        case _:
            raise AssertionError(f"nobody knows what {program} is")
    for word in arguments:
        if word.startswith("examples/"):
            assert (ROOT / word).exists(), f"there is no {word}"


def _parse(words: list[str]) -> None:
    command: click.Command = supervise
    context = click.Context(supervise, info_name="supervise")
    while isinstance(command, click.Group):
        assert words, "a command is missing"
        name, *words = words
        inner = command.get_command(context, name)
        assert inner is not None, f"there is no command {name}"
        if {"-h", "--help"} & set(words):
            return
        command, context = inner, click.Context(inner, info_name=name, parent=context)
    command.make_context(context.info_name, words)
