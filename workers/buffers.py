"""Buffers in calls: bytes and numpy arrays, small ones inside the message, large ones beside it.

Whatever is passed has to be copied into the kernel and out of it. A message of msgpack would copy it twice more, once
at each end, so a buffer of 64 KiB or more stays outside: the link sends it from where it is and receives it into
memory of its own, which becomes the argument. In the message stands an extension type instead:

    1: index                                        bytes that are given or returned as such: part number ``index``
    2: [dtype, [length, ...], bytes | index]        a numpy array, at any depth

The annotation of a parameter says what bytes become: ``bytearray`` and ``memoryview`` are the received memory itself,
``bytes`` a copy of it; where there is no annotation, and in results, it is as in a ``Message``: ``bytes``, from 64 KiB
on a ``bytearray`` of the receiver's own. Arrays come back as arrays, in C order, writable and owned by the receiver.

numpy is never imported here: who sends an array has it, and who wants to receive one is asked to. What an array is
made of is checked against the bytes that came for it, and objects, which would have to be unpickled, are refused.
"""

from __future__ import annotations

import re
import sys
import threading
import types
import typing
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from ..shared.core.frames import LARGE
from ..shared.core.session import Body

PART, ARRAY = 1, 2

MAX_PARTS = 255
"""Buffers that travel beside one message; further ones travel inside."""

BYTES = (bytes, bytearray, memoryview)

UNSENDABLE = (TypeError, ValueError, OverflowError, NotImplementedError, RecursionError, BufferError)
"""What encoding raises for what cannot be sent."""

_DTYPE = re.compile(r"[<>|][biufcmMSU][0-9]{1,9}(\[[0-9a-zA-Z]{1,12}\])?")
"""Numbers, booleans, times and text of a fixed length, as numpy writes their types."""

_EXTENSIONS = frozenset((0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)))
"""The first bytes of msgpack's extension types."""

_Description = tuple[str, tuple[typing.Annotated[int, msgspec.Meta(ge=0)], ...], bytes | int]

_encode = msgspec.msgpack.encode
_description = msgspec.msgpack.Decoder(_Description)
_index = msgspec.msgpack.Decoder(int)


class LargeBuffer(Exception):
    """A message has a large array in it; encode it with its parts apart."""


class Apart:
    """Bytes that are to travel beside the message that they are put into."""

    __slots__ = ("buffer",)

    def __init__(self, buffer: Body) -> None:
        self.buffer = buffer


def is_large(value: object) -> bool:
    """Return whether ``value`` is bytes that should travel beside the message."""
    if isinstance(value, memoryview):
        return value.nbytes >= LARGE
    return isinstance(value, (bytes, bytearray)) and len(value) >= LARGE


def set_apart(value: Any) -> Any:
    """Return ``value``, or if it is a large buffer what stands for it while the message is encoded.

    Raises:
        BufferError: If it is a view whose bytes are not one after the other.
    """
    return Apart(_flat(value)) if is_large(value) else value


def _flat(value: Body) -> Body:
    if not isinstance(value, memoryview):
        return value
    if not value.c_contiguous:
        raise BufferError("a memoryview must be contiguous")
    return value.cast("B")


# Sending.


def buffer_hook(value: Any) -> Any:
    """Be the ``enc_hook`` of messages without parts; raises ``LargeBuffer`` where parts would be better."""
    return _encodable(value, None)


class Taking:
    """Takes the large buffers out of one message; ``hook`` is the ``enc_hook`` of its encoder."""

    def __init__(self) -> None:
        self.parts: list[Body] = []

    def hook(self, value: Any) -> Any:
        """Return what stands for ``value`` in the message."""
        return _encodable(value, self.parts)


def _encodable(value: Any, parts: list[Body] | None) -> Any:
    # A Peer is a str with some knowledge; so may be a type of the user's.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Apart):
        assert parts is not None  # Whoever sets a buffer apart has parts in mind.
        if len(parts) == MAX_PARTS:
            return value.buffer
        parts.append(value.buffer)
        return msgspec.msgpack.Ext(PART, _encode(len(parts) - 1))
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _encodable_array(numpy, value, parts)
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    try:
        view = memoryview(value)
    except TypeError:
        raise NotImplementedError(f"Encoding objects of type {type(value).__name__} is unsupported") from None
    return _flat(view)


