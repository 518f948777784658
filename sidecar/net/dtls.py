"""DTLS handshakes of media lines with OpenSSL, and the answers of a lite ICE agent (RFC 5763, RFC 5764, RFC 8445). Opens no socket."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from aioice import stun
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from sidecar.clocks import Addr
from sidecar.sip.dtls import Dtls, Ice
from sidecar.sip.sdes import Keys

_PROFILES: Final = {
    b"SRTP_AEAD_AES_256_GCM": ("AEAD_AES_256_GCM", 32, 12),
    b"SRTP_AEAD_AES_128_GCM": ("AEAD_AES_128_GCM", 16, 12),
    b"SRTP_AES128_CM_SHA1_80": ("AES_CM_128_HMAC_SHA1_80", 16, 14),
}
"""OpenSSL's names, in the order in which we want them: our name of the suite, octets of key and of salt (RFC 5764 4.1.2, RFC 7714 14.2)."""
_EXPORTER: Final = b"EXTRACTOR-dtls_srtp"
_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_HASHES: Final = {"sha-256": hashlib.sha256, "sha-384": hashlib.sha384, "sha-512": hashlib.sha512}
_RECORD_HEAD: Final = 13
_MTU: Final = 1200
"""Octets of DTLS in a datagram: what passes on every path."""
_READ: Final = 1 << 16
_VALID: Final = timedelta(days=3650)
"""Nobody looks: the description says which certificate it is."""


class Certificate(NamedTuple):
    """What we show in handshakes."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def fingerprint(self) -> str:
        """As it stands behind `a=fingerprint:`."""
        return f"sha-256 {self.certificate.fingerprint(hashes.SHA256()).hex(':').upper()}"


@functools.cache
def certificate() -> Certificate:
    """This process's own, made when it is needed first. It proves nothing by itself (RFC 5763 section 5)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "trunkside")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + _VALID)
    return Certificate(builder.sign(key, hashes.SHA256()), key)


class Association:
    """One end of a handshake and what comes of it. Octets that are to be sent are in the results of all methods, a datagram each."""

    def __init__(self, own: Certificate, dtls: Dtls) -> None:
        self._dtls = dtls
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)  # its fingerprint is looked at instead
        context.use_certificate(own.certificate)
        context.use_privatekey(own.key)
        context.set_cipher_list(_CIPHERS)
        context.set_tlsext_use_srtp(b":".join(_PROFILES))
        self._ssl = SSL.Connection(context)
        self._ssl.set_ciphertext_mtu(_MTU)
        if dtls.client:
            self._ssl.set_connect_state()
        else:
            self._ssl.set_accept_state()
        self.keys: Keys | None = None
        self.failed: str | None = None
        """Why there will be no keys."""

    @property
    def is_over(self) -> bool:
        """The handshake has ended, well or not."""
        return self.keys is not None or self.failed is not None

    def start(self) -> list[bytes]:
        """Begin, as a client."""
        return self._advance()

    def receive(self, datagram: bytes) -> list[bytes]:
        """Take a datagram of the other end."""
        if not datagram:
            return []
        self._ssl.bio_write(datagram)
        if not self.is_over:
            return self._advance()
        with contextlib.suppress(SSL.Error):  # a flight that was lost is asked for again, or the party takes its leave
            self._ssl.recv(_READ)
        return list(self._outgoing())

    def timeout(self) -> float | None:
        """Seconds until `on_time` is due; None: never."""
        return None if self.is_over else self._ssl.DTLSv1_get_timeout()

    def on_time(self) -> list[bytes]:
        """Send the last flight again, if its time has come."""
        if self.is_over:
            return []
        try:
            self._ssl.DTLSv1_handle_timeout()
        except SSL.Error:
            self.failed = "the other end of the handshake says nothing"
        return list(self._outgoing())

    def _advance(self) -> list[bytes]:
        try:
            self._ssl.do_handshake()
        except SSL.WantReadError:
            return list(self._outgoing())
        except SSL.Error as error:
            self.failed = f"handshake failed: {_reason(error)}"
            return list(self._outgoing())
        self._conclude()
        return list(self._outgoing())

    def _conclude(self) -> None:
        shown = self._ssl.get_peer_certificate(as_cryptography=True)
        encoded = b"" if shown is None else shown.public_bytes(serialization.Encoding.DER)
        if not all(_HASHES[name](encoded).digest() == value for name, value in self._dtls.fingerprints):
            self.failed = "the certificate is not the one that the description names"
            return
        profile = _PROFILES.get(self._ssl.get_selected_srtp_profile())
        if profile is None:
            self.failed = "no SRTP profile in common"
            return
        suite, key, salt = profile
        material = self._ssl.export_keying_material(_EXPORTER, 2 * (key + salt))
        # RFC 5764 4.2: the keys of client and server, then the salts of both.
        client = material[:key] + material[2 * key : 2 * key + salt]
        server = material[key : 2 * key] + material[2 * key + salt :]
        self.keys = Keys(suite, server, client) if self._dtls.client else Keys(suite, client, server)

    def _outgoing(self) -> Iterator[bytes]:
        """Records as they are to be sent: as many in a datagram as fit."""
        try:
            octets = self._ssl.bio_read(_READ)
        except SSL.Error:
            return
        datagram = b""
        while len(octets) >= _RECORD_HEAD:
            size = _RECORD_HEAD + int.from_bytes(octets[11:13])
            record, octets = octets[:size], octets[size:]
            if datagram and len(datagram) + size > _MTU:
                yield datagram
                datagram = b""
            datagram += record
        if datagram:
            yield datagram


class Check(NamedTuple):
    """A connectivity check that proved to be the party's: what to answer, and whether it wants to be reached where it came from."""

    answer: bytes
    nominates: bool


def checked(datagram: bytes, source: Addr, ice: Ice) -> Check | None:
    """What a STUN message asks; None where it is no binding request of the party's."""
    try:
        message = stun.parse_message(datagram)
    except (ValueError, IndexError, struct.error):  # what its reader makes of lengths that are none
        return None
    if message.message_method != stun.Method.BINDING or message.message_class != stun.Class.REQUEST:
        return None
    if message.attributes.get("USERNAME") != f"{ice.ufrag}:{ice.their_ufrag}" or not message.check_message_integrity(ice.pwd.encode()):
        return None
    answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=message.transaction_id)
    answer.attributes["XOR-MAPPED-ADDRESS"] = source
    answer.add_message_integrity(ice.pwd.encode())
    answer.add_fingerprint()
    return Check(bytes(answer), "USE-CANDIDATE" in message.attributes)


def _reason(error: SSL.Error) -> str:
    """What OpenSSL says last of what went wrong."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return str(queue[-1][-1]) if queue else type(error).__name__
