"""What somebody gets, and costs, who has not proved who it is."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.b2bua import effects as e
from sidecar.b2bua.allowance import Allowance, Tokens
from sidecar.b2bua.door import ALLOW
from sidecar.clocks import Mono
from sidecar.identity.digest import Answered as Authorised
from sidecar.identity.digest import Credentials, DigestClient, DigestServer
from sidecar.sip.message import Request, Response
from tests.core.b2bua.harness import OFFER, SDP_TYPE, STRANGER, Bench, Party
from tests.core.b2bua.types import Make

SECRET = b"0123456789abcdef"
SMALL = Allowance(burst=10, per_s=1.0)


def server() -> DigestServer:
    return DigestServer("trunk", {"eve": "secret"}, SECRET)


def request(who: Party, method: str, *, number: int = 1, call_id: str = "x", body: bytes = b"", **more: str) -> Request:
    """A request outside any dialog, as short as they come."""
    headers = {"Via": who.via(), "From": "<sip:a@b>;tag=1", "To": "<sip:a@192.0.2.1>", "Call-ID": call_id, "CSeq": f"{number} {method}"}
    return Request(method, "sip:a@192.0.2.1", (headers | more).items(), body)


def proof(challenge: Response, sent: Request, user: str = "eve", password: str = "secret") -> tuple[tuple[str, str], ...]:
    """What answers a challenge."""
    answer = DigestClient(Credentials(user, password)).answer(challenge, method=sent.method, uri=sent.uri, body=sent.body, cnonce="c")
    assert isinstance(answer, Authorised)
    return tuple(answer.headers)


# -- without state -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", [None, server()])
def test_a_flood_of_strangers_leaves_nothing_behind(make: Make, digest: DigestServer | None) -> None:
    bench = make(digest=digest)
    stranger = Party(bench, STRANGER, "stranger")
    for number in range(500):
        method = ("INVITE", "REGISTER", "OPTIONS", "BYE", "CANCEL", "SUBSCRIBE")[number % 6]
        stranger.send(request(stranger, method, call_id=f"flood-{number}", number=number + 1))
    bench.run(0.1)
    layer, told = bench.engine.layer, bench.engine.describe()
    assert (layer.pending, layer.next_deadline(), told["calls"], told["bound_transactions"]) == (0, None, 0, 0)
    assert told["strangers"] == {"sources": 1, "peers": 0}


def test_a_strangers_invite_is_answered_once_and_by_nothing_before(make: Make) -> None:
    """26.3.2.4: a single 401 or 407, without the retransmissions of 17.2.1."""
    bench = make(digest=server())
    stranger = Party(bench, STRANGER, "stranger")
    bench.invite(source=stranger)
    stranger.response(407)
    bench.run(40.0)
    assert [heard.message.status for heard in stranger.all if isinstance(heard.message, Response)] == [407]


def test_a_repeated_request_gets_the_same_to_tag(make: Make) -> None:
    """8.2.7."""
    bench = make()
    stranger = Party(bench, STRANGER, "stranger")
    sent = request(stranger, "OPTIONS", contact="<sip:a@203.0.113.66>", subject="something, so that there is room for an answer")
    stranger.send(sent)
    stranger.send(sent)
    first, second = stranger.response(403), stranger.response(403)
    assert first.to_tag == second.to_tag is not None


def test_what_a_call_of_an_authenticated_stranger_repeats_is_known(make: Make) -> None:
    """A retransmission carries credentials whose nonce count is used up: it is the transaction's, and not judged a second time."""
    bench = make(digest=server())
    stranger = Party(bench, STRANGER, "stranger")
    challenged = bench.invite(source=stranger)
    answer = proof(stranger.response(407), challenged)
    sent = bench.invite(source=stranger, headers=answer, number=18)
    got = bench.edge.request("INVITE")
    stranger.send(sent)
    bench.run(0.1)
    assert [heard.message.status for heard in stranger.inbox if isinstance(heard.message, Response)] == []
    stranger.cancel(sent)
    stranger.response(200)
    bench.edge.reply(got, 180)
    cancel = bench.edge.request("CANCEL")
    bench.edge.reply(cancel, 200)
    bench.edge.reply(got, 487)
    bench.edge.request("ACK")
    stranger.ack(sent, stranger.response(487))


# -- no amplification ----------------------------------------------------------------------------------------------------------------------

SHORT = st.text(st.sampled_from("ab1."), min_size=1, max_size=30)


