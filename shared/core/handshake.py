"""Mutual authentication of the two ends of a connection, and their agreement on the session it carries.

    dialling side                                  accepting side
        HELLO    who I am, nonce         ──────▶
                 ◀──────  WELCOME   who I am, nonce, proof
        PROOF    proof, session, received ─────▶
        BIND     proof (data channel)    ──────▶
                 ◀──────  ACCEPT    received, proof     or REFUSE

A proof is HMAC-SHA-256, under the mesh's secret, of a label and everything said so far: both nonces, both node ids,
incarnations and epochs, the connection's id and the version. The label names the role, so that no proof can be
reflected to its maker or stand for another one. ACCEPT and a REFUSE after authentication carry a proof as well: a
refusal counts for more than a lost connection only if it comes from somebody who knows the secret.

The handshake proves identities at its time. It does not protect the stream that follows.

Both sides are driven alike: a frame's body in, a frame's bytes out; ``HandshakeError`` when the peer cannot be
talked to.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum
from typing import TypeVar

import msgspec

from ..errors import HandshakeError
from . import frames
from .frames import LANES, VERSION, Kind

NONCE_SIZE = 32
MAX_METADATA = 1024
"""The most bytes of text that the metadata of a node may have, keys and values together."""

_PROOF_SIZE = 32
_MAX_NAME = 255
_MAX_COUNTER = 2**63 - 1
_MAX_WINDOW_MESSAGES = 2**20
_MAX_WINDOW_SIZE = 2**30


LEAST = {Kind.HELLO: 45, Kind.WELCOME: 79, Kind.PROOF: 60, Kind.BIND: _PROOF_SIZE, Kind.ACCEPT: 60}
"""The shortest body, in bytes, that each frame has as it is written here: so much is read of it with its header.

A REFUSE in place of another one may be shorter, and nothing follows it.
"""

AT_ONCE = {**LEAST, Kind.WELCOME: 512}
"""How much of the body of each frame is read with its header: nothing may follow a WELCOME before it was answered."""


class RefusalCode(StrEnum):
    """Why a connection was refused."""

    BUSY = "busy"  # too many connections; try again later
    DUPLICATE = "duplicate"  # both sides dialled, and the other connection wins
    STALE = "stale"  # a newer incarnation of the dialling node is known
    UNKNOWN = "unknown"  # the accepting side has not heard of the dialling node (yet)
    CLOSING = "closing"  # the accepting side is on its way out
    SECRET = "secret"  # the proof is wrong
    MISMATCH = "mismatch"  # not the node that was dialled, or the node itself


FATAL = frozenset({RefusalCode.SECRET})
"""Refusals that trying again cannot change, if they are authenticated."""


class Identity(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Who one end is. ``epoch`` is the random name of this incarnation; ``window`` is (messages, bytes).

    ``metadata`` is what an application wants its peers to know, as pairs of texts.
    """

    node: str
    incarnation: int
    epoch: int
    window: tuple[int, int]
    metadata: tuple[tuple[str, str], ...] = ()


