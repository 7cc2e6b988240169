"""Two sides that share a secret agree; everybody else is refused, whatever was altered, replayed or reflected."""

import hashlib
import hmac
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from meshvisor.shared.core.frames import HEADER_SIZE, HandshakeReader, Kind
from meshvisor.shared.core.handshake import (
    LEAST,
    AcceptingSide,
    DiallingSide,
    Identity,
    Offer,
    RefusalCode,
    Refused,
)
from meshvisor.shared.errors import HandshakeError

SECRET = b"s" * 32
CONNECTION = b"c" * 16
SESSION = b"e" * 16
ALICE = Identity("alice", 1, 2**64 - 1, (8192, 4194304))
BOB = Identity("bob", 2**63 - 1, 1, (1, 1))

pack = msgspec.msgpack.encode


def dialling(secret: bytes = SECRET, connection: bytes = CONNECTION, nonce: bytes = b"d" * 32) -> DiallingSide:
    return DiallingSide(ALICE, secret=secret, connection_id=connection, nonce=nonce)


def accepting(secret: bytes = SECRET, connection: bytes = CONNECTION, nonce: bytes = b"a" * 32) -> AcceptingSide:
    return AcceptingSide(BOB, secret=secret, connection_id=connection, nonce=nonce)


def body(frame: bytes, kind: Kind) -> bytes:
    """Return the body of ``frame``, which is one whole frame of ``kind`` within the limit of the handshake."""
    reader = HandshakeReader()
    reader.expect(frozenset({kind}))
    assert reader.receive(frame[:HEADER_SIZE]) is None
    assert reader.lacking == len(frame) - HEADER_SIZE
    said = reader.receive(frame[HEADER_SIZE:])
    assert said is not None
    return said


def introduced() -> tuple[DiallingSide, AcceptingSide]:
    """Return two sides that have come as far as WELCOME."""
    one, other = dialling(), accepting()
    one.welcomed(body(other.greeted(body(one.hello(), Kind.HELLO)), Kind.WELCOME))
    return one, other


def authenticated() -> tuple[DiallingSide, AcceptingSide]:
    """Return two sides that have come as far as PROOF."""
    one, other = introduced()
    other.proved(body(one.prove(SESSION, (3, 4)), Kind.PROOF))
    return one, other


def alterations(message: bytes) -> list[bytes]:
    """Return ``message`` with each of its bits flipped, with each of its bytes inverted, and with one byte less."""
    masks = [1 << bit for bit in range(8)] + [255]
    flipped = [
        message[:at] + bytes([byte ^ mask]) + message[at + 1 :] for at, byte in enumerate(message) for mask in masks
    ]
    return [*flipped, *(message[:end] for end in range(len(message)))]


def test_two_sides_with_one_secret_agree() -> None:
    one, other = dialling(), accepting()
    assert one.welcomed(body(other.greeted(body(one.hello(), Kind.HELLO)), Kind.WELCOME)) == BOB
    assert other.proved(body(one.prove(SESSION, (3, 4)), Kind.PROOF)) == Offer(ALICE, SESSION, (3, 4))
    other.bound(body(one.bind(), Kind.BIND))
    assert one.accepted(body(other.accept(SESSION, (5, 2**63 - 1)), Kind.ACCEPT), SESSION) == (5, 2**63 - 1)


def test_the_bytes_of_every_message_are_those_of_the_protocol() -> None:
    one, other = dialling(), accepting()
    hello = body(one.hello(), Kind.HELLO)
    assert hello == (
        b"\x93\x01\x95\xa5alice\x01\xcf" + b"\xff" * 8 + b"\x92\xcd\x20\x00\xce\x00\x40\x00\x00\x90\xc4\x20" + b"d" * 32
    )
    bare = b"\x94\x01\x95\xa3bob\xcf\x7f" + b"\xff" * 7 + b"\x01\x92\x01\x01\x90\xc4\x20" + b"a" * 32 + b"\xc4\x00"
    said = b"meshvisor handshake" + CONNECTION
    said += len(hello).to_bytes(4, "big") + hello + len(bare).to_bytes(4, "big") + bare
    transcript = hashlib.sha256(said).digest()

    def proof(text: bytes, extra: bytes = b"") -> bytes:
        return hmac.digest(SECRET, text + transcript + extra, "sha256")

    welcome = body(other.greeted(hello), Kind.WELCOME)
    assert welcome == bare[:-1] + b"\x20" + proof(b"accepting side")
    one.welcomed(welcome)
    claim = b"\x93\xc4\x10" + SESSION + b"\x92\x03\x04\xc2"
    proved = body(one.prove(SESSION, (3, 4)), Kind.PROOF)
    assert proved == b"\x92\xc4\x17" + claim + b"\xc4\x20" + proof(b"dialling side", claim)
    assert body(one.bind(), Kind.BIND) == proof(b"data channel")
    other.proved(proved)
    accepted = body(other.accept(SESSION, (3, 4)), Kind.ACCEPT)
    assert accepted == b"\x92\xc4\x17" + claim + b"\xc4\x20" + proof(b"accepted", claim)
    refusal = b"\x94\xa4busy\xa0\xcb" + bytes(8) + b"\xc4\x00"
    refused = body(other.refuse(RefusalCode.BUSY), Kind.REFUSE)
    assert refused == refusal[:-1] + b"\x20" + proof(b"refused", refusal)


