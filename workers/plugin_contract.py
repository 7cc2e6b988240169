"""What a host needs of a plugin, and whether one has it. Pure: what both say comes in, a verdict goes out.

A plugin may offer more than is needed, and take more than it is given, as long as it can do without. What the host
gives must be of a kind that the plugin takes, and what the plugin returns of a kind that the host can use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..shared.errors import PluginError, PluginFault
from .introduction import ANYTHING, Introduction, Method, Parameter, methods_of, return_type
from .rpc import rpc_methods, suggestion

_VERSION = re.compile(r"(\d+(?:\.\d+)*)(?:[-._]?(?:(a|b|c|rc|alpha|beta|pre|dev)[-._]?\d*))?(?:\+.*)?", re.IGNORECASE)
_CLAUSE = re.compile(r"(==|!=|>=|<=|>|<)\s*(\S+)")
_LONGEST_REASON = 1000

_BINARY = (bytes, bytearray, memoryview)  # as they are: a text is never taken for one in base64

Rank = tuple[tuple[int, ...], bool]


def rank(version: str) -> Rank:
    """Return what versions are ordered by: their numbers, and whether it is more than a preview (``2.0rc1``) of them.

    ``2`` and ``2.0`` are the same; what follows a ``+`` does not matter.

    Raises:
        ValueError: If it is no version.
    """
    match = _VERSION.fullmatch(version.strip())
    if match is None:
        raise ValueError(f"{version!r} is no version (such as 2.1.0)")
    numbers = [int(number) for number in match[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers), match[2] is None


_TESTS: dict[str, Callable[[Rank, Rank], bool]] = {
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
    ">=": lambda one, other: one >= other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    "<": lambda one, other: one < other,
}


class VersionRange:
    """Versions such as ``>=2.1, <3``; an empty text is all of them.

    Raises:
        ValueError: If it cannot be understood.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._clauses: list[tuple[str, Rank]] = []
        for clause in text.split(",") if text.strip() else ():
            match = _CLAUSE.fullmatch(clause.strip())
            if match is None:
                raise ValueError(f'must be versions such as ">=2.1, <3", not {text!r}')
            self._clauses.append((match[1], rank(match[2])))

    def __bool__(self) -> bool:
        return bool(self._clauses)

    def __contains__(self, version: str) -> bool:
        """Return whether ``version`` is one of them; raises as ``rank``."""
        found = rank(version)
        return all(_TESTS[relation](found, wanted) for relation, wanted in self._clauses)


@dataclass(frozen=True, slots=True)
class Contract:
    """What a host needs of one plugin. Methods of which only the name is known are in ``names``."""

    versions: VersionRange = field(default_factory=lambda: VersionRange(""))
    names: tuple[str, ...] = ()
    methods: tuple[Method, ...] = ()
    results: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, versions: VersionRange, interface: type | Sequence[str]) -> Contract:
        """Return the contract over ``versions``, and over what is written as a class or as the names of methods.

        Raises:
            TypeError: If that is no interface.
        """
        if not isinstance(interface, type):
            if (
                not isinstance(interface, Sequence)
                or isinstance(interface, str)
                or not all(isinstance(name, str) for name in interface)
            ):
                raise TypeError("must be a class with @rpc methods, or a list of the names of methods")
            return cls(versions, tuple(interface))
        methods = methods_of(interface)
        if not methods:
            raise TypeError(f"{interface.__qualname__} has no @rpc methods")
        results = {name: return_type(method.function) for name, method in rpc_methods(interface).items()}
        for name, kind in results.items():
            try:
                msgspec.msgpack.Decoder(kind)
            except TypeError as error:
                raise TypeError(f"what {interface.__qualname__}.{name} returns cannot be checked: {error}") from None
        return cls(versions, (), methods, results)

    def objection(self, introduction: Introduction, known: str = "") -> str | None:
        """Return what is wrong with a plugin (it ...), or None; ``known`` is the version it was found under, if any."""
        reasons = [*self._of_version(introduction.version, known), *self._of_methods(introduction.methods)]
        return "; it ".join(reasons)[:_LONGEST_REASON] or None

    def result(self, plugin: str, method: str, value: Any) -> Any:
        """Return the ``value`` that a method has returned, as the type that was agreed on.

        Raises:
            PluginError: If it is none.
        """
        wanted = self.results.get(method, Any)
        if wanted is Any:
            return value
        try:
            return msgspec.convert(value, wanted, builtin_types=_BINARY)
        except (msgspec.ValidationError, RecursionError) as error:
            text = f"returned something else from {method} than was agreed: {error}"
            raise PluginError(plugin, PluginFault.BAD_RESULT, text) from None

    def _of_version(self, said: str, known: str) -> Iterable[str]:
        try:
            if said and known and rank(said) != rank(known):
                yield f"says that it is version {said}, and what was found is {known}"
            elif self.versions and not (said or known):
                yield f"does not say which version it is, and {self.versions.text} is needed"
            elif self.versions and (said or known) not in self.versions:
                yield f"is version {said or known}, and {self.versions.text} is needed"
        except ValueError as error:
            yield f"says that it is a version that is none: {error}"

    def _of_methods(self, offered: Iterable[Method]) -> Iterable[str]:
        there = {method.name: method for method in offered}
        for name in [*self.names, *(method.name for method in self.methods)]:
            if name not in there:
                yield f"has no @rpc method {name!r}{suggestion(name, there)}"
        for wanted in self.methods:
            if wanted.name in there:
                yield from (f"{text} (in {wanted.name})" for text in _differences(wanted, there[wanted.name]))


def _differences(wanted: Method, offered: Method) -> Iterable[str]:
    """Say what in ``offered`` does not fit how the host calls ``wanted``."""
    places = [one for one in offered.parameters if one.is_positional]
    names = {one.name: one for one in offered.parameters if one.is_named}
    met = set()
    for place, parameter in enumerate(one for one in wanted.parameters if one.is_positional):
        if place >= len(places) or (parameter.is_named and places[place].name != parameter.name):
            yield f"takes no {parameter.name!r} as argument {place + 1}"
            continue
        met.add(places[place].name)
        yield from _unfit(parameter, places[place])
    for parameter in wanted.parameters:
        if parameter.is_named and parameter.name not in names:
            if not parameter.is_positional:
                yield f"takes no argument {parameter.name!r}"
        elif not parameter.is_positional:
            met.add(parameter.name)
            yield from _unfit(parameter, names[parameter.name])
    for extra in offered.parameters:
        if extra.is_required and extra.name not in met:
            yield f"needs an argument {extra.name!r} that the host does not give"
    if not _any_of(offered.returns, wanted.returns):
        yield f"returns {_or(offered.returns)}, and not {_or(wanted.returns)}"


def _unfit(given: Parameter, taken: Parameter) -> Iterable[str]:
    if taken.is_required and not given.is_required:
        yield f"cannot do without {taken.name!r}"
    if not _all_of(given.kinds, taken.kinds):
        yield f"takes {_or(taken.kinds)} as {taken.name!r}, and not {_or(given.kinds)}"


def _all_of(given: Sequence[str], taken: Sequence[str]) -> bool:
    return all(_any_of([kind], taken) for kind in given)


def _any_of(given: Sequence[str], taken: Sequence[str]) -> bool:
    """Return whether something of a kind in ``given`` can be of one in ``taken``: an int is a float, too."""
    there = {*given, "float"} if "int" in given else {*given}
    return ANYTHING in there or ANYTHING in taken or not there.isdisjoint(taken)


def _or(kinds: Sequence[str]) -> str:
    return " or ".join(kinds)
