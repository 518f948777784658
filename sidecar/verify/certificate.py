"""The facts of a server's certificate, and whether it is one that a careful caller would believe."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from sidecar.clocks import Addr
from sidecar.net import tls
from sidecar.net.clock import wall
from sidecar.net.tcp import reason_of
from sidecar.net.tls import TlsError, TlsSettings
from sidecar.verify.findings import Finding, finding
from sidecar.verify.steps import Facts

SOON_DAYS = 14
_PLAIN_TEXT = frozenset(("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"))
_EXPIRED, _NOT_YET = 10, 9
"""OpenSSL's numbers of verification errors."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a handshake showed. `findings` is empty when the certificate is good."""

    facts: Facts
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether a caller that checks certificates gets through."""
        return all(found.name == "tls_expires_soon" for found in self.findings)


async def inspect(remote: Addr, name: str, settings: TlsSettings, within: float) -> Inspected:
    """Shake hands with `remote`, once believing anybody to see what it shows, once with care. `name` is whom it must prove to be.

    Raises StartError when the files of `settings` cannot be used.
    """
    careful = tls.load(settings).client
    credulous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    credulous.check_hostname = False
    credulous.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(within):
            shown, protocol = await _shake(remote, name, credulous)
    except (OSError, TimeoutError) as error:
        return Inspected((), (_no_tls(remote, error, within),))
    if shown is None:
        return Inspected(protocol, (_no_tls(remote, ConnectionError("it shows no certificate"), within),))
    certificate = x509.load_der_x509_certificate(shown)
    findings = tuple(_doubts(certificate, name, settings))
    if settings.verify and not any(found.name == "tls_expired" for found in findings):
        try:
            async with asyncio.timeout(within):
                await _shake(remote, name, careful)
        except ssl.SSLCertVerificationError as error:
            findings = (_untrusted(certificate, error), *findings)
        except (OSError, TimeoutError) as error:
            findings = (_no_tls(remote, error, within), *findings)
    fits = "no" if any(found.name == "tls_name" for found in findings) else "yes"
    return Inspected((*protocol, *_facts(certificate), ("speaks for " + name, fits)), findings)


async def _shake(remote: Addr, name: str, context: ssl.SSLContext) -> tuple[bytes | None, Facts]:
    """The certificate in DER, and what was agreed. OpenSSL sends no name to a server that is dialled by address."""
    _, writer = await asyncio.open_connection(*remote, ssl=context, server_hostname=name)
    try:
        secured = writer.get_extra_info("ssl_object")
        cipher = secured.cipher()
        return secured.getpeercert(binary_form=True), (("protocol", f"{secured.version()}, {cipher[0] if cipher else 'no cipher'}"),)
    finally:
        # Not close: a server that waits for more would keep the goodbye waiting.
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _facts(certificate: x509.Certificate) -> Facts:
    return (
        ("subject", certificate.subject.rfc4514_string() or "none"),
        ("names", ", ".join(f"{kind}:{value}" for kind, value in _names(certificate)) or "none"),
        ("issuer", certificate.issuer.rfc4514_string() or "none"),
        ("valid", f"{_day(certificate.not_valid_before_utc)} to {_day(certificate.not_valid_after_utc)}"),
    )


def _names(certificate: x509.Certificate) -> Iterator[tuple[str, str]]:
    """Alternative names under the labels of `ssl.getpeercert`."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return
    yield from (("DNS", value) for value in names.get_values_for_type(x509.DNSName))
    yield from (("URI", value) for value in names.get_values_for_type(x509.UniformResourceIdentifier))
    yield from (("IP Address", str(value)) for value in names.get_values_for_type(x509.IPAddress))


def _doubts(certificate: x509.Certificate, name: str, settings: TlsSettings) -> Iterator[Finding]:
    """What is wrong with the certificate itself, whoever signed it."""
    now = datetime.fromtimestamp(wall(), UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now <= end:
        yield finding("tls_expired", begin=_day(begin), end=_day(end))
    elif (left := (end - now).days) < SOON_DAYS:
        yield finding("tls_expires_soon", days=left, end=_day(end))
    common = tuple((("commonName", str(part.value)),) for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
    readable = {"subjectAltName": tuple(_names(certificate)), "subject": common}
    try:
        tls.check_domain(readable, name, wildcards=settings.wildcards)
    except TlsError:
        names = ", ".join(sorted(tls.domains(readable))) or "nobody"
        yield finding("tls_name", name=name, names=names)


def _untrusted(certificate: x509.Certificate, error: ssl.SSLCertVerificationError) -> Finding:
    if error.verify_code in (_EXPIRED, _NOT_YET):
        # The server's own is in order, so it is one above it.
        return finding("tls_untrusted", why="a certificate of its issuers is out of date", issuer=certificate.issuer.rfc4514_string())
    return finding("tls_untrusted", why=error.verify_message, issuer=certificate.issuer.rfc4514_string())


def _no_tls(remote: Addr, error: OSError | TimeoutError, within: float) -> Finding:
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    if reason is not None and "CERTIFICATE_REQUIRED" in reason:
        return finding("tls_client_certificate")
    why = f"no answer to the handshake within {within:g} s" if isinstance(error, TimeoutError) else reason_of(error)
    mend = "check the edge's TLS settings: version 1.2 or later and a certificate are needed"
    if reason in _PLAIN_TEXT:
        why, mend = "what answers is not TLS", "add ;transport=tcp to the URI in place of tls, or give the TLS port"
    return finding("not_tls", addr=remote[0], port=remote[1], why=why, mend=mend)


def _day(moment: datetime) -> str:
    return moment.date().isoformat()