@pytest.mark.parametrize(("ours", "theirs"), [(b"wrong", SECRET), (SECRET, b"wrong"), (b"", SECRET), (SECRET, b"")])
def test_a_wrong_secret_on_either_side_is_found_by_the_dialling_side_and_is_fatal(ours: bytes, theirs: bytes) -> None:
    one, other = dialling(ours), accepting(theirs)
    welcome = other.greeted(body(one.hello(), Kind.HELLO))
    with pytest.raises(HandshakeError, match="does not know our secret") as caught:
        one.welcomed(body(welcome, Kind.WELCOME))
    assert caught.value.fatal


def test_a_dialling_side_that_goes_on_without_the_secret_is_found_by_the_accepting_side() -> None:
    one, other = dialling(b"wrong"), accepting()
    other.greeted(body(one.hello(), Kind.HELLO))
    with pytest.raises(HandshakeError, match="does not know our secret") as caught:
        other.proved(body(one.prove(SESSION, (0, 0)), Kind.PROOF))
    assert caught.value.fatal
    with pytest.raises(HandshakeError, match="does not belong to this connection"):
        other.bound(body(one.bind(), Kind.BIND))


# Altered on the way.


def test_whatever_is_altered_in_hello_the_handshake_fails() -> None:
    one = dialling()
    hello = body(one.hello(), Kind.HELLO)
    refused = 0
    for altered in alterations(hello):
        other = accepting()
        try:
            welcome = other.greeted(altered)
        except HandshakeError:
            refused += 1
            continue
        fresh = dialling()
        fresh.hello()
        with pytest.raises(HandshakeError, match="secret"):
            fresh.welcomed(body(welcome, Kind.WELCOME))
    assert refused > len(hello)


def test_whatever_is_altered_in_welcome_it_is_refused() -> None:
    welcome = body(accepting().greeted(body(dialling().hello(), Kind.HELLO)), Kind.WELCOME)
    for altered in alterations(welcome):
        one = dialling()
        one.hello()
        with pytest.raises(HandshakeError):
            one.welcomed(altered)


def test_whatever_is_altered_in_proof_it_is_refused() -> None:
    one, other = introduced()
    for altered in alterations(body(one.prove(SESSION, (3, 4)), Kind.PROOF)):
        with pytest.raises(HandshakeError):
            other.proved(altered)


def test_whatever_is_altered_in_bind_it_is_refused() -> None:
    one, other = authenticated()
    bind = body(one.bind(), Kind.BIND)
    for altered in [*alterations(bind), bind + b"\0"]:
        with pytest.raises(HandshakeError, match="does not belong to this connection"):
            other.bound(altered)


def test_whatever_is_altered_in_accept_it_is_refused() -> None:
    one, other = authenticated()
    for altered in alterations(body(other.accept(SESSION, (5, 6)), Kind.ACCEPT)):
        with pytest.raises(HandshakeError):
            one.accepted(altered, SESSION)


def test_whatever_is_altered_in_a_proved_refusal_it_proves_nothing() -> None:
    one, other = authenticated()
    read = []
    for altered in alterations(body(other.refuse(RefusalCode.BUSY, "full", 2.5), Kind.REFUSE)):
        with suppress(HandshakeError):
            read.append(one.refused(altered))
    assert {(refused.authenticated, refused.retry_after) for refused in read} == {(False, 0.0)}


# Replayed, reflected, swapped.


def test_a_replayed_hello_leads_nowhere_because_the_old_proof_does_not_fit_the_new_nonce() -> None:
    one, other = introduced()
    hello, proof, bind = (body(dialling().hello(), Kind.HELLO), one.prove(SESSION, (0, 0)), one.bind())
    other.proved(body(proof, Kind.PROOF))
    later = accepting(nonce=b"A" * 32)
    later.greeted(hello)
    with pytest.raises(HandshakeError, match="does not know our secret"):
        later.proved(body(proof, Kind.PROOF))
    with pytest.raises(HandshakeError, match="does not belong"):
        later.bound(body(bind, Kind.BIND))


