"""Digest towards the edge (RFC 3261 section 22), as the caller, the edge and the trace see it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.b2bua import effects as e
from sidecar.identity.digest import Accepted, Credentials, DigestServer
from sidecar.sip.message import Request
from sidecar.sip.uri import SipUri
from tests.core.b2bua.harness import ANSWER, OFFER, Bench
from tests.core.b2bua.types import Make

KNOWN = Credentials("sidecar", "secret")


class Guard:
    """The edge's own digest server: gives challenges and checks what comes back."""

    def __init__(self, bench: Bench, *, proxy: bool = False, realm: str = "edge") -> None:
        self.bench = bench
        self.server = DigestServer(realm, {"sidecar": "secret"}, b"0123456789abcdef", proxy=proxy)
        self._count = 0

    def challenge(self, request: Request, *, stale: bool = False) -> None:
        """Ask for credentials."""
        self._count += 1
        headers = self.server.challenge(f"token{self._count}", self.bench.clock.now, stale=stale)
        self.bench.edge.reply(request, self.server.status, headers=headers)
        if request.method == "INVITE":
            self.bench.edge.request("ACK")

    def accepts(self, request: Request) -> bool:
        """Whether the credentials are right and fresh."""
        return self.server.check(request, self.bench.clock.now) == Accepted("sidecar")


def finish(bench: Bench, sent: Request, got: Request) -> None:
    """The edge is content: the call comes up and ends."""
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.edge)


def results(bench: Bench) -> list[str]:
    """What became of each challenge."""
    return [fact.result for fact in bench.facts(e.Challenged)]


@pytest.mark.parametrize("proxy", [False, True])
def test_a_challenge_is_answered_and_the_caller_hears_nothing_of_it(make: Make, proxy: bool) -> None:
    bench = make(credentials=KNOWN)
    guard = Guard(bench, proxy=proxy)
    sent = bench.invite()
    first = bench.edge.request("INVITE")
    bench.run(0.25)
    guard.challenge(first)
    again = bench.edge.request("INVITE")
    assert guard.accepts(again)
    # 8.1.3.5: a new transaction with the next number, all else the same.
    assert again.via.branch != first.via.branch
    assert (again.cseq.number, again.from_tag, again.call_id, again.body) == (18, first.from_tag, first.call_id, first.body)
    names = {"via", "cseq", "authorization", "proxy-authorization"}
    assert [h for h in again.headers.items() if h[0].lower() not in names] == [
        h for h in first.headers.items() if h[0].lower() not in names
    ]
    bench.caller.hears_nothing()
    finish(bench, sent, again)
    assert results(bench) == ["answered"]
    assert round(bench.fact(e.Ended).timings.auth or 0, 3) == 0.27


def test_401_and_407_in_one_chain(make: Make) -> None:
    bench = make(credentials=KNOWN)
    outer, inner = Guard(bench, proxy=True, realm="proxy"), Guard(bench, realm="platform")
    sent = bench.invite()
    outer.challenge(bench.edge.request("INVITE"))
    second = bench.edge.request("INVITE")
    assert outer.accepts(second)
    inner.challenge(second)
    third = bench.edge.request("INVITE")
    assert outer.accepts(third)
    assert inner.accepts(third)
    assert third.cseq.number == 19
    finish(bench, sent, third)
    assert results(bench) == ["answered", "answered"]


def test_a_stale_nonce_is_answered_with_the_fresh_one(make: Make) -> None:
    bench = make(credentials=KNOWN)
    guard = Guard(bench)
    sent = bench.invite()
    guard.challenge(bench.edge.request("INVITE"))
    guard.challenge(bench.edge.request("INVITE"), stale=True)
    third = bench.edge.request("INVITE")
    assert guard.accepts(third)
    finish(bench, sent, third)
    assert results(bench) == ["answered", "answered"]


