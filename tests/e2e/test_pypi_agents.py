"""Softphones of PyPI on both sides: pjsua2 (PJSIP) and baresip-python, over UDP, TCP and TLS, with audio that the other end hears."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.e2e.test_baresip import HOST, talking
from tests.e2e.test_kamailio import issued, kind
from tests.e2e.test_transports import quiet, traces
from tests.support.kamailio import Certificates
from tests.support.product import Product, free_port, get_json, loopback, running, until
from tests.support.softphone import Softphone, softphone

pytestmark = pytest.mark.peer

# Where it has no wheels (Python 3.13), its lines of the matrix are missing.
pytest.importorskip("pjsua2")

PJSUA, BARESIP = "pjsua_phone", "baresip_agent"
NAMES = {PJSUA: "pjsua2", BARESIP: "baresip-python"}
CALLER_TONE, AGENT_TONE = 400, 700
PASSWORD = "o2-Kp!"


@dataclass(frozen=True)
class Side:
    """One end of a call."""

    program: str
    transport: str
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        said = [f"{key}={value}" for key, value in self.settings.items() if key != "password"]
        return " ".join([NAMES[self.program], *said])


@dataclass(frozen=True)
class Stage:
    """A running sidecar between two phones."""

    sidecar: Product
    caller: Softphone
    agent: Softphone
    number: str
    """What the caller dials."""
    authority: trustme.CA


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    with ExitStack() as stack:
        authority = trustme.CA()

        def set_up(near: Side, far: Side, route: dict[str, Any] | None = None, callers: dict[str, Any] | None = None) -> Stage:
            agent = phone(stack, tmp_path, authority, far, "agent", AGENT_TONE)
            caller = phone(stack, tmp_path, authority, near, "alice", CALLER_TONE)
            host = loopback()
            files = issued(authority, tmp_path / "sidecar-tls", host)
            settings = {
                "sip": {
                    "listen": [f"{way}://{host}:{free_port(host, kind(way))}" for way in dict.fromkeys([near.transport, far.transport])],
                    "tls": {"certificate": str(files.chain), "key": str(files.key), "ca": str(files.ca), "clients": "required"},
                },
                "callers": callers or {},
                "routes": [{"name": "agent", "target": agent.uri, **(route or {})}],
                "control": {"url": "http://127.0.0.1:9"},
                "spool": {"path": "spool"},
                "admin": {"listen": "127.0.0.1:0"},
                "drain": {"deadline_s": 1, "goodbye_s": 1, "flush_s": 0},
            }
            sidecar = stack.enter_context(running("sidecar", tmp_path / "sidecar", settings))
            address = sidecar.event("ready")["sip"][0].partition("://")[2]
            return Stage(sidecar, caller, agent, f"sip:agent@{address};transport={near.transport}", authority)

        yield set_up


def phone(stack: ExitStack, folder: Path, authority: trustme.CA, side: Side, user: str, tone: int) -> Softphone:
    more: dict[str, object] = {}
    if side.transport == "tls":
        files: Certificates = issued(authority, folder / f"{user}-tls", HOST)
        more = {"ca": str(files.ca), "certificate": str(files.chain), "key": str(files.key)}
    settings = {"transport": side.transport, "tone": tone, **more, **side.settings}
    return stack.enter_context(softphone(side.program, folder / user, HOST, user, **settings))


RELIABLE = {"prack": "mandatory", "timer": "always"}
PAIRS = [
    (Side(PJSUA, "udp", RELIABLE), Side(PJSUA, "udp", RELIABLE), "plain"),
    (Side(PJSUA, "tls", {"srtp": "mandatory", "password": PASSWORD}), Side(BARESIP, "udp"), "srtp"),
    (Side(BARESIP, "tcp"), Side(PJSUA, "tls", RELIABLE), "plain"),
]


@pytest.mark.parametrize(("near", "far", "media"), PAIRS, ids=lambda value: str(value).replace(" ", "-"))
def test_two_agents_talk_hold_and_press_a_key(
    stage: Callable[..., Stage], tmp_path: Path, near: Side, far: Side, media: str, record_property: Callable[[str, object], None]
) -> None:
    challenged = "password" in near.settings
    for case in (
        "audio both ways",
        "hold and resume by either side",
        "DTMF by telephone-event",
        *(["caller challenged"] if challenged else []),
    ):
        record_property("scenario", (case, f"{near.transport} → {far.transport}", f"{near} → {far}"))
    callers = {"trusted": [], "digest": {"realm": "sidecar", "users": {"alice": {"password": PASSWORD}}}} if challenged else None
    scene = stage(near, far, {"srtp": "plain"} if media == "srtp" else None, callers)
    caller, agent = scene.caller, scene.agent
    caller.command("dial", to=scene.number)
    for end in (caller, agent):
        end.wait_for("confirmed")
    until("both hear the other", lambda: caller.heard(AGENT_TONE) >= 2 and agent.heard(CALLER_TONE) >= 2, 20)

    caller.command("key", to="5")
    assert agent.wait_for("key")["digit"] == "5"
    for holder in (caller, agent):
        for command in ("hold", "resume"):
            answered = accepted_offers(tmp_path)
            holder.command(command)
            until(f"{command} was agreed", lambda: accepted_offers(tmp_path) > answered, 15)  # noqa: B023 – called at once
    talking(scene.sidecar)

    agent.command("hang-up")
    for end in (caller, agent):
        end.wait_for("disconnected")
    quiet(scene.sidecar)
    (trace,) = traces(tmp_path)
    ended = next(fact for fact in trace if fact["kind"] == "call_ended")
    assert (ended["reason"], ended["ended_by"]) == ("completed", "agent")
    assert [key["digit"] for key in trace[-2]["media"]["caller"]["dtmf"]] == ["5"]
    used = {(fact["leg"], fact["transport"]) for fact in trace if fact["kind"] == "sip_message"}
    assert used == {("A", near.transport), ("B", far.transport)}
    assert scene.sidecar.faults == []


def test_a_call_without_an_offer_is_renegotiated_and_transferred(
    stage: Callable[..., Stage], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The caller's INVITE has no description; it sends its callee to a third phone (REFER), which tells how that goes (NOTIFY)."""
    for case in ("delayed offer", "re-INVITE without an offer", "UPDATE", "REFER with its NOTIFYs"):
        record_property("scenario", (case, "udp → udp", "pjsua2 → pjsua2"))
    scene = stage(Side(PJSUA, "udp"), Side(PJSUA, "udp"))
    caller, agent = scene.caller, scene.agent
    with softphone(PJSUA, tmp_path / "third", HOST, "third", tone=1000) as third:
        caller.command("dial-without-offer", to=scene.number, headers={"X-Kept": 'a,  b;c="d"'})
        for end in (caller, agent):
            end.wait_for("confirmed")
        assert '\r\nX-Kept: a,  b;c="d"\r\n' in agent.told("invited")[0]["text"]
        until("both hear the other", lambda: caller.heard(AGENT_TONE) >= 2 and agent.heard(CALLER_TONE) >= 2, 20)
        for end in (agent, caller):
            for command in ("reinvite-without-offer", "update"):
                answered = accepted_offers(tmp_path)
                end.command(command)
                until(f"{command} was agreed", lambda: accepted_offers(tmp_path) > answered, 15)  # noqa: B023 – called at once
        talking(scene.sidecar)

        caller.command("transfer", to=third.uri)
        agent.wait_for("asked to call")
        third.wait_for("confirmed")
        caller.wait_for("transfer", status=200)
        until("the agent hears the third", lambda: agent.heard(1000) >= 1, 15)
        caller.command("hang-up")
        caller.wait_for("disconnected")
        quiet(scene.sidecar)
    (trace,) = traces(tmp_path)
    assert next(fact for fact in trace if fact["kind"] == "call_ended")["reason"] == "completed"
    assert scene.sidecar.faults == []