def test_r27_a_proof_is_good_for_one_connection_only() -> None:
    one, _ = introduced()
    elsewhere = accepting(connection=b"C" * 16)
    elsewhere.greeted(body(dialling().hello(), Kind.HELLO))
    with pytest.raises(HandshakeError, match="does not know our secret"):
        elsewhere.proved(body(one.prove(SESSION, (0, 0)), Kind.PROOF))


def test_a_data_channel_of_another_connection_is_not_bound() -> None:
    one, _ = introduced()
    two, second = dialling(connection=b"C" * 16), accepting(connection=b"C" * 16)
    two.welcomed(body(second.greeted(body(two.hello(), Kind.HELLO)), Kind.WELCOME))
    with pytest.raises(HandshakeError, match="does not belong to this connection"):
        second.bound(body(one.bind(), Kind.BIND))


def test_a_welcome_from_an_earlier_connection_is_refused() -> None:
    welcome = body(accepting().greeted(body(dialling().hello(), Kind.HELLO)), Kind.WELCOME)
    later = dialling(nonce=b"D" * 32)
    later.hello()
    with pytest.raises(HandshakeError, match="does not know our secret"):
        later.welcomed(welcome)


def test_nobody_passes_by_reflecting_what_the_dialling_side_said() -> None:
    one, _ = introduced()
    version, identity, nonce = msgspec.msgpack.decode(body(dialling().hello(), Kind.HELLO))
    for proof in (b"", bytes(32), body(one.bind(), Kind.BIND)):
        mirrored = dialling()
        mirrored.hello()
        with pytest.raises(HandshakeError, match="does not know our secret"):
            mirrored.welcomed(pack([version, identity, nonce, proof]))


def test_no_proof_stands_for_another_one() -> None:
    one, other = introduced()
    claim, proof = msgspec.msgpack.decode(body(one.prove(SESSION, (0, 0)), Kind.PROOF))
    bind = body(one.bind(), Kind.BIND)
    # The dialling side's proof is no ACCEPT, the data channel's no PROOF, and neither the other way round.
    with pytest.raises(HandshakeError, match="ACCEPT is not proved"):
        one.accepted(pack([claim, proof]), SESSION)
    with pytest.raises(HandshakeError, match="does not know our secret"):
        other.proved(pack([claim, bind]))
    with pytest.raises(HandshakeError, match="does not belong"):
        other.bound(proof)


def test_an_accept_for_another_session_is_refused() -> None:
    one, other = authenticated()
    with pytest.raises(HandshakeError, match="ACCEPT is for another session"):
        one.accepted(body(other.accept(b"E" * 16, (0, 0)), Kind.ACCEPT), SESSION)


# Refusals.


def test_a_refusal_after_the_proof_is_authenticated_and_its_pause_counts() -> None:
    one, other = authenticated()
    refused = one.refused(body(other.refuse(RefusalCode.BUSY, "full", 2.5), Kind.REFUSE))
    assert (refused.code, refused.retry_after, refused.authenticated, refused.fatal) == ("busy", 2.5, True, False)
    assert str(refused) == "handshake failed: refused (busy): full"


def test_a_pause_in_whole_seconds_counts_as_well() -> None:
    one, other = authenticated()
    assert one.refused(body(other.refuse(RefusalCode.BUSY, retry_after=2), Kind.REFUSE)).retry_after == 2.0


def test_a_refusal_before_the_proof_may_come_from_anybody_and_its_pause_does_not_count() -> None:
    one, other = introduced()
    refused = one.refused(body(other.refuse(RefusalCode.BUSY, retry_after=2.5), Kind.REFUSE))
    assert (refused.code, refused.retry_after, refused.authenticated) == ("busy", 0.0, False)
    assert str(refused) == "handshake failed: refused (busy)"


def test_a_refusal_instead_of_welcome_is_never_authenticated_not_even_with_a_proof_of_another_connection() -> None:
    _, other = authenticated()
    fresh = dialling()
    fresh.hello()
    refused = fresh.refused(body(other.refuse(RefusalCode.BUSY, "full", 2.5), Kind.REFUSE))
    assert not refused.authenticated
    assert refused.retry_after == 0.0


def test_only_somebody_who_knows_the_secret_can_make_us_give_up_for_good() -> None:
    one, other = authenticated()
    proved = body(other.refuse(RefusalCode.SECRET), Kind.REFUSE)
    assert one.refused(proved).fatal
    assert not one.refused(pack(["secret", "forged", 0.0, b""])).fatal


