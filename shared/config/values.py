"""From TOML values to the values of the model: one small parser per kind.

A parser takes a value and its place and returns what the model wants; it raises ``Unfit`` when the value as a whole
cannot be that. What is wrong with a part of it (an item of an array, a key of a table) it reports itself, at the
part's own place, so that a file's faults are all found at once.
"""

from __future__ import annotations

import ipaddress
import json
import keyword
import math
import os
import pwd
import re
import shlex
import signal
import stat
from collections.abc import Callable, Collection
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .depth import MAX_DEPTH
from .names import NAME, NAME_RULE
from .report import Unfit, Where, closest

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
Parser = Callable[[object, Where], T]

LONGEST_DURATION = 365 * 86_400.0

_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION = re.compile(_NUMBER + r"\s*(ms|s|m|h)", re.ASCII)
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(_NUMBER + r"\s*([kKMGT]i?)?B", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_LONGEST_SHOWN = 60
_INT64 = range(-(2**63), 2**63)

# They would freeze a process, or do nothing to it.
_NOT_FOR_STOPPING = {"SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT", "SIGCHLD", "SIGCLD"}
SIGNALS = tuple(sorted({member.name for member in signal.Signals} - _NOT_FOR_STOPPING))


def show(value: object) -> str:
    """Return ``value`` as a person would recognise it from the file."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            cut = value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "…"
            return json.dumps(cut, ensure_ascii=not cut.isprintable())
        case int() if value.bit_length() > 4 * _LONGEST_SHOWN:
            return "a number that long"
        case int() | float():
            return str(value)
        case dict():
            return "a table"
        case list():
            return "an array"
        case _:
            return "a date or time"


# Plain values.


def text(value: object, where: Where) -> str:
    """A string without NUL, not empty."""
    if not isinstance(value, str) or not value:
        raise Unfit(f"must be a string that is not empty, not {show(value)}")
    if "\0" in value:
        raise Unfit("must not contain a NUL character")
    return value


def name(value: object, where: Where) -> str:
    """The name of a mesh."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise Unfit(f"{NAME_RULE}, not {show(value)}")
    return value


def boolean(value: object, where: Where) -> bool:
    """``true`` or ``false``."""
    if not isinstance(value, bool):
        raise Unfit(f"must be true or false, not {show(value)}")
    return value


def integer(low: int, high: int) -> Parser[int]:
    """A whole number between ``low`` and ``high``, both included."""

    def parse(value: object, where: Where) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Unfit(f"must be a whole number from {low} to {high}, not {show(value)}")
        return value

    return parse


def number(low: float, high: float) -> Parser[float]:
    """A number between ``low`` and ``high``, both included."""

    def parse(value: object, where: Where) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise Unfit(f"must be a number from {low:g} to {high:g}, not {show(value)}")
        return float(value)

    return parse


def one_of(kind: type[E]) -> Parser[E]:
    """One of the values of an enumeration."""
    *most, last = (show(str(member)) for member in kind)
    wanted = f"{', '.join(most)} or {last}"

    def parse(value: object, where: Where) -> E:
        if isinstance(value, str):
            if value in list(kind):
                return kind(value)
            raise Unfit(f"must be {wanted}, not {show(value)}", closest(value, kind))
        raise Unfit(f"must be {wanted}, not {show(value)}")

    return parse


# Quantities.


def duration(value: object, where: Where) -> float:
    """Seconds, 0 or more: a number of seconds, or a string with a unit."""
    seconds = _seconds(value)
    if not 0 <= seconds <= LONGEST_DURATION:
        raise Unfit(f"must be between 0 and {LONGEST_DURATION / 3600:.0f}h, not {show(value)}")
    return seconds


def positive_duration(value: object, where: Where) -> float:
    """Seconds, more than 0."""
    seconds = duration(value, where)
    if not seconds:
        raise Unfit(f"must be longer than 0, not {show(value)}")
    return seconds


def seconds(word: str) -> float:
    """Return the seconds, more than 0, that somebody wrote on a command line: ``2.5``, ``250ms``, ``5m``.

    Raises:
        ValueError: If it is not a duration.
    """
    word = word.strip()
    value: object = float(word) if re.fullmatch(_NUMBER, word, re.ASCII) else word
    found = _seconds(value)
    if not 0 < found <= LONGEST_DURATION:
        raise Unfit(f"must be longer than 0 and at most {LONGEST_DURATION / 3600:.0f}h, not {show(word)}")
    return found


def duration_or_off(value: object, where: Where) -> float | None:
    """Seconds, more than 0, or None for ``"off"``."""
    return None if value == "off" else positive_duration(value, where)


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        # A number beyond the floats is refused by its caller like any other that is too large.
        return float(value) if abs(value) < 1e300 or isinstance(value, float) else math.inf
    if isinstance(value, str):
        if match := _DURATION.fullmatch(value.strip()):
            return float(match[1]) * _DURATION_UNITS[match[2]]
        if re.fullmatch(_NUMBER, value, re.ASCII):
            raise Unfit(f"{show(value)} has no unit (ms, s, m, h)", f"{value}s")
    raise Unfit(f'must be a duration such as "250ms", "2s", "5m", "1h" or a number of seconds, not {show(value)}')


def size(value: object, where: Where) -> int:
    """Bytes, more than 0: a number of bytes, or a string with a unit (``KiB`` is 1024, ``kB`` is 1000)."""
    count: float = -1
    if isinstance(value, int) and not isinstance(value, bool):
        count = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        prefix = match[2] or ""
        base = 1024 if prefix.endswith("i") else 1000
        count = float(match[1]) * base ** (" KMGT".index(prefix[:1].upper() or " "))
    if not 1 <= count < 2**63:
        raise Unfit(f'must be a size such as "512MiB" or a number of bytes, not {show(value)}')
    return int(count)


# Names of things.


def class_path(value: object, where: Where) -> str:
    """``package.module:Class``; whether it exists is for the worker, or ``supervise check``, to find out."""
    if isinstance(value, str):
        module, colon, attribute = value.partition(":")
        if colon and _is_identifier(attribute) and all(map(_is_identifier, module.split("."))):
            return value
        head, _, tail = value.rpartition(".")
        if head and not colon and all(map(_is_identifier, value.split("."))):
            raise Unfit(f'must be of the form "module:Class", not {show(value)}', f"{head}:{tail}")
    raise Unfit(f'must be of the form "module:Class", not {show(value)}')


def module_name(value: object, where: Where) -> str:
    """``package.module``."""
    if not isinstance(value, str) or not all(map(_is_identifier, value.split("."))):
        raise Unfit(f"must be the name of a module, not {show(value)}")
    return value


def _is_identifier(word: str) -> bool:
    return word.isidentifier() and not keyword.iskeyword(word)


def command(value: object, where: Where) -> tuple[str, ...]:
    """A program and its arguments."""
    if isinstance(value, str) and value:
        raise Unfit(f"must be an array of strings{_as_array(value)}, not {show(value)}")
    if not isinstance(value, list) or not value:
        raise Unfit(f'must be an array of strings such as ["sleep", "60"], not {show(value) if value else "empty"}')
    for index, item in enumerate(value):
        if not isinstance(item, str):
            (where / index).fault(f"must be a string, not {show(item)}")
        elif "\0" in item or (index == 0 and not item):
            (where / index).fault("must not contain a NUL character" if item else "must name a program")
    return tuple(item for item in value if isinstance(item, str))


def _as_array(line: str) -> str:
    try:
        words = shlex.split(line[:_LONGEST_SHOWN])
    except ValueError:
        return ""
    return f", here {json.dumps(words, ensure_ascii=not line.isprintable())}" if len(line) <= _LONGEST_SHOWN else ""


def stop_signal(value: object, where: Where) -> str:
    """The name of a signal that can end a process."""
    if isinstance(value, str):
        if value in SIGNALS:
            return value
        wanted = value.upper() if value.upper().startswith("SIG") else f"SIG{value.upper()}"
        if value in _NOT_FOR_STOPPING:
            raise Unfit(f"{value} does not end a process")
        raise Unfit(f"there is no signal {show(value)}", closest(wanted, SIGNALS))
    raise Unfit(f'must be the name of a signal such as "SIGTERM", not {show(value)}')


def host(value: object, where: Where) -> str:
    """An IP address or a host name."""
    if isinstance(value, str):
        if _is_address(value) or (_HOST.fullmatch(value) and not value.replace(".", "").isdigit()):
            return value.lower()
        if value.startswith("[") and _is_address(value[1:-1]):
            raise Unfit("an IPv6 address is written without brackets here", value[1:-1])
    raise Unfit(f'must be an address or a host name such as "127.0.0.1", not {show(value)}')


def is_loopback(address: str) -> bool:
    """Whether a host (as ``host`` returns it) can be reached from this machine only."""
    if not _is_address(address):
        return address == "localhost"
    found = ipaddress.ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _is_address(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return "%" not in word


def host_and_port(value: object, where: Where) -> str:
    """``HOST:PORT``."""
    if isinstance(value, str):
        address, _, port = value.rpartition(":")
        bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
        if port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536:
            host(bare, where)
            return value
    raise Unfit(f'must be of the form "127.0.0.1:9464", not {show(value)}')


def octal_mask(value: object, where: Where) -> int:
    """A umask, as a string of octal digits."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-7]{1,4}", value, re.ASCII):
        raise Unfit(f'must be a string of octal digits such as "027", not {show(value)}')
    return int(value, 8)


def http_url(value: object, where: Where) -> str:
    """``http://HOST[:PORT]/PATH``; HTTP without TLS, which is what a process says about itself on its own machine."""
    wanted = f'must be of the form "http://127.0.0.1:8080/health", not {show(value)}'
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise Unfit(wanted)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise Unfit(wanted) from None
    if parts.scheme == "https":
        raise Unfit("only http is supported, not https")
    if parts.scheme != "http" or not parts.hostname or port == 0 or "@" in parts.netloc:
        raise Unfit(wanted)
    host(parts.hostname, where)
    return value


def user(value: object, where: Where) -> str:
    """The name of a user that this process may become."""
    word = text(value, where)
    try:
        entry = pwd.getpwnam(word)
    except KeyError:
        names = [one.pw_name for one in pwd.getpwall()]
        raise Unfit(f"there is no user {show(word)}", closest(word, names)) from None
    if os.geteuid() not in (0, entry.pw_uid):
        raise Unfit(f"only root can run a command as {show(word)}")
    return word


# Paths.


def path(value: object, where: Where) -> Path:
    """An absolute path; a relative one is taken from the file's folder, ``~`` is the home directory."""
    word = text(value, where)
    try:
        return Path(os.path.normpath(where.folder / Path(word).expanduser()))
    except RuntimeError:
        raise Unfit(f"the home directory of {show(word)} cannot be found") from None


def directory(value: object, where: Where) -> Path:
    """The path of a directory that exists."""
    found = path(value, where)
    try:
        exists = found.is_dir()
    except OSError as error:
        raise Unfit(f"cannot look at {show(str(found))}: {error.strerror}") from None
    if not exists:
        raise Unfit(f"there is no directory {show(str(found))}")
    return found


SHORTEST_SECRET, LONGEST_SECRET = 16, 4096


def secret_file(value: object, where: Where) -> Path:
    """The path of a file that ``read_secret`` accepts."""
    found = path(value, where)
    read_secret(found)
    return found


def read_secret(file: Path) -> bytes:
    """Return the secret in ``file``: its bytes without the line end that editors put there.

    Raises:
        Unfit: If it cannot be read, is another user's or open to others, is too short to be one, or too long.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as stream:
            facts = os.fstat(descriptor)
            mode = facts.st_mode
            data = stream.read(LONGEST_SECRET + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise Unfit(f"{show(str(file))} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise Unfit(f"{show(str(file))} is not a regular file")
    if facts.st_uid not in (0, os.geteuid()):
        raise Unfit(f"{show(str(file))} belongs to another user (uid {facts.st_uid}), who knows what is in it")
    if mode & 0o077:
        raise Unfit(f"{show(str(file))} is open to others (mode {stat.S_IMODE(mode):04o}); chmod 600 it")
    secret = data.rstrip(b"\r\n")
    if not secret:
        raise Unfit(f"{show(str(file))} is empty")
    if not SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET:
        found = f"more than {LONGEST_SECRET}" if len(data) > LONGEST_SECRET else str(len(secret))
        raise Unfit(f"{show(str(file))} must hold {SHORTEST_SECRET} to {LONGEST_SECRET} bytes, not {found}")
    return secret


# Collections.


def list_of(parse: Parser[T], what: str) -> Parser[tuple[T, ...]]:
    """An array of values; a bad item is reported at its own place and left out."""

    def parse_list(value: object, where: Where) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise Unfit(f"must be an array of {what}, not {show(value)}")
        items = []
        for index, item in enumerate(value):
            try:
                items.append(parse(item, where / index))
            except Unfit as error:
                (where / index).fault(error.message, error.hint)
        return tuple(items)

    return parse_list


def set_of(parse: Parser[T], what: str) -> Parser[frozenset[T]]:
    """Like ``list_of``, without order."""
    parse_list = list_of(parse, what)
    return lambda value, where: frozenset(parse_list(value, where))


def environment(value: object, where: Where) -> dict[str, str]:
    """Environment variables."""
    if not isinstance(value, dict):
        raise Unfit(f"must be a table of strings, not {show(value)}")
    for key, item in value.items():
        place = where / key
        if not key or "=" in key or "\0" in key:
            place.fault("is no name for an environment variable")
        elif key in ("MESHVISOR_SLOT", "MESHVISOR_INCARNATION", "MESHVISOR_MESH"):
            place.fault("is set by the supervisor")
        elif not isinstance(item, str):
            place.fault(f"must be a string, not {show(item)}")
        elif "\0" in item:
            place.fault("must not contain a NUL character")
    return {key: item for key, item in value.items() if isinstance(item, str)}


def settings(value: object, where: Where) -> dict[str, Any]:
    """A table of anything that reaches the worker unchanged."""
    if not isinstance(value, dict):
        raise Unfit(f"must be a table, not {show(value)}")
    _check_setting(value, where)
    return value


def _check_setting(value: object, where: Where) -> None:
    if len(where.path) > MAX_DEPTH:
        where.fault(f"is nested too deeply; {MAX_DEPTH} levels will do")
        return
    match value:
        case dict():
            for key, item in value.items():
                _check_setting(item, where / key)
        case list():
            for index, item in enumerate(value):
                _check_setting(item, where / index)
        case bool() | str() | float():
            pass
        case int():
            if value not in _INT64:
                where.fault("must fit in 64 bits; write it as a string")
        case _:
            where.fault("dates and times do not reach a worker unchanged; write it as a string")


def limits(value: object, where: Where, known: Collection[str]) -> dict[str, int]:
    """Resource limits by name (``nofile``), each a number or ``"unlimited"`` (-1)."""
    if not isinstance(value, dict):
        raise Unfit(f"must be a table such as {{ nofile = 4096 }}, not {show(value)}")
    result = {}
    for key, item in value.items():
        if key not in known:
            (where / key).fault("there is no such limit", closest(key, known))
        elif item == "unlimited":
            result[key] = -1
        elif isinstance(item, bool) or not isinstance(item, int) or not 0 <= item < 2**63:
            (where / key).fault(f'must be a whole number, 0 or more, or "unlimited", not {show(item)}')
        else:
            result[key] = item
    return result