def accepted_offers(folder: Path) -> int:
    """How many re-INVITEs and UPDATEs were answered with 200."""
    texts = [fact["text"] for trace in traces(folder) for fact in trace if fact["kind"] == "sip_message" and fact["direction"] == "out"]
    return sum(text.startswith("SIP/2.0 200") and ("INVITE\r\n" in text or "UPDATE\r\n" in text) for text in texts)


def test_renewed_certificates_count_for_new_connections_and_a_live_call_goes_on(
    stage: Callable[..., Stage], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("scenario", ("certificates renewed by SIGHUP in a call", "tls → tls", "pjsua2 → pjsua2"))
    scene = stage(Side(PJSUA, "tls"), Side(PJSUA, "tls"))
    sidecar, address = scene.sidecar, scene.number.partition("@")[2].partition(";")[0]
    files = tmp_path / "sidecar-tls"
    scene.caller.command("dial", to=scene.number)
    scene.agent.wait_for("confirmed")
    talking(sidecar)
    before, connections = shown(address, tmp_path / "alice-tls"), connections_of(sidecar)

    (files / "kept.pem").write_bytes((files / "chain.pem").read_bytes())
    (files / "chain.pem").write_text("no certificate")
    sidecar.process.send_signal(signal.SIGHUP)
    assert "not a certificate with its unencrypted key" in sidecar.event("configuration refused")["detail"]
    assert shown(address, tmp_path / "alice-tls") == before

    issued(scene.authority, files, address.partition(":")[0])
    sidecar.process.send_signal(signal.SIGHUP)
    sidecar.event("configuration reloaded")
    assert shown(address, tmp_path / "alice-tls") != before

    talking(sidecar)
    assert connections_of(sidecar) == connections
    scene.agent.command("hang-up")
    scene.caller.wait_for("disconnected")
    quiet(sidecar)
    scene.caller.command("dial", to=scene.number)
    scene.agent.wait_for("confirmed", count=2)
    scene.caller.command("hang-up")
    scene.agent.wait_for("disconnected", count=2)
    assert [fault["event"] for fault in sidecar.faults] == ["configuration refused"]


def shown(address: str, client: Path) -> bytes | None:
    """The certificate that a new connection is shown, once OPTIONS was answered on it."""
    host, _, port = address.partition(":")
    context = ssl.create_default_context(cafile=str(client / "ca.pem"))
    context.load_cert_chain(client / "chain.pem", client / "key.pem")
    lines = [
        f"OPTIONS sip:{address} SIP/2.0",
        f"Via: SIP/2.0/TLS {HOST}:5061;branch=z9hG4bK{os.urandom(8).hex()}",
        "Max-Forwards: 70",
        f"From: <sip:probe@{HOST}>;tag=1",
        f"To: <sip:{address}>",
        f"Call-ID: {os.urandom(8).hex()}",
        "CSeq: 1 OPTIONS",
        "Content-Length: 0",
    ]
    with socket.create_connection((host, int(port)), 10) as plain, context.wrap_socket(plain, server_hostname=host) as stream:
        stream.sendall("\r\n".join([*lines, "", ""]).encode())
        assert stream.recv(65536).startswith(b"SIP/2.0 200")
        return stream.getpeercert(binary_form=True)


def connections_of(sidecar: Product) -> set[str]:
    """The phones' TLS connections, by the far end."""
    state = get_json(sidecar.event("ready")["admin"] + "/v1/state")
    return {peer["remote"] for peer in state["transports"]["peers"]}
