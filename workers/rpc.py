"""Methods that other workers may call: what ``@rpc`` marks, and how arguments are read from the wire.

Arguments are decoded straight into the types of the method's annotations, strictly (a string is never taken for a
number), so that a method need not check what it is given; an error names the argument. A result is checked against its
annotation, too, before it is sent.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from .buffers import (
    BYTES,
    UNSENDABLE,
    LargeBuffer,
    Reading,
    check_array,
    from_extension,
    is_array_type,
    part_of,
)
from .lane import NO_NAMES, encode

Function = TypeVar("Function", bound=Callable[..., Any])


def _itself(part: bytes | bytearray) -> bytes | bytearray:
    return part


def _writable(part: bytes | bytearray) -> bytearray:
    return part if isinstance(part, bytearray) else bytearray(part)  # one below 64 KiB has no buffer of its own


_MARK = "__meshvisor_rpc__"
_RESERVED = ("key", "timeout", "retry")
_PLAIN = (Any, None, type(None), bool, int, float, str, bytes, bytearray, memoryview)
# What bytes that came beside the message become. All other annotations read them as if they had come in it.
_BUFFERS: dict[Any, Callable[[bytes | bytearray], Any]] = {
    kind: make
    for plain, make in ((Any, _itself), (bytes, bytes), (bytearray, _writable), (memoryview, memoryview))
    for kind in (plain, typing.Optional[plain])  # noqa: UP045  (one that is hashed like X | None)
}


def _buffer_maker(annotation: Any) -> Callable[[bytes | bytearray], Any] | None:
    try:
        return _BUFFERS.get(annotation)
    except TypeError:  # Not everything that can be written as an annotation can be a key.
        return None


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

_raw_list = msgspec.msgpack.Decoder(list[msgspec.Raw])
_raw_map = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])


def rpc(function: Function) -> Function:
    """Let other workers ``call`` this method of a ``Worker``.

    An ``async def`` runs in a task of its own, many at a time. A plain ``def`` runs on the event loop there and then,
    which is quicker, and right for what does not wait and takes no more than a moment.

    Parameters and result are whatever msgspec can carry: numbers, strings, bytes, lists, dicts, dataclasses,
    ``msgspec.Struct``s..., and numpy arrays. Arguments arrive as the annotations say, and a result must be what its
    annotation says; the caller gets plain values (a dict for a dataclass). An exception goes to the caller, as
    ``RemoteError``.

    Buffers of 64 KiB or more, given or returned as they are, and arrays are not copied on their way. Therefore an
    argument must not be changed before the call has ended, nor a result once it was returned. Such an argument is the
    received memory itself if it is annotated as ``bytearray``, ``memoryview`` or ``numpy.ndarray``.

    Raises:
        TypeError: If ``function`` is a generator, or no function.
    """
    if not callable(function) or is_generator(function):
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(f"@rpc is for methods that return one result, `async def` or `def`, and {name} is none")
    setattr(function, _MARK, True)
    return function


def is_coroutine_function(function: Any) -> bool:
    """Return whether ``function`` is ``async def``, perhaps inside decorators that use ``functools.wraps``."""
    return inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(function)


def is_generator(function: Any) -> bool:
    """Return whether ``function`` has a ``yield`` in it."""
    function = inspect.unwrap(function)
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


class _Parameter:
    """One parameter; ``decoder`` reads its argument."""

    def __init__(self, parameter: inspect.Parameter, annotation: Any) -> None:
        self.name = parameter.name
        self.is_positional = parameter.kind in _POSITIONAL
        self.is_named = parameter.kind in _NAMED
        self.is_required = parameter.default is inspect.Parameter.empty
        self.annotation = annotation
        self._make = _buffer_maker(annotation)
        self.decoder = _decoder(annotation)

    def read(self, raw: msgspec.Raw) -> Any:
        try:
            part = part_of(raw)
            return self.decoder.decode(raw) if part is None else self._large(part)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            raise TypeError(f"argument {self.name!r}: {error}") from None

    def _large(self, part: bytes | bytearray) -> Any:
        """Return bytes that came beside the message, as what the annotation makes of them."""
        return self.decoder.decode(msgspec.msgpack.encode(part)) if self._make is None else self._make(part)


class RpcMethod:
    """A method as the wire sees it; a plain one returns its result, any other one is to be awaited.

    ``returns`` is the type that a result is to have, or None for any; one of another type may be ``checked``.

    Raises:
        TypeError: If it cannot be called from elsewhere as it is written.
    """

    def __init__(self, owner: str, name: str, function: Callable[..., Any]) -> None:
        where = f"{owner}.{name}"
        if not callable(function) or is_generator(function):
            raise TypeError(f"{where} is an @rpc method and must return one result, as `async def` or `def`")
        self.name = name
        self.function = function
        self.is_plain = not is_coroutine_function(function)
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(_without_instance(where, name))
        self._parameters = [_checked(where, function, parameter) for parameter in parameters[1:]]
        self._by_name = {parameter.name: parameter for parameter in self._parameters if parameter.is_named}
        self._positional = [parameter for parameter in self._parameters if parameter.is_positional]
        self._exact: msgspec.msgpack.Decoder[tuple[Any, ...]] | None = None
        if len(self._positional) == len(self._parameters):
            kinds = tuple(parameter.annotation for parameter in self._parameters)
            self._exact = _decoder(types.GenericAlias(tuple, kinds or ((),)))
        self._result = _result_type(function, signature.return_annotation)
        self._is_buffer = _buffer_maker(self._result) is not None
        self.returns = None if self._result is Any else type(None) if self._result is None else self._result

    def checked(self, value: Any) -> Any:
        """Return ``value`` as the type that it should have.

        Raises:
            TypeError: If it has another one.
        """
        if self._is_buffer and isinstance(value, BYTES):
            return value
        try:
            return msgspec.convert(value, self._result, dec_hook=check_array)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            if not self._is_read_as_result(value):
                raise TypeError(str(error)) from None
            return value

    def _is_read_as_result(self, value: Any) -> bool:
        """Return whether what would be sent is what the annotation says: an object of a derived class may be."""
        try:
            _decoder(self._result).decode(encode(value))
        except (msgspec.MsgspecError, LargeBuffer, *UNSENDABLE):
            return False
        return True

    def arguments(
        self, positional: msgspec.Raw, named: msgspec.Raw, parts: Sequence[bytes | bytearray] = ()
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Read the arguments of a call, with the large buffers that came as its ``parts``.

        Raises:
            TypeError: If they do not fit the parameters; the text names the argument.
        """
        if self._exact is not None and named is NO_NAMES and not parts:
            try:
                return self._exact.decode(positional), {}
            except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
                pass  # Defaults are to be filled in, or something is wrong: find out which.
        try:
            values, names = _raw_list.decode(positional), _raw_map.decode(named)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise TypeError(f"the arguments cannot be read: {error}") from None
        if len(values) > len(self._positional):
            raise TypeError(f"{self.name} takes {_count(len(self._positional))} by position, not {len(values)}")
        with Reading(parts):
            args = tuple(parameter.read(raw) for parameter, raw in zip(self._positional, values, strict=False))
            return args, self._named({parameter.name for parameter in self._positional[: len(values)]}, names)

    def _named(self, given: set[str], names: dict[str, msgspec.Raw]) -> dict[str, Any]:
        kwargs = {}
        for name, raw in names.items():
            parameter = self._by_name.get(name)
            if parameter is None:
                raise TypeError(f"{self.name} has no parameter {name!r}{suggestion(name, self._by_name)}")
            if name in given:
                raise TypeError(f"argument {name!r} was given twice, by position and by name")
            kwargs[name] = parameter.read(raw)
        for parameter in self._parameters:
            if parameter.is_required and parameter.name not in given and parameter.name not in kwargs:
                raise TypeError(f"argument {parameter.name!r} is missing")
        return kwargs


