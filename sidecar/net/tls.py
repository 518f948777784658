"""TLS for SIP: contexts from the configured files, a pipe without sockets, whom a certificate speaks for (RFC 3261 26.3.1, RFC 5922)."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from sidecar.net.errors import StartError
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.uri import SipUri

_CHUNK = 65536
_CLIENTS = {"ignored": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The `sip.tls` section. Certificate and key are PEM files; the same pair is shown to servers that ask for one."""

    certificate: Path | None = None
    """The chain, ours first."""
    key: Path | None = None
    """None: the key is in the certificate's file."""
    ca: Path | None = None
    """Who vouches for our peers; None: the system's authorities."""
    verify: bool = True
    """Whether a server that we dial must prove its domain. False accepts anybody: for a laboratory."""
    clients: Literal["ignored", "optional", "required"] = "ignored"
    """Whether those who dial us show a certificate of `ca`."""
    wildcards: bool = False
    """Whether `*.example.com` speaks for one label more. RFC 5922 7.2 forbids it; some providers have nothing else."""


@dataclass(frozen=True, slots=True)
class Contexts:
    """What new connections are made with. A reload makes another one; connections keep theirs."""

    client: ssl.SSLContext
    server: ssl.SSLContext | None
    """None: without a certificate nobody can dial us."""
    settings: TlsSettings


class TlsError(Exception):
    """The handshake or the protected stream failed. The text is one line for the trace."""


def load(settings: TlsSettings) -> Contexts:
    """Read the files. StartError names the file and what is wrong with it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.minimum_version = ssl.TLSVersion.TLSv1_2
    # The name is checked by `check_domain`: OpenSSL knows neither sip: names in a certificate nor that SIP forbids wildcards.
    client.check_hostname = False
    client.verify_mode = ssl.CERT_REQUIRED if settings.verify else ssl.CERT_NONE
    _trust(client, settings.ca)
    if settings.certificate is None:
        if settings.clients != "ignored":
            raise StartError("sip.tls.clients needs sip.tls.certificate: without one nobody can dial us over TLS")
        return Contexts(client, None, settings)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.minimum_version = ssl.TLSVersion.TLSv1_2
    server.options |= ssl.OP_NO_RENEGOTIATION
    server.verify_mode = _CLIENTS[settings.clients]
    if settings.clients != "ignored":
        _trust(server, settings.ca)
    for context in (client, server):
        _show(context, settings.certificate, settings.key)
    return Contexts(client, server, settings)


def follow(server: ssl.SSLContext, current: Callable[[], Contexts]) -> None:
    """Have a server's context that was handed out once show at each handshake the certificate that is then in force."""

    def choose(handshake: ssl.SSLObject, _: str | None, context: ssl.SSLContext) -> None:
        handshake.context = current().server or context

    server.sni_callback = choose


def _trust(context: ssl.SSLContext, ca: Path | None) -> None:
    if ca is None:
        context.load_default_certs()
        return
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        raise StartError(f"sip.tls.ca {ca}: {_why(error, 'no certificate in PEM form')}") from error


