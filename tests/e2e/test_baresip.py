"""baresip on both sides: each hears the other, holds and resumes, and sends a key; over UDP and TCP, each leg on its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.test_transports import quiet, shown, traces
from tests.support.baresip import Phone, baresip
from tests.support.product import Product, free_port, get_json, loopback, running, until

pytestmark = pytest.mark.peer

HOST = "127.0.0.1"
CALLER_TONE, AGENT_TONE = 400, 700


@pytest.mark.parametrize(("near", "far"), [("udp", "udp"), ("tcp", "udp"), ("udp", "tcp"), ("tcp", "tcp")])
def test_two_phones_talk_hold_and_press_a_key(tmp_path: Path, near: str, far: str, record_property: Callable[[str, object], None]) -> None:
    for case in ("audio both ways", "hold and resume", "DTMF by telephone-event"):
        record_property("scenario", (case, f"{near} → {far}", "baresip"))
    with ExitStack() as stack:
        agent = stack.enter_context(baresip(tmp_path / "agent", HOST, "agent", transport=far, tone=AGENT_TONE))
        caller = stack.enter_context(baresip(tmp_path / "caller", HOST, "alice", transport=near, tone=CALLER_TONE))
        host = loopback()
        listen = dict.fromkeys([near, far])
        settings = {
            "sip": {"listen": [f"{transport}://{shown(host, free_port(host))}" for transport in listen]},
            "routes": [{"name": "agent", "target": agent.uri}],
            "control": {"url": "http://127.0.0.1:9"},
            "spool": {"path": "spool"},
            "admin": {"listen": "127.0.0.1:0"},
            "drain": {"deadline_s": 1, "goodbye_s": 1, "flush_s": 0},
        }
        sidecar = stack.enter_context(running("sidecar", tmp_path / "sidecar", settings))
        address = sidecar.event("ready")["sip"][0].partition("://")[2]
        caller.command("dial", f"sip:agent@{address};transport={near}")
        caller.wait_for("CALL_ESTABLISHED")
        until("both hear the other", lambda: heard(caller, AGENT_TONE) >= 2 and heard(agent, CALLER_TONE) >= 2, 15)

        caller.command("sndcode", "5")
        assert agent.wait_for("CALL_DTMF_START")["param"] == "5"
        agent.wait_for("CALL_DTMF_END")

        descriptions = len(agent.heard("CALL_REMOTE_SDP"))
        for command in ("hold", "resume"):
            caller.command(command)
            descriptions += 1
            agent.wait_for("CALL_REMOTE_SDP", descriptions)
            caller.wait_for("CALL_REMOTE_SDP", descriptions)
        talking(sidecar)

        caller.command("hangup")
        agent.wait_for("CALL_CLOSED")
        quiet(sidecar)
        (trace,) = traces(tmp_path)
        ended = next(fact for fact in trace if fact["kind"] == "call_ended")
        assert (ended["reason"], ended["ended_by"]) == ("completed", "caller")
        assert [key["digit"] for key in trace[-2]["media"]["caller"]["dtmf"]] == ["5"]
        texts = [fact["text"] for fact in trace if fact["kind"] == "sip_message"]
        assert sum("\r\na=sendonly\r\n" in text for text in texts) == 2  # the hold as it came and as it left
        used = {(fact["leg"], fact["transport"]) for fact in trace if fact["kind"] == "sip_message"}
        assert used == {("A", near), ("B", far)}
        assert sidecar.faults == []


def accepted(sidecar: Product) -> dict[str, int]:
    """RTP packets of each leg's party so far. baresip's files end with the first re-INVITE, so the relay tells how it goes on."""
    (call,) = get_json(sidecar.event("ready")["admin"] + "/v1/calls")["calls"]
    (line,) = call["details"]["media"].values()
    return {leg: line[leg]["rtp"]["accepted"] for leg in ("A", "B")}


def talking(sidecar: Product) -> None:
    """Half a second of packets from both sides, from here on."""
    before = accepted(sidecar)
    until("both sides send", lambda: all(count >= before[leg] + 25 for leg, count in accepted(sidecar).items()), 15)


def heard(phone: Phone, tone: int) -> int:
    """Seconds in which a phone heard a tone."""
    return phone.tones().count(tone)
