"""Where a node can be reached, as one normalised text.

Penalties, back-off and rosters are all filed under an endpoint's ``key``, so two ways to write the same place must
have the same key: hosts are lower-cased, IP addresses are in their shortest form, and an IPv4 address that is written
as IPv6 (``::ffff:127.0.0.1``) is the IPv4 address. Names are not resolved: ``localhost`` and ``127.0.0.1`` differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TRANSPORT = re.compile(r"[a-z][a-z0-9+-]*")
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ZONE = re.compile(r"[A-Za-z0-9_.@~-]{1,15}")
_LONGEST_HOST = 253


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place to dial or to listen at; made by ``parse``, which checks and normalises.

    ``host`` and ``port`` are those of ``tcp`` (elsewhere ``""`` and 0); ``path`` is what other transports have
    instead: the absolute path of a ``unix`` socket, the name of a ``memory`` endpoint, the address of a transport of
    your own. ``priority`` (lower is dialled first) and ``label`` are for the one who dials and no part of the ``key``.
    """

    transport: str
    host: str = ""
    port: int = 0
    path: str = ""
    priority: int = 0
    label: str | None = None
    key: str = field(init=False)

    def __post_init__(self) -> None:
        if self.transport == "tcp":
            host = f"[{self.host}]" if ":" in self.host else self.host
            key = f"tcp:{host}:{self.port}"
        else:
            key = f"{self.transport}:{self.path}"
        object.__setattr__(self, "key", key)

    def __str__(self) -> str:
        return self.key

    @classmethod
    def parse(cls, text: str, priority: int = 0, label: str | None = None) -> Endpoint:
        """Read ``tcp:HOST:PORT``, ``tcp:[IPV6]:PORT``, ``unix:/PATH``, ``memory:NAME`` or ``OTHER:ADDRESS``.

        Port 0 stands for "any free one" and can only be listened at. A transport that is not one of ours is taken as
        that of an adapter of the caller's, and its address as it is.

        Raises:
            ValueError: If ``text`` is no endpoint; the message says what is wrong with it.
        """
        transport, colon, rest = text.partition(":")
        transport = transport.lower()
        if not colon or not _TRANSPORT.fullmatch(transport):
            raise _wrong(text, 'it must begin with its transport, as in "tcp:127.0.0.1:4500" or "unix:/run/a.sock"')
        if not rest:
            raise _wrong(text, f'nothing follows "{transport}:"')
        if transport == "tcp":
            host, port = _host_and_port(text, rest)
            return cls(transport, host=host, port=port, priority=priority, label=label)
        if transport == "unix":
            return cls(transport, path=_socket_path(text, rest), priority=priority, label=label)
        return cls(transport, path=_address(text, transport, rest), priority=priority, label=label)


def _wrong(text: str, why: str) -> ValueError:
    return ValueError(f"{text!r} is not an endpoint: {why}")


def _host_and_port(text: str, rest: str) -> tuple[str, int]:
    host, colon, port = rest.rpartition(":")
    if not colon or not port or rest.endswith("]"):
        raise _wrong(text, 'the port is missing, as in "tcp:127.0.0.1:4500"')
    if not (port.isascii() and port.isdigit()):
        raise _wrong(text, f"the port must be a number, not {port!r}")
    # The length is checked first: int() refuses thousands of digits with an error of its own.
    if len(port) > 5 or int(port) > 65535:
        raise _wrong(text, f"the port must be at most 65535, not {port}")
    return _normal_host(text, host), int(port)


def _normal_host(text: str, host: str) -> str:
    if not host:
        raise _wrong(text, "the host is missing")
    if host[0] == "[":
        if host[-1] != "]":
            raise _wrong(text, 'the "[" of the IPv6 address is never closed')
        return _normal_ipv6(text, host[1:-1])
    if ":" in host:
        raise _wrong(text, 'an IPv6 address stands in brackets, as in "tcp:[::1]:4500"')
    host = host.lower()
    # What ends in a number is an address (URL Standard, "ends in a number"): resolvers take "127.1" for 127.0.0.1,
    # and a key must not have two forms.
    if _NUMERIC_LABEL.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return _normal_ipv4(text, host)
    if len(host) > _LONGEST_HOST or not _HOST.fullmatch(host):
        raise _wrong(text, f"{host!r} is not a host name")
    return host


def _normal_ipv4(text: str, host: str) -> str:
    # Imported where it is needed: a mesh over Unix sockets never pays for it.
    from ipaddress import AddressValueError, IPv4Address

    try:
        return str(IPv4Address(host))
    except AddressValueError:
        raise _wrong(text, f"{host!r} is not an IPv4 address (four numbers, 0 to 255)") from None


def _normal_ipv6(text: str, host: str) -> str:
    from ipaddress import AddressValueError, IPv6Address

    try:
        address = IPv6Address(host)
    except AddressValueError:
        raise _wrong(text, f"{host!r} is not an IPv6 address") from None
    # Python takes anything for a zone, a null character included.
    if address.scope_id is not None and not _ZONE.fullmatch(address.scope_id):
        raise _wrong(text, f'{address.scope_id!r} is not the zone of an IPv6 address, as in "fe80::1%eth0"')
    return str(address.ipv4_mapped or address)


def _socket_path(text: str, path: str) -> str:
    if path[0] != "/":
        raise _wrong(text, 'the path must be absolute, as in "unix:/run/a.sock"')
    if "\0" in path:
        raise _wrong(text, "the path holds a null character")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    # A ".." cannot be folded without looking at the file system: the part before it may be a symbolic link.
    if ".." in parts:
        raise _wrong(text, 'the path must not hold ".."')
    if not parts or path.endswith(("/", "/.")):
        raise _wrong(text, "the path must name a file, not a directory")
    return "/" + "/".join(parts)


def _address(text: str, transport: str, address: str) -> str:
    if address.startswith("//"):
        raise _wrong(text, 'it is a URL; write "tcp:HOST:PORT"')
    if address.isdigit() and transport != "memory":
        raise _wrong(text, f'write "tcp:{transport}:{address}" if a host and a port are meant')
    if not address.isprintable() or " " in address:
        raise _wrong(text, f"{address!r} holds a space or a character that cannot be printed")
    return address