def rpc_methods(cls: type) -> dict[str, RpcMethod]:
    """Return the methods of ``cls`` that are marked, there or in a base class.

    Raises:
        TypeError: If one of them cannot be called from elsewhere.
    """
    names = set()
    for name, value in ((name, value) for base in cls.__mro__ for name, value in vars(base).items()):
        is_bare = isinstance(value, (staticmethod, classmethod))
        if hasattr(value, _MARK) or (is_bare and hasattr(value.__func__, _MARK)):
            if is_bare:
                raise TypeError(_without_instance(f"{cls.__qualname__}.{name}", name))
            names.add(name)
    return {name: RpcMethod(cls.__qualname__, name, getattr(cls, name)) for name in sorted(names)}


def _without_instance(where: str, name: str) -> str:
    return f"{where} is an @rpc method and must take the instance first: def {name}(self, ...)"


def suggestion(word: str, known: typing.Iterable[str]) -> str:
    """Return a ``(did you mean ...?)`` with the word closest to ``word``, or nothing."""
    import difflib  # Only for mistakes.

    close = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _decoder(annotation: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(annotation, ext_hook=from_extension, dec_hook=check_array)


def _result_type(function: Callable[..., Any], annotation: Any) -> Any:
    """Return what a result is checked against; Any if there is no annotation that says anything at run time."""
    if annotation is inspect.Signature.empty:
        return Any
    try:
        annotation = _resolved(function, "return", annotation)
        _decoder(annotation)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return Any  # What the result is annotated with need not exist at run time.
    return annotation


def _checked(where: str, function: Callable[..., Any], parameter: inspect.Parameter) -> _Parameter:
    name = parameter.name
    if name in _RESERVED:
        raise TypeError(f"{where}: a parameter must not be called {name!r}, which is an option of `call` itself")
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        raise TypeError(f"{where}: an @rpc method names each of its parameters, and cannot have *{name}")
    annotation = Any if parameter.annotation is inspect.Parameter.empty else parameter.annotation
    try:
        annotation = _resolved(function, name, annotation)
        unusable = None if annotation in _PLAIN else _custom_type(annotation)
        if unusable is None:
            return _Parameter(parameter, annotation)
        why = f"{unusable.__qualname__} is no type that msgspec can read"
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        why = str(error)
    raise TypeError(f"{where}: the annotation of {name!r} cannot be used: {why}")


def _resolved(function: Callable[..., Any], name: str, annotation: Any) -> Any:
    """Return the type that an annotation means, also one written as a string."""
    # One parameter at a time: what the result is annotated with need not exist at run time.
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    space = getattr(inspect.unwrap(function), "__globals__", {})
    return typing.get_type_hints(holder, globalns=space, include_extras=True)[name]


def _custom_type(annotation: Any) -> type | None:
    """Return a type within ``annotation`` that msgspec would only ever refuse, if there is one."""
    from msgspec import inspect as msgspec_inspect  # Rarely needed, and not quick to import.

    def inner(value: Any) -> Iterator[Any]:
        if isinstance(value, (list, tuple)):
            for item in value:
                yield from inner(item)
        elif isinstance(value, (msgspec_inspect.Type, msgspec_inspect.Field)) and id(value) not in seen:
            seen.add(id(value))  # Types may contain themselves.
            yield value
            for field in value.__struct_fields__:
                yield from inner(getattr(value, field))

    seen: set[int] = set()
    for found in inner(msgspec_inspect.type_info(annotation)):
        if isinstance(found, msgspec_inspect.CustomType) and not is_array_type(found.cls):
            return found.cls
    return None


def _count(number: int) -> str:
    return f"{number} argument" if number == 1 else f"{number} arguments"