@given(
    method=st.sampled_from(["INVITE", "OPTIONS", "REGISTER", "BYE", "CANCEL", "ACK", "FOO", "MESSAGE", "PRACK"]),
    via=st.sampled_from(
        ["h", "h;branch=z9hG4bK1", "h;rport", "203.0.113.66;branch=z9hG4bK2;rport", "h;rport;received=1.2.3.4;maddr=9.9.9.9"]
    ),
    tags=st.tuples(SHORT, st.none() | SHORT),
    padding=st.integers(0, 600),
    digest=st.booleans(),
)
def test_nobody_gets_more_octets_than_it_sent(method: str, via: str, tags: tuple[str, str | None], padding: int, digest: bool) -> None:
    bench = Bench(digest=server() if digest else None)
    stranger = Party(bench, STRANGER, "stranger")
    to = f"<sip:b>;tag={tags[1]}" if tags[1] else "<sip:b>"
    data = (
        f"{method} sip:a@192.0.2.1 SIP/2.0\r\nv:SIP/2.0/UDP {via}\r\nf:<sip:a>;tag={tags[0]}\r\nt:{to}\r\ni:1\r\nCSeq:1 {method}\r\n"
        f"a:{'x' * padding}\r\n\r\n"
    ).encode()
    answered = [effect.data for effect in _answers(bench, stranger, data)]
    assert sum(map(len, answered)) <= len(data)
    assert len(answered) <= 1


def _answers(bench: Bench, stranger: Party, data: bytes) -> list[e.SendSip]:
    stranger.send(data)
    bench.run(40.0)
    sent = bench.facts(e.SendSip)
    assert {effect.flow.remote[0] for effect in sent} <= {STRANGER[0]}  # nor is it aimed at anybody else
    return sent


def test_a_phones_invite_gets_both_challenges_and_a_bare_one_at_most_the_stronger(make: Make) -> None:
    bench = make(digest=server())
    stranger = Party(bench, STRANGER, "stranger")
    phone = {
        "Contact": "<sip:a@203.0.113.66:5060>",
        "Max-Forwards": "70",
        "User-Agent": "a phone",
        "Allow": ALLOW,
        SDP_TYPE[0]: SDP_TYPE[1],
    }
    stranger.send(request(stranger, "INVITE", body=OFFER, **phone))
    assert [value.split("algorithm=")[1][:3] for value in stranger.response(407).headers.all("Proxy-Authenticate")] == ["SHA", "MD5"]
    stranger.send(request(stranger, "INVITE", body=b"v=0\r\n" * 45, call_id="y"))
    assert ["SHA-256" in value for value in stranger.response(407).headers.all("Proxy-Authenticate")] == [True]
    stranger.send(request(stranger, "INVITE", call_id="z"))
    stranger.hears_nothing()
    assert bench.engine.counts["unanswered"] == 1


# -- nothing learned -----------------------------------------------------------------------------------------------------------------------


def test_known_and_unknown_users_and_numbers_get_the_same_octets(make: Make) -> None:
    """But for what is new in each answer: the nonce, the tag, and what was asked."""
    shapes = set()
    for user, number in (("eve", "agent"), ("bob", "agent"), ("eve", "+4930"), ("nobody", "10000")):
        bench = make(digest=server())
        stranger = Party(bench, STRANGER, "stranger")
        sent = bench.invite(source=stranger, uri=f"sip:{number}@192.0.2.1")
        challenge = stranger.response(407)
        stranger.ack(sent, challenge)
        again = bench.invite(source=stranger, uri=sent.uri, headers=proof(challenge, sent, user, "wrong"), number=18)
        heard = stranger.expect(407)
        assert isinstance(heard.message, Response)
        stranger.ack(again, heard.message)
        assert not any(name in heard.message.headers for name in ("Server", "User-Agent", "Warning", "Allow"))
        shapes.add((len(heard.data), tuple(name for name, _ in heard.message.headers.items())))
    assert len(shapes) == 1


@pytest.mark.parametrize("agent", ["friendly-scanner", "sipvicious/0.3", "SIPCLI v1.8", "VaxSIPUserAgent/3.1"])
def test_a_scanner_hears_nothing_and_is_counted(make: Make, agent: str) -> None:
    bench = make(digest=server())
    stranger = Party(bench, STRANGER, "stranger")
    for method in ("OPTIONS", "REGISTER", "INVITE"):
        stranger.send(request(stranger, method, call_id=method, **{"User-Agent": agent, "X-Room": "x" * 600}))
    stranger.hears_nothing()
    assert [(fact.reason, fact.method) for fact in bench.facts(e.Refused)] == [("scanner", m) for m in ("OPTIONS", "REGISTER", "INVITE")]


def test_whom_we_trust_may_call_itself_as_it_likes(bench: Bench) -> None:
    bench.caller.send(request(bench.caller, "OPTIONS", **{"User-Agent": "friendly-scanner"}))
    bench.caller.response(200)


# -- so much, and no more ------------------------------------------------------------------------------------------------------------------


