"""`trunkside verify` against edges that each have one thing wrong: the whole output, held against golden files.

Set GOLDEN=write to write them anew after a change of words, and read what changed.
"""

from __future__ import annotations

import asyncio
import datetime
import io
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from rich.console import Console

from sidecar.identity.digest import Credentials
from sidecar.lab.agent import Agent
from sidecar.lab.challenge import Challenge
from sidecar.lab.script import AgentScript
from sidecar.net.dns import Resolver
from sidecar.net.tls import TlsSettings
from sidecar.sip.message import Request, Response, response_to
from sidecar.verify.run import verify
from sidecar.verify.steps import Report
from sidecar.verify.view import View
from tests.shell.verify.edges import TAG, Edge, closed, good, on_invite, running, silent
from tests.support.dns_server import DnsServer

GOLDEN = Path(__file__).parent / "golden"
PASSWORD = "correct horse"
PATIENCE = 0.6
_UNSTABLE = (
    (r" +\d+ ms", " N ms"),
    (r"127(\.\d+){3}", "ADDRESS"),
    (r"\b(port|ports) \d+", r"\1 PORT"),
    (r"(ADDRESS|\.example):\d+", r"\1:PORT"),
    (r"(SRV .*?|udp: )0 0 \d+", r"\g<1>0 0 PORT"),
    (r"[0-9a-f]{32}", "CALL-ID"),
    (r"\d{4}-\d\d-\d\d", "DATE"),
    (r"in \d+ days", "in N days"),
    (r"#[\w-]+", "#SERIAL"),
    (r"trustme v[\d.]+", "trustme"),
    (r"(TLSv[\d.]+), \S+", r"\1, CIPHER"),
)