def _show(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        # The password keeps OpenSSL from asking for one on a terminal.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError) as error:
        files = f"sip.tls.certificate {certificate}" + (f" with sip.tls.key {key}" if key else "")
        raise StartError(f"{files}: {_why(error, 'not a certificate with its unencrypted key in PEM form')}") from error


def _why(error: OSError, otherwise: str) -> str:
    if isinstance(error, ssl.SSLError):
        return "the key does not belong to the certificate" if error.reason == "KEY_VALUES_MISMATCH" else otherwise
    return error.strerror or str(error)


class TlsPipe:
    """One end of a TLS connection, octets in, octets out. After every call `outgoing` is to be put on the wire, also when it raised."""

    def __init__(self, contexts: Contexts, *, server: bool, name: str = "") -> None:
        """`name` is the domain or IP literal that the other end must prove, and what it hears by SNI; a server leaves it empty."""
        context = contexts.server if server else contexts.client
        if context is None:
            raise TlsError("no certificate to show")
        self._settings = contexts.settings
        self._server = server
        self._name = name
        self._from_wire = ssl.MemoryBIO()
        self._to_wire = ssl.MemoryBIO()
        sni = None if server or not name or _literal(name) else name.rstrip(".")
        try:
            self._tls = context.wrap_bio(self._from_wire, self._to_wire, server_side=server, server_hostname=sni)
        except ValueError as error:
            raise TlsError(f"{name} is no host name") from error
        self.established = False
        self.ended = False
        """The peer said that nothing more comes."""

    def start(self) -> None:
        """The client's hello."""
        self._shake()

    def receive(self, data: bytes) -> bytes:
        """Octets of the wire; what they mean once the handshake is over. Raises TlsError, after which the connection is to be closed."""
        self._from_wire.write(data)
        if not self.established and not self._shake():
            return b""
        plain: list[bytes] = []
        try:
            while chunk := self._tls.read(_CHUNK):
                plain.append(chunk)
            self.ended = True
        except ssl.SSLWantReadError:
            pass  # that was all
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            raise TlsError(_text(error)) from error
        return b"".join(plain)

    def send(self, plain: bytes) -> None:
        """Protect octets. Raises TlsError."""
        try:
            self._tls.write(plain)
        except ssl.SSLError as error:
            raise TlsError(_text(error)) from error

    def close(self) -> None:
        """Say that nothing more comes."""
        if self.established:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                return  # the peer's goodbye is not waited for

    def outgoing(self) -> bytes:
        """What the wire is owed."""
        return self._to_wire.read()

    def describe(self) -> dict[str, object]:
        """Version, cipher, and the peer's identities."""
        cipher = self._tls.cipher()
        return {"version": self._tls.version(), "cipher": cipher[0] if cipher else None, "peer": sorted(domains(self._certificate()))}

    def _shake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise TlsError(_text(error)) from error
        if not self._server and self._settings.verify:
            check_domain(self._certificate(), self._name, wildcards=self._settings.wildcards)
        self.established = True
        return True

    def _certificate(self) -> Mapping[str, Any]:
        return self._tls.getpeercert() or {}


def check_domain(certificate: Mapping[str, Any], name: str, *, wildcards: bool = False) -> None:
    """Whether the certificate speaks for `name`, whole and without regard to case (RFC 5922 7.2, 7.3). TlsError when not."""
    literal = _literal(name)
    name = literal or name.rstrip(".").lower()
    found = set(domains(certificate))
    parent = name.partition(".")[2]
    if name in found or (wildcards and parent and not literal and f"*.{parent}" in found):
        return
    raise TlsError(f"the certificate is not for {name} but for {', '.join(sorted(found)) or 'nobody'}")


def domains(certificate: Mapping[str, Any]) -> Iterator[str]:
    """The SIP domain identities of a certificate as `getpeercert` gives it, in lower case (RFC 5922 7.1), and its IP addresses.

    sip: URIs without a user count; DNS names only where there are none of these; the common name only without any alternative name.
    """
    names: tuple[tuple[str, str], ...] = certificate.get("subjectAltName", ())
    if not names:
        subject: tuple[tuple[tuple[str, str], ...], ...] = certificate.get("subject", ())
        yield from (value.lower() for rdn in subject for key, value in rdn if key == "commonName")
        return
    sip = [host for kind, value in names if kind == "URI" and (host := _sip_domain(value))]
    yield from sip or (value.lower() for kind, value in names if kind == "DNS")
    yield from (literal for kind, value in names if kind == "IP Address" and (literal := _literal(value)))


def _sip_domain(value: str) -> str | None:
    try:
        uri = SipUri.parse(value)
    except MalformedMessage:
        return None
    # A URI with a user part is a person's certificate, not a domain's.
    return uri.host.lower() if uri.scheme == "sip" and uri.user is None else None


def _literal(text: str) -> str | None:
    """An IP address in its shortest spelling, None for anything else."""
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _text(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    return (error.reason or "connection broken").lower().replace("_", " ")