def test_a_source_above_its_allowance_is_not_read_and_others_are(make: Make) -> None:
    bench = make(allowance=SMALL)
    stranger, other = Party(bench, STRANGER, "stranger"), Party(bench, ("203.0.113.67", 5060), "other")
    room = {"X-Room": "x" * 200}
    for number in range(50):
        stranger.send(request(stranger, "REGISTER", call_id=f"{number}", **room))
    bench.run(0.1)
    assert [heard.message.status for heard in stranger.inbox if isinstance(heard.message, Response)] == [403] * 10
    assert [fact.reason for fact in bench.facts(e.Refused)] == ["untrusted-source"] * 10 + ["over-rate"]
    assert bench.engine.counts["over-rate"] == 40
    other.send(request(other, "REGISTER", **room))
    other.response(403)
    stranger.inbox.clear()
    bench.run(3.0)
    for number in range(50):
        stranger.send(request(stranger, "REGISTER", call_id=f"later-{number}", **room))
    bench.run(0.1)
    assert len(stranger.inbox) == 3


def test_noise_and_stray_answers_cost_tokens_as_well(make: Make) -> None:
    bench = make(allowance=SMALL)
    stranger = Party(bench, STRANGER, "stranger")
    stray = b"SIP/2.0 200 OK\r\nv:SIP/2.0/UDP h;branch=z9hG4bK1\r\nf:<sip:a@b>;tag=1\r\nt:<sip:a@b>\r\ni:1\r\nCSeq: 1 BYE\r\n\r\n"
    for _ in range(10):
        stranger.send(stray)
        stranger.send(b"noise")
    bench.run(0.1)
    assert (bench.engine.counts["malformed"], bench.engine.counts["stray"], bench.engine.counts["over-rate"]) == (5, 5, 10)


def test_whom_we_trust_is_never_counted(make: Make) -> None:
    bench = make(allowance=SMALL)
    for number in range(50):
        bench.caller.send(request(bench.caller, "REGISTER", call_id=f"{number}"))
        bench.caller.response(405)
    assert bench.engine.describe()["strangers"] == {"sources": 0, "peers": 0}


def test_the_other_end_of_a_call_is_read_whoever_else_is_behind_its_address(make: Make) -> None:
    bench = make(allowance=SMALL, trusted=(ip_network("192.0.2.10/32"),))
    bench.answered()
    for number in range(30):
        bench.edge.send(request(bench.edge, "REGISTER", call_id=f"{number}", **{"X-Room": "x" * 200}))
    bench.run(0.1)
    assert len(bench.edge.inbox) == 10
    bench.edge.inbox.clear()
    bench.edge.ask("INFO")
    bench.caller.reply(bench.caller.request("INFO"), 200)
    bench.edge.response(200)
    bench.hang_up(bench.edge)


def test_callers_who_prove_who_they_are_pay_nothing(make: Make) -> None:
    bench = make(digest=server(), allowance=SMALL)
    stranger = Party(bench, STRANGER, "stranger")
    for number in range(30):
        sent = bench.invite(source=stranger, call_id=f"call-{number}", from_tag=f"t{number}")
        challenge = stranger.response(407)
        stranger.ack(sent, challenge)
        sent = bench.invite(source=stranger, call_id=f"call-{number}", from_tag=f"t{number}", headers=proof(challenge, sent), number=18)
        got = bench.edge.request("INVITE")
        bench.edge.reply(got, 486)
        bench.edge.request("ACK")
        stranger.ack(sent, stranger.response(486))


def test_the_tables_are_bounded_and_forget_whom_they_heard_longest_ago() -> None:
    tokens = Tokens(most=100)
    now = Mono(0.0)
    for number in range(1000):
        assert tokens.spend(f"198.51.{number // 250}.{number % 250}", SMALL, now) == 9
        tokens.spoken_with(f"host-{number}")
    assert tokens.describe() == {"sources": 100, "peers": 1000}
    for number in range(5000):
        tokens.spoken_with(f"host-{number}")
    assert tokens.describe()["peers"] == 4096
    assert tokens.spend("198.51.0.0", SMALL, now) == 9  # forgotten
    assert tokens.spend("198.51.3.249", SMALL, now) == 8


def test_one_network_of_ipv6_is_one_source() -> None:
    tokens, now = Tokens(), Mono(0.0)
    for number in range(10):
        assert tokens.spend(f"2001:db8:0:1::{number:x}", SMALL, now) is not None
    assert not tokens.hears("2001:db8:0:1:ffff::1", SMALL, now)
    assert tokens.hears("2001:db8:0:2::1", SMALL, now)
    assert tokens.hears("2001:db8:0:1::1%eth0", SMALL, Mono(1.0))