@pytest.mark.parametrize("pause", [math.nan, math.inf, -math.inf, -1.0, -1e-9])
def test_a_pause_that_is_no_duration_makes_the_refusal_worth_nothing(pause: float) -> None:
    one, other = authenticated()
    refused = one.refused(body(other.refuse(RefusalCode.BUSY, "full", pause), Kind.REFUSE))
    assert (refused.code, refused.retry_after, refused.authenticated) == ("busy", 0.0, False)


def test_a_code_of_a_later_version_is_taken_as_it_is() -> None:
    one, _ = introduced()
    assert isinstance(one.refused(pack(["later", "why"])), Refused)


# Malformed.

IDENTITY: list[Any] = ["alice", 1, 7, [8192, 4194304]]
NONCE = b"d" * 32


def identity(**changes: object) -> list[Any]:
    """Return the identity as it is on the wire, with some fields replaced."""
    fields: dict[str, object] = {"node": "alice", "incarnation": 1, "epoch": 7, "window": [8192, 4194304]}
    return list((fields | changes).values())


OPENINGS = [
    (pack([0, IDENTITY, NONCE]), "the peer speaks version 0 of the protocol, we speak 1"),
    (pack([2, IDENTITY, NONCE]), "the peer speaks version 2 of the protocol, we speak 1"),
    (pack([2**64 - 1, IDENTITY, NONCE]), "the peer speaks version 18446744073709551615"),
    (pack([1, identity(node=""), NONCE]), "a node id has 1 to 255 bytes"),
    (pack([1, identity(node="x" * 256), NONCE]), "a node id has 1 to 255 bytes"),
    (pack([1, identity(node="\N{EURO SIGN}" * 86), NONCE]), "a node id has 1 to 255 bytes"),
    (pack([1, identity(node="x" * 65536), NONCE]), "a node id has 1 to 255 bytes"),
    (pack([1, identity(node=7), NONCE]), "Expected `str`, got `int`"),
    (pack([1, IDENTITY, NONCE]).replace(b"alice", b"alic\xff"), "can't decode byte 0xff"),
    (pack([1, IDENTITY, NONCE]).replace(b"alice", b"al\xed\xa0\x80"), "can't decode byte 0xed"),
    (pack([1, identity(incarnation=-1), NONCE]), "epoch or incarnation is out of range"),
    (pack([1, identity(incarnation=2**63), NONCE]), "epoch or incarnation is out of range"),
    (pack([1, identity(incarnation=True), NONCE]), "Expected `int`, got `bool`"),
    (pack([1, identity(epoch=0), NONCE]), "epoch or incarnation is out of range"),
    (pack([1, identity(epoch=-1), NONCE]), "epoch or incarnation is out of range"),
    (pack([1, identity(epoch=1.5), NONCE]), "Expected `int`, got `float`"),
    (pack([1, identity(window=[0, 1]), NONCE]), "the window is out of range"),
    (pack([1, identity(window=[1, 0]), NONCE]), "the window is out of range"),
    (pack([1, identity(window=[2**20 + 1, 1]), NONCE]), "the window is out of range"),
    (pack([1, identity(window=[1, 2**30 + 1]), NONCE]), "the window is out of range"),
    (pack([1, identity(window=[1]), NONCE]), "of length 2"),
    (pack([1, IDENTITY, NONCE[1:]]), "a nonce has 32 bytes"),
    (pack([1, IDENTITY, NONCE + b"d"]), "a nonce has 32 bytes"),
    (pack([1, IDENTITY]), "Expected `array` of at least length 3"),
    (pack([1, IDENTITY, NONCE]) + b"\0", "trailing"),
    (pack({"version": 1}), "Expected `array`"),
    (b"", "truncated"),
    (b"\xc1", "malformed"),
    (b"\xdd\xff\xff\xff\xff", "truncated"),
    (b"\x93\x01\xdd\xff\xff\xff\xff", "truncated"),
    (pack([1, IDENTITY, NONCE, 1]), "Expected `array` of at most length 3"),
    (pack([1, [*IDENTITY, [], 1], NONCE]), "Expected `array` of at most length 5"),
    (pack([1, [*IDENTITY, 1], NONCE]), "Expected `array`, got `int`"),
    (pack([1, [*IDENTITY, [["key", 1]]], NONCE]), "Expected `str`, got `int`"),
    (pack([1, [*IDENTITY, [["k" * 512, "v" * 513]]], NONCE]), "metadata has at most 1024 bytes"),
    (b"\x94" + pack([1, IDENTITY, NONCE])[1:] + b"\x91" * 3000 + b"\x01", "of at most length 3"),
    (b"\x93" + b"\x91" * 4000 + b"\x01", "Expected `int`"),
]


