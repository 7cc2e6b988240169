"""An endpoint has one key, however it was written; what is no endpoint is refused with its reason."""

from dataclasses import FrozenInstanceError, replace

import pytest

from meshvisor.shared.core.endpoint import Endpoint


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("tcp:127.0.0.1:4500", "tcp:127.0.0.1:4500"),
        ("TCP:127.0.0.1:04500", "tcp:127.0.0.1:4500"),
        ("tcp:LocalHost:0", "tcp:localhost:0"),
        ("tcp:Node-7.Example.COM:65535", "tcp:node-7.example.com:65535"),
        ("tcp:[::1]:4500", "tcp:[::1]:4500"),
        ("tcp:[0:0:0:0:0:0:0:1]:4500", "tcp:[::1]:4500"),
        ("tcp:[FE80::A%eth0]:4500", "tcp:[fe80::a%eth0]:4500"),
        ("tcp:[::ffff:127.0.0.1]:4500", "tcp:127.0.0.1:4500"),
        ("tcp:[::ffff:7f00:1]:4500", "tcp:127.0.0.1:4500"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
        ("unix://run/./b//a.sock", "unix:/run/b/a.sock"),
        ("unix:/run/with space:and colon", "unix:/run/with space:and colon"),
        ("memory:Name", "memory:Name"),
        ("memory:7", "memory:7"),
        ("serial:/dev/ttyS0", "serial:/dev/ttyS0"),
    ],
)
def test_two_ways_to_write_one_place_have_one_key(text: str, key: str) -> None:
    endpoint = Endpoint.parse(text)
    assert endpoint.key == key
    assert str(endpoint) == key
    assert Endpoint.parse(key) == endpoint


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must begin with its transport"),
        ("nonsense", "must begin with its transport"),
        ("127.0.0.1:4500", "must begin with its transport"),
        (":4500", "must begin with its transport"),
        ("tcp:", "nothing follows"),
        ("tcp:localhost", "the port is missing"),
        ("tcp:localhost:", "the port is missing"),
        ("tcp:[::1]", "the port is missing"),
        ("tcp:[fe80::1%a\0]:1", "is not the zone of an IPv6 address"),
        ("tcp::4500", "the host is missing"),
        ("tcp:localhost:http", "must be a number"),
        ("tcp:localhost:-1", "must be a number"),
        ("tcp:localhost:+1", "must be a number"),
        ("tcp:localhost:1_0", "must be a number"),
        ("tcp:localhost:\N{FULLWIDTH DIGIT FOUR}", "must be a number"),
        ("tcp:localhost:65536", "at most 65535"),
        ("tcp:localhost:" + "9" * 5000, "at most 65535"),
        ("tcp:::1:4500", "stands in brackets"),
        ("tcp:[::1:4500", "never closed"),
        ("tcp:[127.0.0.1]:4500", "not an IPv6 address"),
        ("tcp:[]:4500", "not an IPv6 address"),
        ("tcp:127.1:4500", "not an IPv4 address"),
        ("tcp:127.0.0.01:4500", "not an IPv4 address"),
        ("tcp:256.0.0.1:4500", "not an IPv4 address"),
        ("tcp:0x7f.0x1:4500", "not an IPv4 address"),
        ("tcp:2130706433:4500", "not an IPv4 address"),
        ("tcp:127.0.0.1.:4500", "not an IPv4 address"),
        ("tcp:local host:4500", "not a host name"),
        ("tcp:-a:4500", "not a host name"),
        ("tcp:a..b:4500", "not a host name"),
        ("tcp:müller.de:4500", "not a host name"),
        ("tcp:" + "a." * 130 + "b:4500", "not a host name"),
        ("unix:", "nothing follows"),
        ("unix:run/a.sock", "must be absolute"),
        ("unix:/run/../a.sock", 'must not hold ".."'),
        ("unix:/", "must name a file"),
        ("unix:/run/", "must name a file"),
        ("unix:/run/a\0b", "null character"),
        ("memory:", "nothing follows"),
        ("memory:a b", "holds a space"),
        ("memory:a\n", "holds a space"),
        ("localhost:4500", 'write "tcp:localhost:4500"'),
        ("http://localhost:4500", "it is a URL"),
    ],
)
def test_what_is_no_endpoint_is_refused_with_its_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match="is not an endpoint") as caught:
        Endpoint.parse(text)
    assert why in str(caught.value)


def test_each_transport_fills_its_own_parts() -> None:
    tcp = Endpoint.parse("tcp:[::1]:4500")
    assert (tcp.transport, tcp.host, tcp.port, tcp.path) == ("tcp", "::1", 4500, "")
    unix = Endpoint.parse("unix:/run/a.sock")
    assert (unix.transport, unix.host, unix.port, unix.path) == ("unix", "", 0, "/run/a.sock")
    memory = Endpoint.parse("memory:hub")
    assert (memory.transport, memory.path) == ("memory", "hub")


def test_priority_and_label_belong_to_the_dialler_and_are_no_part_of_the_key() -> None:
    endpoint = Endpoint.parse("tcp:127.0.0.1:4500", priority=2, label="backup")
    assert (endpoint.priority, endpoint.label) == (2, "backup")
    assert endpoint.key == Endpoint.parse("tcp:127.0.0.1:4500").key


def test_an_endpoint_is_frozen_and_a_changed_copy_has_its_own_key() -> None:
    endpoint = Endpoint.parse("tcp:[::1]:0", label="here")
    with pytest.raises(FrozenInstanceError):
        endpoint.port = 1  # type: ignore[misc]  # that it cannot be assigned is the point
    bound = replace(endpoint, port=4500)
    assert (bound.key, bound.label) == ("tcp:[::1]:4500", "here")


def test_a_host_has_253_characters_at_most() -> None:
    """RFC 1035: 255 octets on the wire, of which one counts the first label and one ends the name."""
    longest = ".".join(["a" * 63] * 3 + ["a" * 61])
    assert Endpoint.parse(f"tcp:{longest}:1").host == longest
    with pytest.raises(ValueError, match="host"):
        Endpoint.parse(f"tcp:{longest}a:1")