@pytest.mark.parametrize("proxy", [False, True])
def test_wrong_credentials_end_the_call_with_the_edges_status_and_challenge(make: Make, proxy: bool) -> None:
    bench = make(credentials=Credentials("sidecar", "wrong"))
    guard = Guard(bench, proxy=proxy)
    sent = bench.invite()
    guard.challenge(bench.edge.request("INVITE"))
    again = bench.edge.request("INVITE")
    assert not guard.accepts(again)
    guard.challenge(again)
    final = bench.caller.response(407 if proxy else 401)
    assert 'realm="edge"' in (final.headers.get("Proxy-Authenticate" if proxy else "WWW-Authenticate") or "")
    bench.caller.ack(sent, final)
    bench.edge.hears_nothing()
    assert results(bench) == ["answered", "refused"]
    ended = bench.fact(e.Ended)
    assert (ended.status, ended.ended_by, ended.reason) == (final.status, "agent", "credentials-refused")
    assert ended.cause.startswith("credentials refused by 192.0.2.20:5070: ")
    assert "wrong" not in ended.cause


def test_an_edge_that_asks_a_route_without_credentials(make: Make) -> None:
    bench = make()
    guard = Guard(bench)
    sent = bench.invite()
    guard.challenge(bench.edge.request("INVITE"))
    bench.caller.ack(sent, bench.caller.response(401))
    assert results(bench) == ["no_credentials"]
    ended = bench.fact(e.Ended)
    assert (ended.reason, ended.cause[:41]) == ("credentials-missing", "192.0.2.20:5070 asks for credentials: rea")


def test_credentials_of_one_leg_never_cross_to_the_other(make: Make) -> None:
    bench = make(credentials=KNOWN)
    guard = Guard(bench)
    theirs = [("Authorization", 'Digest username="caller"'), ("Proxy-Authorization", 'Digest username="caller"')]
    sent = bench.invite(headers=theirs)
    guard.challenge(bench.edge.request("INVITE"))
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=ANSWER, headers=[("Authentication-Info", 'nextnonce="n"'), ("Proxy-Authentication-Info", "x=y")])
    answer = bench.caller.response(200)
    bench.caller.ack(sent, answer, headers=theirs)
    ack = bench.edge.request("ACK")
    bench.caller.ask("INFO", headers=theirs)
    info = bench.edge.request("INFO")
    bench.edge.reply(info, 200)
    bench.caller.response(200)
    for message in (got, ack, info):
        assert "caller" not in " ".join(message.headers.all("Authorization") + message.headers.all("Proxy-Authorization"))
    assert not any("authentication" in name.lower() for name, _ in answer.headers.items())
    bench.hang_up(bench.caller, headers=theirs)


def test_the_ack_repeats_the_credentials_of_its_invite_and_later_requests_bring_their_own(make: Make) -> None:
    bench = make(credentials=KNOWN)
    guard = Guard(bench)
    sent = bench.invite()
    guard.challenge(bench.edge.request("INVITE"))
    got = bench.edge.request("INVITE")
    assert guard.accepts(got)
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    ack = bench.edge.request("ACK")
    assert ack.headers.all("Authorization") == got.headers.all("Authorization")
    for method in ("INFO", "UPDATE"):
        bench.caller.ask(method)
        request = bench.edge.request(method)
        assert guard.accepts(request)
        bench.edge.reply(request, 200)
        bench.caller.response(200)
    bench.caller.ask("BYE")
    bench.caller.response(200)
    bye = bench.edge.request("BYE")
    assert guard.accepts(bye)
    bench.edge.reply(bye, 200)
    assert results(bench) == ["answered"]


TARGET: dict[str, list[tuple[str, str]]] = {"INFO": [], "REFER": [("Refer-To", "<sip:carol@192.0.2.30>")], "INVITE": []}


@pytest.mark.parametrize("method", TARGET)
def test_a_request_inside_the_call_is_challenged_and_sent_again(make: Make, method: str) -> None:
    bench = make(credentials=KNOWN)
    guard = Guard(bench)
    bench.answered()
    bench.caller.ask(method, headers=[("X-Keep", "this"), *TARGET[method]], body=OFFER if method == "INVITE" else b"")
    asked = bench.caller.asked
    first = bench.edge.request(method)
    guard.challenge(first)
    again = bench.edge.request(method)
    assert guard.accepts(again)
    assert (again.cseq.number, again.headers.get("X-Keep"), again.body) == (first.cseq.number + 1, "this", first.body)
    bench.edge.reply(again, 200, body=ANSWER if method == "INVITE" else b"")
    heard = bench.caller.response(200)
    if method == "INVITE":
        bench.caller.ack(asked, heard)
        assert bench.edge.request("ACK").cseq.number == again.cseq.number
    bench.caller.ask("INFO")
    last = bench.edge.request("INFO")
    assert last.cseq.number == again.cseq.number + 1
    bench.edge.reply(last, 200)
    bench.caller.response(200)
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("password", ["secret", "wrong"])
def test_a_challenged_bye_is_sent_again_and_a_refused_one_ends_the_call_all_the_same(make: Make, password: str) -> None:
    bench = make(credentials=Credentials("sidecar", password))
    guard = Guard(bench)
    bench.answered()
    bench.caller.ask("BYE")
    bench.caller.response(200)
    guard.challenge(bench.edge.request("BYE"))
    again = bench.edge.request("BYE")
    if guard.accepts(again):
        bench.edge.reply(again, 200)
    else:
        guard.challenge(again)
    bench.edge.hears_nothing()
    assert results(bench) == (["answered"] if password == "secret" else ["answered", "refused"])
    assert len(bench.facts(e.Gone)) == 1