@pytest.mark.parametrize(("hello", "why"), OPENINGS)
def test_a_malformed_hello_is_refused_with_the_reason(hello: bytes, why: str) -> None:
    with pytest.raises(HandshakeError) as caught:
        accepting().greeted(hello)
    assert why in str(caught.value)
    assert caught.value.fatal == ("speaks version" in why)


@pytest.mark.parametrize("node", ["x", "x" * 255, "\N{EURO SIGN}" * 85])
def test_the_longest_and_the_shortest_names_are_taken(node: str) -> None:
    other = accepting()
    welcome = other.greeted(
        pack([1, identity(node=node, epoch=2**64 - 1, incarnation=0, window=[2**20, 2**30]), NONCE])
    )
    assert body(welcome, Kind.WELCOME)


@pytest.mark.parametrize(
    ("welcome", "why"),
    [
        (pack([2, IDENTITY, NONCE, bytes(32)]), "speaks version 2"),
        (pack([1, identity(node=""), NONCE, bytes(32)]), "a node id has"),
        (pack([1, IDENTITY, b"", bytes(32)]), "a nonce has"),
        (pack([1, IDENTITY, NONCE]), "of at least length 4"),
        (pack([1, IDENTITY, NONCE, bytes(32)]), "does not know our secret"),
        (pack([1, IDENTITY, NONCE, b""]), "does not know our secret"),
        (pack([1, IDENTITY, NONCE, None]), "Expected `bytes`"),
        (b"\x95" + pack([1, IDENTITY, NONCE, b""])[1:] + b"\x91" * 3000 + b"\x01", "of at most length 4"),
    ],
)
def test_a_malformed_welcome_is_refused_with_the_reason(welcome: bytes, why: str) -> None:
    one = dialling()
    one.hello()
    with pytest.raises(HandshakeError) as caught:
        one.welcomed(welcome)
    assert why in str(caught.value)


CLAIMS: list[tuple[bytes, tuple[Any, ...], str]] = [
    (SESSION[1:], (0, 0), "a session id has 16 bytes"),
    (b"", (0, 0), "a session id has 16 bytes"),
    (SESSION, (-1, 0), "a received count is out of range"),
    (SESSION, (0, 2**63), "a received count is out of range"),
    (SESSION, (0,), "CLAIM is malformed"),
    (SESSION, (0, 0, 0), "CLAIM is malformed"),
    (SESSION, (0, 0.5), "CLAIM is malformed"),
    (SESSION, (math.nan, 0), "CLAIM is malformed"),
]


@pytest.mark.parametrize(("session", "received", "why"), CLAIMS)
def test_an_impossible_claim_is_refused_even_when_it_is_proved(
    session: bytes, received: tuple[int, int], why: str
) -> None:
    one, other = introduced()
    with pytest.raises(HandshakeError) as caught:
        other.proved(body(one.prove(session, received), Kind.PROOF))
    assert why in str(caught.value)
    one, other = authenticated()
    with pytest.raises(HandshakeError) as caught:
        one.accepted(body(other.accept(session, received), Kind.ACCEPT), session)
    assert why in str(caught.value)


@pytest.mark.parametrize("garbage", [b"", b"\x90", b"\x92\xc4\x00\xa0", b"\x91" * 4000, pack(["busy"]) + b"x", b"\xc1"])
def test_garbage_in_place_of_any_later_message_is_refused(garbage: bytes) -> None:
    one, other = authenticated()
    steps: list[Callable[[], object]] = [
        lambda: other.proved(garbage),
        lambda: other.bound(garbage),
        lambda: one.accepted(garbage, SESSION),
    ]
    for step in steps:
        with pytest.raises(HandshakeError):
            step()
    with pytest.raises(HandshakeError, match="REFUSAL is malformed"):
        one.refused(garbage)


def test_so_much_is_read_at_once_of_a_frame_as_the_shortest_one_has() -> None:
    identity = ["x", 0, 1, [1, 1], []]
    proved = pack([pack([bytes(16), [0, 0], False]), bytes(32)])
    shortest = {
        Kind.HELLO: pack([1, identity, bytes(32)]),
        Kind.WELCOME: pack([1, identity, bytes(32), bytes(32)]),
        Kind.PROOF: proved,
        Kind.BIND: bytes(32),
        Kind.ACCEPT: proved,
    }
    assert {kind: len(body) for kind, body in shortest.items()} == LEAST
