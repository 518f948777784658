"""SIP over TLS on loopback: whom a certificate speaks for, client certificates, reload, and handshakes that stall or fail."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sidecar.net import tls
from sidecar.net.errors import StartError
from sidecar.net.tls import TlsError, TlsSettings, check_domain
from sidecar.sip.flow import Flow
from sidecar.sip.uri import bracketed
from tests.shell.net.kit import LOOPBACK, Node, answer_to, closed, listen, message, node, raw, until
from tests.shell.net.test_tcp import QUICK


@dataclass
class Authority:
    """A certificate authority whose files lie in a folder."""

    folder: Path
    name: str = "ca"

    def __post_init__(self) -> None:
        self._ca = trustme.CA()
        self.file = self.folder / f"{self.name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def settings(self, *identities: str, name: str = "cert", ca: Path | None = None, **more: object) -> TlsSettings:
        """Settings that show a new certificate for `identities` and trust this authority."""
        issued = self._ca.issue_cert(*identities)
        path = self.folder / f"{name}.pem"
        path.write_bytes(issued.private_key_pem.bytes() + b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return TlsSettings(certificate=path, ca=ca or self.file, **more)  # type: ignore[arg-type]

    @property
    def client(self) -> TlsSettings:
        """Settings that only trust it."""
        return TlsSettings(ca=self.file)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls_flow(ours: Node, theirs: Node) -> Flow:
    return Flow("tls", ours.addr, theirs.addr)


@pytest.mark.parametrize("host", LOOPBACK.values(), ids=LOOPBACK)
async def test_a_request_and_its_answer_over_one_protected_connection(authority: Authority, host: str) -> None:
    server = authority.settings("sip.example.com")
    async with node(listen("udp", host), settings=authority.client) as ours, node(listen("tls", host), settings=server) as theirs:
        for number in range(3):
            ours.transports.send(message(str(number), "TLS", body=b"x" * 50_000), tls_flow(ours, theirs), "sip.example.com")
        came = await theirs.inbox.get(3)
        assert [data for data, _ in came] == [message(str(number), "TLS", body=b"x" * 50_000) for number in range(3)]
        flow = came[0][1]
        theirs.transports.send(answer_to(message("0", "TLS")), flow)
        ((data, back),) = await ours.inbox.get()
        assert (data, back) == (answer_to(message("0", "TLS")), tls_flow(ours, theirs))
        assert (ours.connections(), theirs.connections()) == ({"tls made": 1}, {"tls accepted": 1})
        (peer,) = ours.transports.describe()["peers"]  # type: ignore[misc]
        assert peer["remote"] == f"{bracketed(host)}:{theirs.addr[1]}"
        assert (peer["made_by"], peer["tls"]["version"], peer["tls"]["peer"]) == ("us", "TLSv1.3", ["sip.example.com"])


async def refused(settings: TlsSettings, server: TlsSettings, name: str) -> str:
    """Why a server of these settings is not talked to."""
    async with node(settings=settings) as ours, node(listen("tls"), settings=server) as theirs:
        ours.transports.send(message("one", "TLS"), tls_flow(ours, theirs), name)
        flow, detail = await ours.inbox.refusal()
        assert flow == tls_flow(ours, theirs)
        assert theirs.inbox.received == []
        return detail


async def test_a_certificate_for_another_domain_is_refused_before_a_word_is_said(authority: Authority) -> None:
    why = await refused(authority.client, authority.settings("other.example"), "sip.example.com")
    assert why == "tls: the certificate is not for sip.example.com but for other.example"


async def test_a_certificate_of_an_unknown_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    why = await refused(authority.client, stranger.settings("sip.example.com"), "sip.example.com")
    assert why.startswith("tls: certificate refused: ")


async def test_without_a_name_the_certificate_must_be_for_the_address(authority: Authority) -> None:
    why = await refused(authority.client, authority.settings("sip.example.com"), "")
    assert why == "tls: the certificate is not for 127.0.0.1 but for sip.example.com"
    async with node(settings=authority.client) as ours, node(listen("tls"), settings=authority.settings("127.0.0.1")) as theirs:
        ours.transports.send(message("one", "TLS"), tls_flow(ours, theirs))
        assert await theirs.inbox.get()


async def test_verification_can_be_switched_off(authority: Authority) -> None:
    async with (
        node(settings=TlsSettings(verify=False)) as ours,
        node(listen("tls"), settings=authority.settings("other.example")) as theirs,
    ):
        ours.transports.send(message("one", "TLS"), tls_flow(ours, theirs), "sip.example.com")
        assert await theirs.inbox.get()


async def test_a_connection_that_proved_one_domain_is_not_used_for_another(authority: Authority) -> None:
    server = authority.settings("one.example", "two.example")
    async with node(settings=authority.client) as ours, node(listen("tls"), settings=server) as theirs:
        for name in ("one.example", "two.example", "one.example"):
            ours.transports.send(message(name, "TLS"), tls_flow(ours, theirs), name)
        await theirs.inbox.get(3)
        assert ours.connections() == {"tls made": 2}


async def test_the_name_asked_for_is_told_by_sni(authority: Authority) -> None:
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.settings("sip.example.com").certificate or "")
    context.sni_callback = lambda _, name, __: asked.append(name)  # type: ignore[assignment]

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer_to(await reader.readuntil(b"\r\n\r\n")))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(peer, "127.0.0.1", 0, ssl=context) as server, node(settings=authority.client) as ours:
        ours.transports.send(message(), Flow("tls", ours.addr, server.sockets[0].getsockname()), "sip.example.com")
        await ours.inbox.get()
    assert asked == ["sip.example.com"]


async def test_versions_before_1_2_are_not_spoken(authority: Authority) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with node(listen("tls"), settings=authority.settings("sip.example.com")) as ours:
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(*ours.addr, ssl=old)
    context = tls.load(authority.settings("sip.example.com")).client
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(("mode", "shown", "taken"), [("required", True, True), ("required", False, False), ("optional", False, True)])
async def test_client_certificates(authority: Authority, mode: str, shown: bool, taken: bool) -> None:
    server = authority.settings("sip.example.com", clients=mode)
    client = authority.settings("caller.example", name="client") if shown else authority.client
    async with node(settings=client) as ours, node(listen("tls"), settings=server) as theirs:
        ours.transports.send(message("one", "TLS"), tls_flow(ours, theirs), "sip.example.com")
        if taken:
            assert await theirs.inbox.get()
        else:
            assert (await ours.inbox.refusal())[1].startswith("tls: ")
            assert theirs.inbox.received == []


async def test_a_reload_shows_the_new_certificate_and_leaves_live_connections_alone(authority: Authority) -> None:
    server = authority.settings("old.example")
    async with node(settings=authority.client) as ours, node(listen("tls"), settings=server) as theirs:
        ours.transports.send(message("one", "TLS"), tls_flow(ours, theirs), "old.example")
        await theirs.inbox.get(1)
        authority.settings("new.example")
        theirs.transports.reload()
        ours.transports.send(message("two", "TLS"), tls_flow(ours, theirs), "new.example")
        ours.transports.send(message("three", "TLS"), tls_flow(ours, theirs), "old.example")
        assert len(await theirs.inbox.get(3)) == 3
        assert ours.inbox.refused == []


async def test_a_reload_of_broken_files_is_refused_and_the_old_ones_stay(authority: Authority) -> None:
    server = authority.settings("sip.example.com")
    async with node(settings=authority.client) as ours, node(listen("tls"), settings=server) as theirs:
        (server.certificate or Path()).write_text("broken")
        with pytest.raises(StartError, match="not a certificate with its unencrypted key"):
            theirs.transports.reload()
        ours.transports.send(message("one", "TLS"), tls_flow(ours, theirs), "sip.example.com")
        assert await theirs.inbox.get()


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\x00\x01"])
async def test_a_handshake_that_stalls_is_ended(authority: Authority, first: bytes) -> None:
    async with node(listen("tls"), settings=authority.settings("a.example"), limits=QUICK) as ours, raw(ours.addr) as (reader, writer):
        writer.write(first)
        await closed(reader)
        await until(lambda: ours.transports.counts["handshake-stalled"] == 1)
        assert ours.connections() == {}


async def test_a_server_that_stalls_the_handshake_is_given_up(authority: Authority) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server, node(settings=authority.client, limits=QUICK) as ours:
        ours.transports.send(message(), Flow("tls", ours.addr, server.sockets[0].getsockname()), "a.example")
        assert (await ours.inbox.refusal())[1] == "handshake-stalled"


async def test_stalled_handshakes_count_against_the_bound_on_connections(authority: Authority) -> None:
    limits = replace(QUICK, per_source=2, timing=replace(QUICK.timing, setup=60.0))
    async with contextlib.AsyncExitStack() as stack:
        ours = await stack.enter_async_context(node(listen("tls"), settings=authority.settings("a.example"), limits=limits))
        peers = [await stack.enter_async_context(raw(ours.addr)) for _ in range(3)]
        assert await closed(peers[2][0]) == b""


async def test_plain_sip_on_the_tls_port_is_closed(authority: Authority) -> None:
    async with node(listen("tls"), settings=authority.settings("a.example")) as ours, raw(ours.addr) as (reader, writer):
        writer.write(message())
        await closed(reader)
        await until(lambda: not ours.connections())
        assert ours.inbox.received == []


async def test_the_tls_listener_needs_a_certificate() -> None:
    with pytest.raises(StartError, match=r"cannot listen on tls://127\.0\.0\.1:0: set sip\.tls\.certificate"):
        async with node(listen("tls")):
            pass


def test_files_that_are_not_usable_are_named(authority: Authority, tmp_path: Path) -> None:
    good = authority.settings("a.example")
    other = authority.settings("a.example", name="other")
    missing, empty, locked = tmp_path / "missing.pem", tmp_path / "empty.pem", tmp_path / "locked.pem"
    empty.write_text("")
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n")
    for settings, part in [
        (replace(good, certificate=missing), f"sip.tls.certificate {missing}: No such file"),
        (replace(good, certificate=empty), f"sip.tls.certificate {empty}: not a certificate"),
        (replace(good, key=other.certificate), f"sip.tls.key {other.certificate}: the key does not belong"),
        (replace(good, key=locked), f"sip.tls.key {locked}: not a certificate with its unencrypted key"),
        (replace(good, ca=missing), f"sip.tls.ca {missing}: No such file"),
        (replace(good, ca=empty), f"sip.tls.ca {empty}: no certificate in PEM form"),
        (TlsSettings(clients="required"), "sip.tls.clients needs sip.tls.certificate"),
    ]:
        with pytest.raises(StartError) as caught:
            tls.load(settings)
        assert part in str(caught.value)


# -- whom a certificate speaks for (RFC 5922 7) --------------------------------------------------------------------------------------------


def names(*pairs: tuple[str, str]) -> dict[str, object]:
    return {"subjectAltName": pairs, "subject": ((("commonName", "common.example"),),)}


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        (names(("DNS", "sip.example.com")), "SIP.Example.com."),
        (names(("URI", "sip:example.com"), ("DNS", "host.example.com")), "example.com"),
        (names(("URI", "SIP:Example.com")), "example.com"),
        (names(("URI", "https://www.example.com"), ("DNS", "example.com")), "example.com"),
        (names(("URI", "sip:bob@example.com"), ("DNS", "host.example")), "host.example"),
        (names(("IP Address", "0:0:0:0:0:0:0:1")), "::1"),
        ({"subject": ((("commonName", "Example.com"),),)}, "example.com"),
    ],
)
def test_rfc5922_7_1_identities_of_a_certificate(certificate: dict[str, object], name: str) -> None:
    check_domain(certificate, name)


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        (names(("URI", "sip:example.com"), ("DNS", "host.example.com")), "host.example.com"),  # DNS counts only without sip:
        (names(("URI", "sip:bob@example.com")), "example.com"),  # a person's
        (names(("URI", "sips:example.com")), "example.com"),  # 7.1: the scheme must be sip
        (names(("DNS", "other.example")), "common.example"),  # the common name only without alternatives
        (names(("DNS", "example.com")), "sub.example.com"),
        (names(("DNS", "sub.example.com")), "example.com"),
        (names(("DNS", "*.example.com")), "sip.example.com"),  # 7.2
        (names(("DNS", "192.0.2.1")), "192.0.2.2"),
        ({}, "example.com"),
    ],
)
def test_rfc5922_7_what_a_certificate_does_not_speak_for(certificate: dict[str, object], name: str) -> None:
    with pytest.raises(TlsError, match="the certificate is not for"):
        check_domain(certificate, name)


def test_wildcards_where_they_were_allowed_stand_for_one_label() -> None:
    certificate = names(("DNS", "*.example.com"))
    check_domain(certificate, "sip.example.com", wildcards=True)
    for name in ("example.com", "a.sip.example.com", "192.0.2.1"):
        with pytest.raises(TlsError):
            check_domain(certificate, name, wildcards=True)


async def test_a_certificate_whose_sip_uri_names_the_domain(tmp_path: Path) -> None:
    server = self_signed(tmp_path / "sip.pem", x509.UniformResourceIdentifier("sip:example.com"), x509.DNSName("host.example.com"))
    trusting = TlsSettings(ca=server.certificate)
    async with node(settings=trusting) as ours, node(listen("tls"), settings=server) as theirs:
        ours.transports.send(message("one", "TLS"), tls_flow(ours, theirs), "example.com")
        assert await theirs.inbox.get()
    why = await refused(trusting, server, "host.example.com")
    assert why == "tls: the certificate is not for host.example.com but for example.com"


def self_signed(path: Path, *identities: x509.GeneralName) -> TlsSettings:
    """A certificate that is its own authority; trustme makes none with URIs."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(identities), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    return TlsSettings(certificate=path)
