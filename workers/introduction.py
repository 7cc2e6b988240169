"""How a plugin says what it is: the first thing that its process does, before its ``on_start``.

What it says is made from the class itself, in the process that has imported it, so that the host need not: which
version it is, and what its ``@rpc`` methods take and return. Types are told coarsely, as the kinds of values that go
over the wire; each value is checked in full when it arrives.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ..shared.errors import RemoteError
from .rpc import rpc_methods
from .worker import Worker

INTRODUCE = "meshvisor.introduce"
"""The method of a host that a plugin calls with its ``Introduction``; no method of Python's can be called so."""

ANYTHING = "anything"

_LONGEST_VERSION = 100


class Parameter(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One parameter of a method: how it can be given, whether it must be, and the kinds of values that it takes."""

    name: str
    is_positional: bool
    is_named: bool
    is_required: bool
    kinds: tuple[str, ...]


class Method(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One ``@rpc`` method; ``returns`` are the kinds of values that it returns."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: tuple[str, ...]


class Introduction(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a plugin says of itself; ``version`` is empty if it does not say which it is."""

    version: str
    methods: tuple[Method, ...]


async def introduce(worker: Worker, sponsor: str) -> None:
    """Have the node ``sponsor`` consent to this ``worker``.

    Raises:
        SystemExit: If it does not, with its reason.
    """
    try:
        await Worker.call(worker, sponsor, INTRODUCE, introduction_of(type(worker)), timeout=None)
    except RemoteError as refusal:
        raise SystemExit(f"{sponsor} refuses this plugin: it {refusal.message}") from None


def introduction_of(cls: type) -> Introduction:
    """Return what there is to say of a class.

    Its version is its attribute ``version``, else the ``__version__`` of its module.
    """
    version = getattr(cls, "version", None)
    if not isinstance(version, str):
        version = getattr(sys.modules.get(cls.__module__), "__version__", "")
    return Introduction(version[:_LONGEST_VERSION] if isinstance(version, str) else "", methods_of(cls))


def methods_of(cls: type) -> tuple[Method, ...]:
    """Return the ``@rpc`` methods of a class.

    Raises:
        TypeError: If one of them cannot be called from elsewhere.
    """
    return tuple(_method(name, method.function) for name, method in rpc_methods(cls).items())


def return_type(function: Callable[..., Any]) -> Any:
    """Return the type that a function is annotated to return; ``Any`` if that says nothing, or cannot be known."""
    annotation = inspect.signature(function).return_annotation
    return Any if annotation is inspect.Signature.empty else _resolved(function, annotation)


def _method(name: str, function: Callable[..., Any]) -> Method:
    _, *parameters = inspect.signature(function).parameters.values()
    return Method(name, tuple(_parameter(function, one) for one in parameters), _kinds(return_type(function)))


def _parameter(function: Callable[..., Any], parameter: inspect.Parameter) -> Parameter:
    is_empty = parameter.annotation is inspect.Parameter.empty
    return Parameter(
        parameter.name,
        parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD),
        parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY),
        parameter.default is inspect.Parameter.empty,
        (ANYTHING,) if is_empty else _kinds(_resolved(function, parameter.annotation)),
    )


def _resolved(function: Callable[..., Any], annotation: Any) -> Any:
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    space = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=space, include_extras=True)["it"]
    except Exception:  # Whatever evaluating it raises. What is imported for type checkers alone does not exist here.
        return Any


def _kinds(annotation: Any) -> tuple[str, ...]:
    """Return the kinds of values that an annotation allows, sorted."""
    from msgspec import inspect as msgspec_inspect  # not quick to import

    try:
        return tuple(sorted(set(_kinds_of(msgspec_inspect.type_info(annotation)))))
    except TypeError:  # no type that msgspec knows anything of
        return (ANYTHING,)


def _kinds_of(info: Any) -> Iterator[str]:
    name = type(info).__name__
    if name == "UnionType":
        for part in info.types:
            yield from _kinds_of(part)
    elif name == "Metadata":
        yield from _kinds_of(info.type)
    elif name in ("LiteralType", "EnumType"):
        values = info.values if name == "LiteralType" else [member.value for member in info.cls]
        yield from (_OF_VALUES.get(type(value), ANYTHING) for value in values)
    elif getattr(info, "array_like", False):
        yield "array"
    else:
        yield _OF_TYPES.get(name, ANYTHING)


_OF_VALUES = {str: "str", int: "int"}
_OF_TYPES = {
    "NoneType": "nothing",
    "BoolType": "bool",
    "IntType": "int",
    "FloatType": "float",
    "StrType": "str",
    "BytesType": "bytes",
    "ByteArrayType": "bytes",
    "MemoryViewType": "bytes",
    "ListType": "array",
    "TupleType": "array",
    "VarTupleType": "array",
    "SetType": "array",
    "FrozenSetType": "array",
    "CollectionType": "array",
    "NamedTupleType": "array",
    "DictType": "object",
    "TypedDictType": "object",
    "DataclassType": "object",
    "StructType": "object",
}