class _Hello(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    identity: Identity
    nonce: bytes


class _Welcome(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    identity: Identity
    nonce: bytes
    proof: bytes


class _Proof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    claim: bytes  # an encoded _Claim
    proof: bytes


class _Claim(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    session: bytes
    received: tuple[int, int]
    resumes: bool = False


class _Accept(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    claim: bytes
    proof: bytes


class Refusal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Why not; ``retry_after`` is a pause in seconds that the accepting side asks for (0: none)."""

    code: str
    reason: str
    retry_after: float = 0.0
    proof: bytes = b""


class Offer(msgspec.Struct, frozen=True):
    """What an authenticated peer brings: who it is, the session it means, and what it has received in it, by lane.

    ``resumes`` if the session was established before: whoever has forgotten it may not take it for a new one (R19).
    """

    peer: Identity
    session: bytes
    received: tuple[int, int]
    resumes: bool = False


class Refused(HandshakeError):
    """The accepting side said no. ``authenticated`` tells whether it proved that it knows the secret.

    Without that proof it may be anybody: its pause does not count, and it cannot make us give up for good.
    """

    def __init__(self, refusal: Refusal, *, authenticated: bool) -> None:
        self.code = refusal.code
        self.retry_after = refusal.retry_after if authenticated else 0.0
        self.authenticated = authenticated
        text = f"refused ({refusal.code}): {refusal.reason}" if refusal.reason else f"refused ({refusal.code})"
        super().__init__(text, fatal=authenticated and refusal.code in FATAL)


# What msgspec raises for a stranger's bytes; for text that is not UTF-8 it is not an error of its own.
_MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError)

_encode = msgspec.msgpack.Encoder().encode
T = TypeVar("T")

# Made once: to find out anew how a type is decoded takes longer than decoding it.
_hello = msgspec.msgpack.Decoder(_Hello)
_welcome = msgspec.msgpack.Decoder(_Welcome)
_proof = msgspec.msgpack.Decoder(_Proof)
_claim = msgspec.msgpack.Decoder(_Claim)
_accept = msgspec.msgpack.Decoder(_Accept)
_refusal = msgspec.msgpack.Decoder(Refusal)


def _decode(body: bytes | bytearray, decoder: msgspec.msgpack.Decoder[T]) -> T:
    try:
        return decoder.decode(body)
    except _MALFORMED as error:
        raise HandshakeError(f"{decoder.type.__name__.strip('_').upper()} is malformed: {error}") from None


def _check_opening(said: _Hello | _Welcome) -> None:
    identity = said.identity
    if said.version != VERSION:
        raise HandshakeError(f"the peer speaks version {said.version} of the protocol, we speak {VERSION}", fatal=True)
    if not 0 < len(identity.node.encode()) <= _MAX_NAME:
        raise HandshakeError(f"a node id has 1 to {_MAX_NAME} bytes")
    if not (0 < identity.epoch < 2**64 and 0 <= identity.incarnation <= _MAX_COUNTER):
        raise HandshakeError("epoch or incarnation is out of range")
    messages, size = identity.window
    if not (1 <= messages <= _MAX_WINDOW_MESSAGES and 1 <= size <= _MAX_WINDOW_SIZE):
        raise HandshakeError("the window is out of range")
    if identity.metadata and sum(len(item.encode()) for pair in identity.metadata for item in pair) > MAX_METADATA:
        raise HandshakeError(f"metadata has at most {MAX_METADATA} bytes")
    if len(said.nonce) != NONCE_SIZE:
        raise HandshakeError(f"a nonce has {NONCE_SIZE} bytes")


def _check_claim(claim: _Claim) -> None:
    if len(claim.session) != 16:
        raise HandshakeError("a session id has 16 bytes")
    if len(claim.received) != LANES or not all(0 <= number <= _MAX_COUNTER for number in claim.received):
        raise HandshakeError("a received count is out of range")


class _Side:
    """What both sides share: the key and the transcript of what was said."""

    def __init__(self, secret: bytes, connection_id: bytes) -> None:
        self._secret = secret
        self._transcript = hashlib.sha256(b"meshvisor handshake" + connection_id)

    def _say(self, body: bytes) -> None:
        self._transcript.update(len(body).to_bytes(4, "big") + body)

    def _proof(self, label: bytes, extra: bytes = b"") -> bytes:
        return hmac.digest(self._secret, label + self._transcript.digest() + extra, "sha256")

    def _verify(self, proof: bytes, label: bytes, extra: bytes = b"") -> bool:
        return hmac.compare_digest(proof, self._proof(label, extra))


class DiallingSide(_Side):
    """The handshake as the dialling side sees it.

    Send ``hello()``; pass WELCOME to ``welcomed``; send ``prove(...)`` on the control and ``bind()`` on the data
    channel; pass ACCEPT to ``accepted``, and REFUSE at any time to ``refused``.
    """

    def __init__(self, me: Identity, *, secret: bytes, connection_id: bytes, nonce: bytes) -> None:
        super().__init__(secret, connection_id)
        self._me = me
        self._nonce = nonce
        self._authenticated = False

    def hello(self) -> bytes:
        """Return the HELLO frame."""
        body = _encode(_Hello(VERSION, self._me, self._nonce))
        self._say(body)
        return frames.encode(Kind.HELLO, body)

    def welcomed(self, body: bytes | bytearray) -> Identity:
        """Check WELCOME and return who answered.

        Raises:
            HandshakeError: If it is malformed or of another version, or (fatal) does not prove the secret.
        """
        welcome = _decode(body, _welcome)
        _check_opening(welcome)
        self._say(_encode(msgspec.structs.replace(welcome, proof=b"")))
        if not self._verify(welcome.proof, b"accepting side"):
            raise HandshakeError("the accepting side does not know our secret", fatal=True)
        self._authenticated = True
        return welcome.identity

    def prove(self, session: bytes, received: tuple[int, int], *, resumes: bool = False) -> bytes:
        """Return the PROOF frame for ``session``, of which we have ``received`` so much on each lane."""
        claim = _encode(_Claim(session, received, resumes))
        return frames.encode(Kind.PROOF, _encode(_Proof(claim, self._proof(b"dialling side", claim))))

    def bind(self) -> bytes:
        """Return the BIND frame, which goes out on the data channel."""
        return frames.encode(Kind.BIND, self._proof(b"data channel"))

    def accepted(self, body: bytes | bytearray, session: bytes) -> tuple[int, int]:
        """Check ACCEPT and return what the peer has received of ``session``, by lane.

        Raises:
            HandshakeError: If it is malformed, not proved, or for another session.
        """
        accept = _decode(body, _accept)
        if not self._verify(accept.proof, b"accepted", accept.claim):
            raise HandshakeError("ACCEPT is not proved")
        claim = _decode(accept.claim, _claim)
        _check_claim(claim)
        if claim.session != session:
            raise HandshakeError("ACCEPT is for another session")
        return claim.received

    def refused(self, body: bytes | bytearray) -> Refused:
        """Return the error that a REFUSE frame stands for."""
        refusal = _decode(body, _refusal)
        if not 0 <= refusal.retry_after < float("inf"):
            return Refused(Refusal(refusal.code, "with a malformed pause"), authenticated=False)
        bare = _encode(msgspec.structs.replace(refusal, proof=b""))
        authenticated = self._authenticated and self._verify(refusal.proof, b"refused", bare)
        return Refused(refusal, authenticated=authenticated)


class AcceptingSide(_Side):
    """The handshake as the accepting side sees it.

    Pass HELLO to ``greeted`` and send what it returns; pass PROOF to ``proved`` and BIND to ``bound``; then send
    ``accept`` or, at any time, ``refuse``.
    """

    def __init__(self, me: Identity, *, secret: bytes, connection_id: bytes, nonce: bytes) -> None:
        super().__init__(secret, connection_id)
        self._me = me
        self._nonce = nonce
        self._peer: Identity | None = None
        self._authenticated = False

    def greeted(self, body: bytes | bytearray) -> bytes:
        """Check HELLO and return the WELCOME frame.

        Raises:
            HandshakeError: If it is malformed or of another version.
        """
        hello = _decode(body, _hello)
        _check_opening(hello)
        self._say(bytes(body))
        self._peer = hello.identity
        bare = _Welcome(VERSION, self._me, self._nonce, b"")
        self._say(_encode(bare))
        proof = self._proof(b"accepting side")
        return frames.encode(Kind.WELCOME, _encode(msgspec.structs.replace(bare, proof=proof)))

    def proved(self, body: bytes | bytearray) -> Offer:
        """Check PROOF and return what the peer offers.

        Raises:
            HandshakeError: If it is malformed or (fatal) does not prove the secret.
        """
        assert self._peer is not None
        proof = _decode(body, _proof)
        if not self._verify(proof.proof, b"dialling side", proof.claim):
            raise HandshakeError("the dialling side does not know our secret", fatal=True)
        self._authenticated = True
        claim = _decode(proof.claim, _claim)
        _check_claim(claim)
        return Offer(self._peer, claim.session, claim.received, claim.resumes)

    def bound(self, body: bytes | bytearray) -> None:
        """Check BIND.

        Raises:
            HandshakeError: If it does not prove that the data channel belongs to this connection.
        """
        if len(body) != _PROOF_SIZE or not self._verify(bytes(body), b"data channel"):
            raise HandshakeError("the data channel does not belong to this connection")

    def accept(self, session: bytes, received: tuple[int, int]) -> bytes:
        """Return the ACCEPT frame for ``session``, of which we have ``received`` so much on each lane."""
        claim = _encode(_Claim(session, received))
        return frames.encode(Kind.ACCEPT, _encode(_Accept(claim, self._proof(b"accepted", claim))))

    def refuse(self, code: RefusalCode, reason: str = "", retry_after: float = 0.0) -> bytes:
        """Return the REFUSE frame; it carries a proof once the peer has proved itself."""
        # A float, always: the other side proves what it decoded, and it decodes a float.
        refusal = Refusal(code, reason, float(retry_after))
        if self._authenticated:
            refusal = msgspec.structs.replace(refusal, proof=self._proof(b"refused", _encode(refusal)))
        return frames.encode(Kind.REFUSE, _encode(refusal))