def test_a_challenge_of_the_caller_to_a_request_of_the_edge_crosses(make: Make) -> None:
    bench = make(credentials=KNOWN)
    bench.answered()
    bench.edge.ask("INFO")
    asked = [("Proxy-Authenticate", 'Digest realm="caller", nonce="n", qop="auth"')]
    bench.caller.reply(bench.caller.request("INFO"), 407, headers=asked)
    heard = bench.edge.response(407)
    assert heard.headers.all("Proxy-Authenticate") == [asked[0][1]]
    bench.hang_up(bench.edge)


def test_a_next_nonce_is_used_from_then_on(make: Make) -> None:
    bench = make(credentials=KNOWN)
    guard = Guard(bench)
    sent = bench.invite()
    guard.challenge(bench.edge.request("INVITE"))
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=ANSWER, headers=[("Authentication-Info", 'nextnonce="fresh"')])
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.caller.ask("BYE")
    bench.caller.response(200)
    bye = bench.edge.request("BYE")
    assert 'nonce="fresh"' in (bye.headers.get("Authorization") or "")
    bench.edge.reply(bye, 200)


def test_an_edge_that_rings_before_it_asks_keeps_one_dialog_with_the_caller(make: Make) -> None:
    bench = make(credentials=KNOWN)
    guard = Guard(bench)
    sent = bench.invite()
    first = bench.edge.request("INVITE")
    bench.edge.reply(first, 180, tag="before")
    early = bench.caller.response(180)
    guard.challenge(first)
    again = bench.edge.request("INVITE")
    bench.edge.reply(again, 180, tag="after")
    assert bench.caller.response(180).to_tag == early.to_tag
    bench.edge.reply(again, 200, tag="after", body=ANSWER)
    answer = bench.caller.response(200)
    assert answer.to_tag == early.to_tag
    bench.caller.ack(sent, answer)
    assert bench.edge.request("ACK").to_tag == "after"
    bench.hang_up(bench.caller)


def test_a_password_that_is_changed_during_a_call_is_used_from_then_on_and_the_call_goes_on(make: Make) -> None:
    bench = make(credentials=Credentials("sidecar", "before"))
    guard = Guard(bench)  # takes the new password alone
    bench.answered()
    before = bench.engine.settings
    route = before.routes[0]
    bench.engine.reconfigure(replace(before, routes=(replace(route, credentials=KNOWN),)))
    bench.caller.ask("INFO")
    guard.challenge(bench.edge.request("INFO"))
    again = bench.edge.request("INFO")
    assert guard.accepts(again)
    bench.edge.reply(again, 200)
    bench.caller.response(200)
    bench.hang_up(bench.caller)
    assert results(bench) == ["answered"]


def test_a_live_call_keeps_its_route_when_another_takes_its_place(make: Make) -> None:
    bench = make(credentials=KNOWN)
    guard = Guard(bench)
    bench.answered()
    before = bench.engine.settings
    elsewhere = replace(before.routes[0], target=SipUri.parse("sip:x@192.0.2.9"), credentials=Credentials("sidecar", "of another edge"))
    bench.engine.reconfigure(replace(before, routes=(elsewhere,)))
    bench.caller.ask("INFO")
    guard.challenge(bench.edge.request("INFO"))
    again = bench.edge.request("INFO")
    assert guard.accepts(again)
    bench.edge.reply(again, 200)
    bench.caller.response(200)
    bench.engine.reconfigure(replace(before, routes=()))
    bench.hang_up(bench.caller)