def _encodable_array(numpy: Any, array: Any, parts: list[Body] | None) -> Any:
    if type(array) not in (numpy.ndarray, numpy.memmap):
        raise TypeError(f"a {type(array).__name__} cannot be sent: make a plain array of it")
    dtype = array.dtype.str
    if not _DTYPE.fullmatch(dtype):
        raise TypeError(f"an array of dtype {array.dtype} cannot be sent: only numbers, booleans, times and text can")
    data: bytes | int
    if array.nbytes < LARGE:
        data = array.tobytes()
    elif parts is None:
        raise LargeBuffer
    elif len(parts) == MAX_PARTS:
        data = array.tobytes()
    else:
        # As plain bytes: not every dtype has a buffer of its own.
        parts.append(memoryview(numpy.ascontiguousarray(array).reshape(-1).view("u1")))
        data = len(parts) - 1
    return msgspec.msgpack.Ext(ARRAY, _encode((dtype, array.shape, data)))


# Receiving.


class _Arrived(threading.local):
    parts: Sequence[bytes | bytearray] = ()


_arrived = _Arrived()


class Reading:
    """While this is entered, what is decoded in this thread may refer to ``parts``."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[bytes | bytearray]) -> None:
        self._parts = parts

    def __enter__(self) -> None:
        _arrived.parts = self._parts

    def __exit__(self, *_: object) -> None:
        _arrived.parts = ()


def from_extension(code: int, data: memoryview) -> Any:
    """Be the ``ext_hook`` of every decoder of arguments and results.

    Raises:
        TypeError, ValueError: If there is no such thing.
    """
    try:
        if code == PART:
            return _part(_index.decode(data))
        if code == ARRAY:
            return _array(*_description.decode(data))
    except msgspec.MsgspecError as error:
        raise ValueError(f"a buffer is malformed: {error}") from None
    raise ValueError(f"there is no extension type {code}")


def part_of(raw: msgspec.Raw) -> bytes | bytearray | None:
    """Return the bytes that ``raw`` stands for, or None if it is something else."""
    if memoryview(raw)[0] not in _EXTENSIONS:
        return None
    found = _extension.decode(raw)
    return cast("bytes | bytearray", found) if isinstance(found, (bytes, bytearray)) else None


_extension = msgspec.msgpack.Decoder(Any, ext_hook=from_extension)


def _part(index: int) -> bytes | bytearray:
    if not 0 <= index < len(_arrived.parts):
        raise ValueError(f"there is no part {index} to this message")
    return _arrived.parts[index]


def _array(dtype: str, shape: tuple[int, ...], data: bytes | int) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        raise TypeError("a numpy array came to a process that has not imported numpy; import it in the worker's module")
    if not _DTYPE.fullmatch(dtype) or len(shape) > 32:
        raise ValueError(f"there is no array of dtype {dtype[:40]!r} with {len(shape)} dimensions")
    buffer = _part(data) if isinstance(data, int) else bytearray(data)
    if not isinstance(buffer, bytearray):
        buffer = bytearray(buffer)  # An array is writable, whatever its size.
    kind = numpy.dtype(dtype)
    count = 1
    for length in shape:
        count *= length
    if count * kind.itemsize != len(buffer):
        raise ValueError(f"an array of dtype {dtype} and shape {shape} does not have {len(buffer)} bytes")
    return numpy.ndarray(shape, kind, buffer)


def check_array(annotation: Any, value: Any) -> Any:
    """Be the ``dec_hook`` of decoders: check the dtype of an array against ``NDArray[dtype]``.

    Raises:
        TypeError: If it is another one.
    """
    wanted = _wanted_dtype(annotation)
    if wanted is not None and hasattr(value, "dtype") and not sys.modules["numpy"].issubdtype(value.dtype, wanted):
        raise TypeError(f"Expected an array of `{wanted.__name__}`, got one of `{value.dtype}`")
    return value


def _wanted_dtype(annotation: Any) -> type | None:
    """Return the scalar type in ``numpy.ndarray[shape, numpy.dtype[scalar]]``, which is what NDArray[scalar] means."""
    inner = typing.get_args(annotation)
    scalar = typing.get_args(inner[1]) if len(inner) == 2 else ()
    wanted = typing.get_origin(scalar[0]) or scalar[0] if scalar else None
    return wanted if isinstance(wanted, type) else None


def is_array_type(kind: object) -> bool:
    """Return whether ``kind`` is numpy's array, with or without a dtype."""
    numpy = sys.modules.get("numpy")
    origin = typing.get_origin(kind) if isinstance(kind, types.GenericAlias) else kind
    return numpy is not None and origin is numpy.ndarray