def stable(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, put in _UNSTABLE:
        text = re.sub(pattern, put, text)
    return text


async def shown(
    name: str, uri: str, credentials: Credentials | None = None, *, resolver: Resolver | None = None, tls: TlsSettings | None = None
) -> Report:
    """Verify, and compare what a user sees with the golden file `name`."""
    out = io.StringIO()
    view = View(Console(file=out, width=120))
    report = await verify(
        uri, credentials, timeout_s=PATIENCE, resolver=resolver or Resolver(hosts=None), tls=tls or TlsSettings(), progress=view.step
    )
    view.conclude(report)
    seen, file = stable(out.getvalue()), GOLDEN / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        file.write_text(seen, encoding="utf-8")
    assert seen == file.read_text(encoding="utf-8")
    return report


def to(edge: Edge, more: str = "") -> str:
    return f"sip:agent@{edge.addr[0]}:{edge.addr[1]}{more}"


def causes(report: Report) -> list[str]:
    return [found.name for found in report.findings]


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with DnsServer() as running_server:
        yield running_server


@pytest.fixture
def resolver(server: DnsServer) -> Resolver:
    return Resolver(nameservers=[server.addr], hosts=None)


# -- a call that works ---------------------------------------------------------------------------------------------------------------------


async def agent_answers(name: str, credentials: Credentials | None, algorithm: str = "SHA-256") -> tuple[Report, Agent]:
    """The lab's own agent behind a digest challenge."""
    challenge = Challenge("agent-edge", "alice", PASSWORD, algorithm="MD5" if algorithm == "MD5" else "SHA-256")
    agent = Agent(AgentScript(), challenge=challenge)
    async with asyncio.TaskGroup() as tasks:
        try:
            await agent.start(tasks)
            host, port = agent.ua.address
            report = await shown(name, f"sip:agent@{host}:{port}", credentials)
            for conversation in agent.conversations:
                await asyncio.wait_for(conversation.done.wait(), 2)
            return report, agent
        finally:
            await agent.stop()


async def test_an_edge_that_works_is_fine_and_hears_a_polite_end() -> None:
    report, agent = await agent_answers("fine", Credentials("alice", PASSWORD))
    assert report.fine
    assert report.exit_status == 0
    (conversation,) = agent.conversations
    invite = conversation.incoming.request
    assert invite.call_id == report.call_id
    assert invite.headers.get("User-Agent") == "trunkside-verify"
    assert b"m=audio" in invite.body
    assert b"RTP/AVP 9 0 8 101" in invite.body
    assert conversation.call is not None
    assert conversation.call.acknowledged.is_set()
    assert conversation.call.ended.is_set()
    assert not conversation.call.ended_by_us


async def test_only_a_few_packets_of_silence_are_sent() -> None:
    async with running() as edge:
        report = await verify(to(edge), timeout_s=PATIENCE)
        assert report.fine
        assert edge.methods == ["1 OPTIONS", "1 INVITE", "1 ACK", "2 BYE"]
        assert 1 <= len(edge.heard) <= 5
        assert {len(packet) for packet in edge.heard} == {172}
        assert {packet[12:] for packet in edge.heard} == {b"\xff" * 160}


@pytest.mark.parametrize("transport", ["tcp"])
async def test_a_stream_carries_the_whole_call(transport: str) -> None:
    async with running(transport=transport) as edge:
        report = await verify(to(edge, f";transport={transport}"), timeout_s=PATIENCE)
        assert report.fine
        assert edge.methods == ["1 OPTIONS", "1 INVITE", "1 ACK", "2 BYE"]


async def test_no_password_or_digest_response_is_ever_reported() -> None:
    report, _ = await agent_answers("fine", Credentials("alice", PASSWORD))
    assert PASSWORD not in str(report.as_json())
    assert "response=" not in str(report.as_json())


# -- credentials ---------------------------------------------------------------------------------------------------------------------------


async def test_a_wrong_password() -> None:
    report, agent = await agent_answers("wrong_password", Credentials("alice", "not it"))
    assert causes(report) == ["credentials_refused"]
    assert report.exit_status == 1
    assert not agent.conversations


async def test_credentials_that_are_wanted_and_not_given() -> None:
    report, _ = await agent_answers("no_credentials", None, "MD5")
    assert causes(report) == ["credentials_missing"]


# -- the way there -------------------------------------------------------------------------------------------------------------------------


async def test_a_host_that_does_not_resolve(resolver: Resolver) -> None:
    report = await shown("wrong_host", "sip:agent@nowhere.example", resolver=resolver)
    assert causes(report) == ["host_unknown"]


async def test_name_servers_that_do_not_answer(server: DnsServer, resolver: Resolver) -> None:
    server.silent = True
    assert causes(await shown("no_name_server", "sip:agent@voice.example", resolver=resolver)) == ["dns_failed"]


async def test_a_closed_port() -> None:
    host, port = closed()
    report = await shown("closed_port", f"sip:agent@{host}:{port}")
    assert causes(report) == ["udp_closed"]


async def test_a_closed_default_port_of_a_host_without_srv(server: DnsServer, resolver: Resolver) -> None:
    server.add("voice.example", "A", closed()[0])
    report = await shown("closed_port_without_srv", "sip:agent@voice.example", resolver=resolver)
    assert report.findings[0].cause.startswith("host voice.example has no SRV record and nothing listens on UDP port 5060 of")


async def test_every_candidate_of_srv_is_shown_and_the_dead_one_named(server: DnsServer, resolver: Resolver) -> None:
    dead_host, dead_port = closed()
    async with running() as edge:
        server.add("_sip._udp.voice.example", "SRV", f"0 0 {dead_port} one.example.", f"1 0 {edge.addr[1]} two.example.")
        server.add("one.example", "A", dead_host)
        server.add("two.example", "A", edge.addr[0])
        report = await verify("sip:agent@voice.example", timeout_s=PATIENCE, resolver=resolver)
    resolved = next(step for step in report.steps if step.name == "resolve")
    assert resolved.detail == f"udp:{dead_host}:{dead_port}, then udp:{edge.addr[0]}:{edge.addr[1]}"
    assert causes(report) == ["first_target_dead"]
    assert "2 BYE" in edge.methods


async def test_an_edge_that_only_speaks_tcp() -> None:
    async with running(transport="tcp") as edge:
        report = await shown("tcp_only", to(edge))
        assert report.findings[0].mend == "add ;transport=tcp to the URI"
        assert edge.methods == ["1 OPTIONS"]


async def test_an_edge_that_only_speaks_udp() -> None:
    async with running() as edge:
        report = await shown("udp_only", to(edge, ";transport=tcp"))
        assert report.findings[0].mend == "take ;transport=tcp off the URI"


# -- TLS -----------------------------------------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority for one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self._ca.cert_pem.write_to_path(folder / "ca.pem")
        self.trusted = TlsSettings(ca=folder / "ca.pem")

    def server(self, *names: str, until: datetime.datetime | None = None) -> TlsSettings:
        """Settings of a server with a certificate for these names."""
        issued = self._ca.issue_cert(*names, not_after=until)
        path = self._folder / "server.pem"
        path.write_bytes(issued.private_key_pem.bytes() + b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return TlsSettings(certificate=path)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def over_tls(server: DnsServer, edge: Edge) -> str:
    server.add("voice.example", "A", edge.addr[0])
    return f"sip:agent@voice.example:{edge.addr[1]};transport=tls"


async def test_a_certificate_that_fits(authority: Authority, server: DnsServer, resolver: Resolver) -> None:
    async with running(transport="tls", settings=authority.server("voice.example")) as edge:
        report = await shown("tls_fine", await over_tls(server, edge), resolver=resolver, tls=authority.trusted)
        assert report.fine
        assert edge.methods == ["1 OPTIONS", "1 INVITE", "1 ACK", "2 BYE"]


async def test_sips_is_dialled_over_tls_with_a_sips_contact(authority: Authority, server: DnsServer, resolver: Resolver) -> None:
    async with running(transport="tls", settings=authority.server("voice.example")) as edge:
        server.add("voice.example", "A", edge.addr[0])
        uri = f"sips:agent@voice.example:{edge.addr[1]}"
        report = await verify(uri, timeout_s=PATIENCE, resolver=resolver, tls=authority.trusted)
        assert report.fine
        invite = next(request for request in edge.requests if request.method == "INVITE")
        assert invite.uri == uri
        assert invite.contact is not None
        assert invite.contact.uri.startswith("sips:")


async def test_a_certificate_for_another_name(authority: Authority, server: DnsServer, resolver: Resolver) -> None:
    async with running(transport="tls", settings=authority.server("inside.example", "pbx.example")) as edge:
        report = await shown("tls_wrong_name", await over_tls(server, edge), resolver=resolver, tls=authority.trusted)
        assert causes(report) == ["tls_name"]
        assert edge.methods == []


async def test_a_certificate_of_an_unknown_authority(authority: Authority, server: DnsServer, resolver: Resolver) -> None:
    async with running(transport="tls", settings=authority.server("voice.example")) as edge:
        assert causes(await shown("tls_untrusted", await over_tls(server, edge), resolver=resolver)) == ["tls_untrusted"]


async def test_a_certificate_that_is_over(authority: Authority, server: DnsServer, resolver: Resolver) -> None:
    over = datetime.datetime(2024, 1, 1)
    async with running(transport="tls", settings=authority.server("voice.example", until=over)) as edge:
        report = await shown("tls_expired", await over_tls(server, edge), resolver=resolver, tls=authority.trusted)
        assert causes(report) == ["tls_expired"]


async def test_a_certificate_that_is_soon_over_lets_the_call_through(authority: Authority, server: DnsServer, resolver: Resolver) -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3)
    async with running(transport="tls", settings=authority.server("voice.example", until=soon)) as edge:
        report = await verify(await over_tls(server, edge), timeout_s=PATIENCE, resolver=resolver, tls=authority.trusted)
        assert causes(report) == ["tls_expires_soon"]
        assert "2 BYE" in edge.methods


async def test_tls_dialled_at_a_port_that_speaks_tcp(server: DnsServer, resolver: Resolver) -> None:
    async with running(transport="tcp") as edge:
        report = await shown("tls_at_tcp", await over_tls(server, edge), resolver=resolver)
        assert report.findings[0].mend == "add ;transport=tcp to the URI"


# -- the call ------------------------------------------------------------------------------------------------------------------------------


async def test_an_edge_that_never_answers() -> None:
    with silent() as (host, port):
        assert causes(await shown("silence", f"sip:agent@{host}:{port}")) == ["silence"]


def ringing(request: Request, edge: Edge) -> list[Response]:
    """Rings for ever, until it is cancelled."""
    if request.method == "INVITE":
        return [response_to(request, 180, to_tag=TAG)]
    if request.method == "CANCEL":
        invite = next(earlier for earlier in edge.requests if earlier.method == "INVITE")
        return [response_to(request, 200, to_tag=TAG), response_to(invite, 487, to_tag=TAG)]
    return list(good(request, edge))


async def test_an_edge_that_rings_for_ever_is_cancelled() -> None:
    async with running(ringing) as edge:
        assert causes(await shown("rings_on", to(edge))) == ["rings_on"]
        assert edge.methods == ["1 OPTIONS", "1 INVITE", "1 CANCEL", "1 ACK"]


async def test_an_answer_that_crosses_the_cancel_is_hung_up() -> None:
    def late(request: Request, edge: Edge) -> list[Response]:
        if request.method == "CANCEL":
            invite = next(earlier for earlier in edge.requests if earlier.method == "INVITE")
            return [response_to(request, 200, to_tag=TAG), edge.answer(invite, edge.sdp())]
        return ringing(request, edge)

    async with running(late) as edge:
        await verify(to(edge), timeout_s=PATIENCE)
        assert edge.methods == ["1 OPTIONS", "1 INVITE", "1 CANCEL", "1 ACK", "2 BYE"]


async def test_a_refusal_for_want_of_a_codec() -> None:
    async with running(on_invite(lambda request, _: [response_to(request, 488, to_tag=TAG)])) as edge:
        assert causes(await shown("no_common_codec", to(edge))) == ["no_common_codec"]


async def test_a_refusal_by_an_edge_that_tells_its_codecs_to_options() -> None:
    def picky(request: Request, edge: Edge) -> list[Response]:
        if request.method == "OPTIONS":
            return [edge.answer(request, edge.sdp("111", "a=rtpmap:111 opus/48000/2"))]
        return [response_to(request, 488, to_tag=TAG)] if request.method == "INVITE" else []

    async with running(picky) as edge:
        report = await shown("no_common_codec_told", to(edge))
        assert report.findings[0].cause.startswith("488 answered, no common codec: the edge offers only OPUS")


async def test_an_answer_without_a_common_codec_is_ended_politely() -> None:
    def opus(request: Request, edge: Edge) -> list[Response]:
        return [edge.answer(request, edge.sdp("111", "a=rtpmap:111 opus/48000/2"))]

    async with running(on_invite(opus)) as edge:
        assert causes(await shown("answer_codec", to(edge))) == ["answer_codec"]
        assert edge.methods == ["1 OPTIONS", "1 INVITE", "1 ACK", "2 BYE"]


async def test_an_answer_whose_media_port_is_closed() -> None:
    port = closed()[1]
    async with running(on_invite(lambda request, edge: [edge.answer(request, edge.sdp(port=port))])) as edge:
        assert causes(await shown("media_closed", to(edge))) == ["media_port_closed"]


async def test_an_edge_that_ignores_options_and_takes_calls_is_fine() -> None:
    async with running(lambda request, edge: () if request.method == "OPTIONS" else good(request, edge)) as edge:
        report = await verify(to(edge), timeout_s=PATIENCE)
        assert report.fine
        assert next(step.outcome for step in report.steps if step.name == "options") == "note"


async def test_a_bye_that_is_not_answered() -> None:
    async with running(lambda request, edge: () if request.method == "BYE" else good(request, edge)) as edge:
        assert causes(await verify(to(edge), timeout_s=PATIENCE)) == ["bye_unanswered"]


async def test_what_a_stranger_says_reaches_no_terminal_as_an_escape_sequence() -> None:
    def rude(request: Request, _: Edge) -> list[Response]:
        return [response_to(request, 503, "\x1b[2J\x07gone", to_tag=TAG, headers=[("Warning", '399 x "\x1b]0;mine"')])]

    out = io.StringIO()
    view = View(Console(file=out, width=120))
    async with running(on_invite(rude)) as edge:
        report = await verify(to(edge), timeout_s=PATIENCE, progress=view.step)
    view.conclude(report)
    assert "gone" in out.getvalue()
    assert "\x1b" not in out.getvalue()
    assert "\x07" not in out.getvalue()


async def test_a_password_in_the_uri_is_not_dialled() -> None:
    async with running() as edge:
        await verify(f"sip:agent:hidden@{edge.addr[0]}:{edge.addr[1]}?X-Extra=1", timeout_s=PATIENCE)
        assert {request.uri for request in edge.requests if request.method in ("INVITE", "OPTIONS")} == {to(edge)}


async def test_what_is_no_sip_uri_is_a_matter_of_usage() -> None:
    report = await shown("no_uri", "tel:+4930123456")
    assert report.exit_status == 2
