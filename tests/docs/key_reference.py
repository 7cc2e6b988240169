"""The keys of ``mesh.toml`` as tables: from the schema that the loader reads files by, and the rules of a reload."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from meshvisor.shared.config import schema, values
from meshvisor.shared.config.lines import LineIndex
from meshvisor.shared.config.report import Report, Unfit, Where
from meshvisor.shared.config.schema import CLASS_ONLY, COMMAND_ONLY, REQUIRED, Key, Keys
from meshvisor.shared.config.values import Parser
from meshvisor.supervisor.changes import FIXED, POLICY

_NEVER_FIT = datetime.date(2000, 1, 1)  # no key takes a date: what a parser says to one tells what it does take

# In a table there is no room for the examples that a message gives.
_SHORT: dict[Parser[Any], str] = {
    values.duration: "duration",
    values.positive_duration: "duration, more than 0",
    values.duration_or_off: 'duration, more than 0, or `"off"`',
    values.size: "size",
    values.path: "path",
    values.directory: "path of a folder",
    values.secret_file: "path of a file",
    values.text: "string",
    values.user: "name of a user",
    values.host: "address or host name",
    values.class_path: '`"module:Class"`',
    values.host_and_port: '`"HOST:PORT"`',
    values.http_url: '`"http://HOST:PORT/PATH"`',
    values.octal_mask: "octal digits, as a string",
    values.stop_signal: 'name such as `"SIGTERM"`',
    values.command: "array of strings",
}
_TABLES = {"backoff", "ready", "health", "log"}


def key_table(section: str, keys: Keys) -> str:
    """Return the table of one section's keys: type, default, what a reload does, meaning."""
    in_worker = section in _TABLES
    head = ["key", "type", "default", *([] if in_worker else ["at a reload"]), ""]
    rows = [head, ["---"] * len(head)]
    for key in keys:
        reload = [] if in_worker else [at_reload(section, key.name)]
        rows.append([f"`{key.name}`", type_of(key), default_of(key), *reload, meaning(section, key)])
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows) + "\n"


def type_of(key: Key) -> str:
    """Return what a key takes, in the words of its own parser."""
    if key.parse in _SHORT:
        return _SHORT[key.parse]
    if key.name in _TABLES:
        return f"[table](#{key.name})"
    try:
        key.parse(_NEVER_FIT, Where(Report(LineIndex("")), Path("/")))
    except Unfit as fault:
        words = fault.message.partition(", not ")[0]
        for start in ("must be a ", "must be an ", "must be ", "can only be "):
            if words.startswith(start):
                return words.removeprefix(start)
    raise AssertionError(f"the parser of {key.name} does not tell what it takes")


def default_of(key: Key) -> str:
    """Return a key's default as one would write it in the file."""
    if key.default is REQUIRED:
        return "required"
    if key.default is None:
        return ""
    return f"`{json.dumps(key.default)}`"


def meaning(section: str, key: Key) -> str:
    """Return what a key is for, and whose it is."""
    only = ""
    if section == "worker" and key.name in CLASS_ONLY:
        only = " (With a class.)"
    elif section == "worker" and key.name in COMMAND_ONLY:
        only = " (With a command.)"
    return key.text + only


def at_reload(section: str, key: str) -> str:
    """Return what a reload does when a key has changed."""
    if key in FIXED.get(section, ()):
        return "refused"
    match section, key:
        case "worker", "replicas":
            return "slots come or go"
        case "worker", _:
            return "counts at once" if key in POLICY else "**new processes**"
        case "mesh", _:
            return "**new processes** of all classes"
        case _:
            return "counts at once"


def keys_of_all_sections() -> list[tuple[str, Key]]:
    """Return every key that there is, with its section."""
    sections = {"mesh": schema.MESH, "supervisor": schema.SUPERVISOR, "worker": schema.WORKER}
    return [(section, key) for section, keys in sections.items() for key in keys]
