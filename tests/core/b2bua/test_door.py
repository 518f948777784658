"""Who is let in: routes, strangers, loops, limits, drain, and what is answered outside any call."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from sidecar.b2bua import effects as e
from sidecar.b2bua.door import ALLOW
from sidecar.identity.digest import Answered as Authorised
from sidecar.identity.digest import Credentials, DigestClient, DigestServer
from sidecar.sip.message import Request
from tests.core.b2bua.harness import SIDECAR, STRANGER, Bench, Party
from tests.core.b2bua.types import Make


def outside(bench: Bench, method: str, who: Party | None = None, **changed: str) -> Request:
    """A request outside any dialog, sent."""
    who = who or bench.caller
    headers = {
        "Max-Forwards": "70",
        "From": "<sip:alice@caller.example>;tag=caller-tag",
        "To": "<sip:agent@192.0.2.1>",
        "Call-ID": f"outside-{method}",
        "CSeq": f"1 {method}",
    }
    made = Request(method, "sip:agent@192.0.2.1", [("Via", who.via()), *(headers | changed).items()])
    who.send(made)
    return made


def refused(bench: Bench, sent: Request, status: int, reason: str, who: Party | None = None) -> str:
    """An INVITE that became no call. Returns its Warning."""
    who = who or bench.caller
    final = who.response(status)
    who.ack(sent, final)
    bench.edge.hears_nothing()
    assert bench.facts(e.Started) == []
    effect = bench.fact(e.Refused)
    assert (effect.reason, effect.method, effect.source) == (reason, "INVITE", who.addr)
    return final.headers.get("Warning") or ""


def test_options_is_answered_with_what_is_allowed(bench: Bench) -> None:
    sent = outside(bench, "OPTIONS")
    heard = bench.caller.response(200)
    assert (heard.headers.get("Allow"), heard.headers.get("Accept")) == (ALLOW, "application/sdp, multipart/mixed")
    assert heard.to_tag is not None
    assert (heard.cseq, heard.body) == (sent.cseq, b"")


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("REGISTER", 405),
        ("SUBSCRIBE", 405),
        ("REFER", 405),
        ("MESSAGE", 405),
        ("FROBNICATE", 405),
        ("BYE", 481),
        ("UPDATE", 481),
        ("INFO", 481),
        ("NOTIFY", 481),
    ],
)
def test_other_requests_outside_a_call_are_refused_with_allow(bench: Bench, method: str, status: int) -> None:
    outside(bench, method)
    assert bench.caller.response(status).headers.get("Allow") == ALLOW


def test_no_route_no_call(bench: Bench) -> None:
    sent = bench.invite(uri="sip:someone@elsewhere.example")
    assert "no route matches sip:someone@elsewhere.example" in refused(bench, sent, 404, "no-route")


def test_an_invite_at_its_last_hop_goes_no_further(bench: Bench) -> None:
    sent = bench.invite(forwards="0")
    refused(bench, sent, 483, "too-many-hops")


def test_max_forwards_is_counted_down_and_begun_where_it_was_missing(bench: Bench) -> None:
    for forwards, left in (("1", "0"), (None, "70")):
        sent = bench.invite(forwards=forwards, call_id=f"forwards-{forwards}")
        got = bench.edge.request("INVITE")
        assert got.headers.all("Max-Forwards") == [left]
        bench.edge.reply(got, 486)
        bench.caller.ack(sent, bench.caller.response(486))
        bench.edge.request("ACK")


def test_a_route_that_points_at_the_sidecar_itself_ends_in_482(make: Make) -> None:
    bench = make(target=f"sip:{SIDECAR[0]}:{SIDECAR[1]}")
    sent = bench.invite()
    final = bench.caller.response(482)
    bench.caller.ack(sent, final)
    assert bench.fact(e.Refused).reason == "loop"
    ended = bench.fact(e.Ended)
    assert (ended.status, ended.reason) == (482, "rejected")


def test_a_request_uri_of_another_scheme_is_refused(bench: Bench) -> None:
    sent = bench.invite(uri="tel:+49301234567")
    refused(bench, sent, 416, "malformed")


def test_an_invite_without_contact_is_refused(bench: Bench) -> None:
    sent = bench.invite(contact=None)
    refused(bench, sent, 400, "malformed")


def test_octets_that_are_no_sip_are_answered_to_friends_and_not_to_strangers(bench: Bench) -> None:
    broken = (
        b"INVITE sip:x@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK-x;rport\r\nFrom: <sip:a@b>;tag=1\r\n"
        b"To: <sip:x@192.0.2.1>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nnonsense\r\n\r\n"
    )
    stranger = Party(bench, STRANGER, "stranger")
    bench.caller.send(broken)
    stranger.send(broken)
    for noise in (b"", b"\r\n\r\n", b"\0", b"\xff\xfe\xfd", b"GET / HTTP/1.1\r\n\r\n", b"SIP/2.0 200 OK\r\n\r\n"):
        stranger.send(noise)
    bench.caller.response(400)
    stranger.hears_nothing()
    counts = bench.engine.counts
    assert (counts["malformed"], counts["keepalive"]) == (5, 3)


def test_a_stranger_is_refused_without_a_word_on_why(bench: Bench) -> None:
    stranger = Party(bench, STRANGER, "stranger")
    sent = bench.invite(source=stranger)
    assert refused(bench, sent, 403, "untrusted-source", stranger) == ""


def test_a_stranger_with_credentials_is_let_in_and_they_go_no_further(make: Make) -> None:
    bench = make(digest=DigestServer("trunk", {"eve": "secret"}, b"0123456789abcdef"))
    stranger = Party(bench, STRANGER, "stranger")
    sent = bench.invite(source=stranger)
    challenge = stranger.response(407)
    stranger.ack(sent, challenge)
    assert bench.facts(e.Refused) == []
    client = DigestClient(Credentials("eve", "secret"))
    answer = client.answer(challenge, method="INVITE", uri=sent.uri, body=sent.body, cnonce="c1")
    assert isinstance(answer, Authorised)
    sent = bench.invite(source=stranger, headers=[*answer.headers, ("X-CID", "claimed")], number=18)
    got = bench.edge.request("INVITE")
    assert not any(name in got.headers for name in ("Authorization", "Proxy-Authorization"))
    assert got.headers.all("X-CID") == [got.call_id]
    bench.edge.reply(got, 486)
    stranger.ack(sent, stranger.response(486))
    bench.edge.request("ACK")
    # The same octets again are a replay.
    replay = bench.invite(source=stranger, headers=answer.headers, number=19, call_id="replay")
    again = stranger.response(407)
    assert "stale=true" in (again.headers.get("Proxy-Authenticate") or "")
    stranger.ack(replay, again)
    assert bench.fact(e.Refused).reason == "replayed"


def test_a_stranger_with_a_wrong_password_is_challenged_again_and_counted(make: Make) -> None:
    bench = make(digest=DigestServer("trunk", {"eve": "secret"}, b"0123456789abcdef"))
    stranger = Party(bench, STRANGER, "stranger")
    sent = bench.invite(source=stranger)
    challenge = stranger.response(407)
    stranger.ack(sent, challenge)
    answer = DigestClient(Credentials("eve", "guess")).answer(challenge, method="INVITE", uri=sent.uri, body=b"", cnonce="c1")
    assert isinstance(answer, Authorised)
    sent = bench.invite(source=stranger, headers=answer.headers, number=18)
    refused(bench, sent, 407, "wrong-response", stranger)


def test_requests_inside_a_call_are_not_challenged(make: Make) -> None:
    bench = make(digest=DigestServer("trunk", {"eve": "secret"}, b"0123456789abcdef"), trusted=(ip_network("192.0.2.10/32"),))
    bench.answered()
    bench.edge.ask("INFO")  # from an edge that is not trusted to begin calls
    bench.caller.reply(bench.caller.request("INFO"), 200)
    bench.edge.response(200)
    bench.hang_up(bench.edge)


def test_a_draining_sidecar_takes_no_new_call_and_lets_the_old_ones_live(bench: Bench) -> None:
    bench.answered()
    bench.engine.draining = True
    sent = bench.invite(call_id="late")
    final = bench.caller.response(503)
    assert final.headers.get("Retry-After") == "5"
    joined = bench.caller.dialog
    bench.caller.ack(sent, final)
    outside(bench, "OPTIONS")
    bench.caller.response(503)
    bench.caller.dialog = joined
    bench.caller.ask("INFO")
    bench.edge.reply(bench.edge.request("INFO"), 200)
    bench.caller.response(200)
    bench.hang_up(bench.caller)
    assert bench.fact(e.Refused).reason == "draining"


def test_one_call_id_in_two_live_calls_is_told_and_keeps_them_apart(bench: Bench) -> None:
    bench.answered()
    dialogs = (bench.caller.dialog, bench.edge.dialog)
    bench.answered(from_tag="another")
    assert [fact.name for fact in bench.facts(e.Found)] == ["call_id_in_use"]
    bench.hang_up(bench.caller)
    bench.caller.dialog, bench.edge.dialog = dialogs
    bench.hang_up(bench.edge)
    assert [fact.ended_by for fact in bench.facts(e.Ended)] == ["caller", "agent"]


def test_a_request_by_two_paths_is_taken_once(bench: Bench) -> None:
    sent, got = bench.ringing()
    merged = Request("INVITE", sent.uri, sent.headers.copy(), sent.body)
    merged.headers.set("Via", bench.caller.via())
    bench.caller.send(merged)
    bench.caller.ack(merged, bench.caller.response(482))
    bench.edge.reply(got, 486)
    bench.caller.ack(sent, bench.caller.response(486))
    bench.edge.request("ACK")
    assert len(bench.facts(e.Started)) == 1
