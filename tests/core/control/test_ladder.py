"""The ladder, as a person reads it."""

from __future__ import annotations

from control.api.ladder import render
from control.contract.facts import FACT, Fact
from control.contract.fold import fold
from tests.core.control.traces import Trace

INVITE = "INVITE sip:agent@edge SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\nm=audio 4000 RTP/AVP 0\r\n"
BYE = "BYE sip:agent@edge SIP/2.0\r\nCSeq: 2 BYE\r\n\r\n"


def status(line: str, method: str = "INVITE", sdp: bool = False) -> str:
    return f"SIP/2.0 {line}\r\nCSeq: 1 {method}\r\n\r\n" + ("m=audio 1 RTP/AVP 0\r\n" if sdp else "")


def told() -> list[Fact]:
    trace = Trace("c1", "SCL_abc")
    trace.message(0, "A", "in", INVITE).message(0.4, "A", "out", status("100 Trying")).message(1.2, "B", "out", INVITE)
    trace.message(501.2, "B", "out", INVITE, retransmission=True).message(520, "B", "in", status("401 Unauthorized"))
    trace.add("authentication", 520.1, leg="B", status=401, realm="edge", algorithm="MD5", result="answered", detail="")
    trace.message(530, "B", "in", status("200 OK", sdp=True)).answered(531).message(531, "A", "out", status("200 OK", sdp=True))
    trace.add("media_opened", 532, leg="A", codec="PCMU", local="127.0.0.1:30000", remote="127.0.0.1:4000")
    trace.message(11_990, "A", "in", BYE).message(11_991, "A", "out", status("200 OK", "BYE"))
    return [FACT.validate_python(fact) for fact in trace.ended().facts]


def test_ladder_shows_both_legs_media_and_turns() -> None:
    facts = told()
    call = fold(facts)
    assert call is not None
    lines = render(call, facts).splitlines()
    shown = [line.split() for line in lines]
    assert lines[0] == "call c1  simulation inbound, route agent, sidecar edge-1"
    arrows = [line for line in lines if "->|" in line or "|<-" in line]
    assert [line[:10].strip() for line in arrows] == ["0.0", "0.4", "1.2", "520.0", "530.0", "531.0", "11990.0", "11991.0"]
    assert " INVITE [sdp] (x2) -" in arrows[2]  # the retransmission is folded into the first
    assert ["*", "digest", "401", "MD5", "realm", "'edge':", "answered"] in [line[1:] for line in shown]
    assert any("media caller: PCMU  127.0.0.1:30000 <-> 127.0.0.1:4000" in line for line in lines)
    assert any(line.startswith("    3131.0") and "turn 1: agent answers after 600 ms" in line for line in lines)
    assert any("ended    200 by caller: the caller hung up" in line for line in lines)
    assert any(line.split()[:2] == ["verdict", "pending"] for line in lines)


def test_columns_stand_under_each_other() -> None:
    facts = told()
    call = fold(facts)
    assert call is not None
    lines = render(call, facts).splitlines()
    bars = [{at for at, character in enumerate(line) if character == "|"} for line in lines if "->|" in line or "|<-" in line]
    assert len(set.union(*bars)) == 3
    assert all(len(each) == 3 for each in bars)
    assert len({len(line) for line in lines if "->|" in line or "|<-" in line}) == 1


def test_a_call_without_any_message_still_has_a_ladder() -> None:
    facts = [FACT.validate_python(fact) for fact in Trace("c1", "SCL_abc").facts]
    call = fold(facts)
    assert call is not None
    assert "verdict  pending" in render(call, facts)
