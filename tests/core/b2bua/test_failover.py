"""Where the B leg's INVITE goes when a target fails, redirects or is too far for a datagram (RFC 3263 4.3, RFC 3261 8.1.3.4, 18.1.1)."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.b2bua.settings import Listener
from sidecar.clocks import Addr
from sidecar.sip.flow import Flow
from sidecar.sip.message import Request
from sidecar.sip.targets import Target
from tests.core.b2bua.harness import ANSWER, CALLER, EDGE, GIVE_UP, OFFER, SIDECAR, Bench, Party
from tests.core.b2bua.types import Make

SECOND: Addr = ("192.0.2.21", 5070)
ELSEWHERE: Addr = ("192.0.2.77", 5060)
SIX: Addr = ("2001:db8::1", 5060)
EDGE_SIX: Addr = ("2001:db8::20", 5070)


def target(addr: Addr, transport: str = "udp") -> Target:
    return Target(transport, "edge.example", *addr)


def two_targets(make: Make, **options: object) -> tuple[Bench, Party]:
    """A route to a name that has two targets; the second one's party."""
    bench = make(target="sip:agent@edge.example", names={"edge.example": (target(EDGE), target(SECOND))}, **options)
    return bench, Party(bench, SECOND, "second")


def finish(bench: Bench, edge: Party, sent: Request, got: Request) -> None:
    """The call is answered by `edge` and hung up by the caller."""
    edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    edge.request("ACK")
    bench.caller.ask("BYE")
    edge.reply(edge.request("BYE"), 200)
    bench.caller.response(200)


def invites(bench: Bench) -> list[Flow]:
    """The flows of the INVITEs that left, retransmissions left out."""
    firsts = dict.fromkeys((effect.data, effect.flow) for effect in bench.facts(e.SendSip) if effect.data.startswith(b"INVITE"))
    return [flow for _, flow in firsts]


# -- failover ------------------------------------------------------------------------------------------------------------------------------


def test_a_503_moves_the_call_to_the_next_target_with_a_fresh_branch_and_tag(make: Make) -> None:
    bench, second = two_targets(make)
    sent = bench.invite()
    first = bench.edge.request("INVITE")
    bench.edge.reply(first, 503)
    bench.edge.request("ACK")
    got = second.request("INVITE")
    assert got.via.branch != first.via.branch
    assert got.from_tag != first.from_tag
    assert (got.call_id, got.uri, got.body) == (first.call_id, first.uri, first.body)
    bench.caller.hears_nothing()
    finish(bench, second, sent, got)
    assert [fact.target for fact in bench.facts(e.Dialled)] == ["sip:agent@edge.example"] * 2


def test_a_target_that_refuses_the_transport_is_left_for_the_next_and_tried_last_for_a_minute(make: Make) -> None:
    bench, second = two_targets(make)
    sent = bench.invite()
    bench.run(0.012)
    bench.engine.transport_failed(Flow("udp", SIDECAR, EDGE), bench.clock.now)
    bench.pump()
    finish(bench, second, sent, second.request("INVITE"))
    bench.edge.inbox.clear()
    again = bench.invite(call_id="again", from_tag="again")
    finish(bench, second, again, second.request("INVITE"))
    assert bench.edge.inbox == []
    bench.run(60.0)
    later = bench.invite(call_id="later", from_tag="later")
    finish(bench, bench.edge, later, bench.edge.request("INVITE"))


def test_a_silent_target_is_left_after_timer_b(make: Make) -> None:
    bench, second = two_targets(make)
    sent = bench.invite()
    got = second.request("INVITE", within=GIVE_UP + 1.0)
    assert bench.edge.times("INVITE")[-1] == 31.51
    bench.edge.inbox.clear()
    finish(bench, second, sent, got)


def test_a_target_is_left_alone_for_as_long_as_its_503_says_and_forgiven_when_it_answers(make: Make) -> None:
    bench, second = two_targets(make)

    def avoided() -> set[str]:
        return set(bench.engine.ways.avoided(bench.clock.now))

    for tag in ("one", "two"):
        sent = bench.invite(call_id=tag, from_tag=tag)
        for party in (bench.edge, second):
            party.reply(party.request("INVITE"), 503, headers=[("Retry-After", "10")])
            party.request("ACK")
        bench.caller.ack(sent, bench.caller.response(503))
        assert avoided() == {"udp:192.0.2.20:5070", "udp:192.0.2.21:5070"}
    sent = bench.invite(call_id="three", from_tag="three")
    bench.edge.reply(bench.edge.request("INVITE"), 486)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))
    assert avoided() == {"udp:192.0.2.21:5070"}
    bench.run(10.0)
    assert avoided() == set()


@pytest.mark.parametrize("status", [404, 486, 500, 603])
def test_any_other_refusal_is_the_whole_domains(make: Make, status: int) -> None:
    bench, second = two_targets(make)
    sent = bench.invite()
    bench.edge.reply(bench.edge.request("INVITE"), status)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(status))
    second.hears_nothing()


def test_when_every_target_says_503_the_caller_gets_the_last_one_with_its_retry_after(make: Make) -> None:
    bench, second = two_targets(make)
    sent = bench.invite()
    for party, seconds in ((bench.edge, "7"), (second, "9 (maintenance)")):
        party.reply(party.request("INVITE"), 503, headers=[("Retry-After", seconds)])
        party.request("ACK")
    final = bench.caller.response(503)
    assert final.headers.all("Retry-After") == ["9 (maintenance)"]
    bench.caller.ack(sent, final)


def test_early_dialogs_of_a_target_that_failed_are_not_those_of_the_next(make: Make) -> None:
    bench, second = two_targets(make)
    sent = bench.invite()
    first = bench.edge.request("INVITE")
    bench.edge.reply(first, 183, tag="same", body=ANSWER)
    early = bench.caller.response(183)
    bench.edge.reply(first, 503, tag="same")
    bench.edge.request("ACK")
    got = second.request("INVITE")
    second.reply(got, 180, tag="same")
    assert bench.caller.response(180).to_tag != early.to_tag
    finish(bench, second, sent, got)


def test_a_caller_that_gives_up_between_two_targets_stops_the_dialling(make: Make) -> None:
    bench, second = two_targets(make)
    sent = bench.invite()
    first = bench.edge.request("INVITE")
    bench.edge.reply(first, 100)
    bench.caller.cancel(sent)
    bench.caller.response(200)
    bench.caller.ack(sent, bench.caller.response(487))
    bench.edge.request("CANCEL")
    bench.edge.reply(first, 503)
    bench.edge.request("ACK")
    second.hears_nothing()


# -- redirects -----------------------------------------------------------------------------------------------------------------------------


def test_a_redirect_to_a_listed_host_is_followed(make: Make) -> None:
    bench = make(route={"redirects": ("192.0.2.77",)})
    moved = Party(bench, ELSEWHERE, "moved")
    sent = bench.invite()
    first = bench.edge.request("INVITE")
    contacts = "<sip:b@203.0.113.1>;q=0.9, <sip:moved@192.0.2.77;method=INVITE?X-Evil=1>;q=0.5"
    bench.edge.reply(first, 302, headers=[("Contact", contacts)])
    bench.edge.request("ACK")
    got = moved.request("INVITE")
    assert (got.uri, got.call_id, got.body) == ("sip:moved@192.0.2.77", first.call_id, first.body)
    assert "X-Evil" not in got.headers
    assert got.from_tag != first.from_tag
    finish(bench, moved, sent, got)


@pytest.mark.parametrize("listed", [(), ("192.0.2.78",)])
def test_a_redirect_elsewhere_goes_back_to_the_caller(make: Make, listed: tuple[str, ...]) -> None:
    bench = make(route={"redirects": listed})
    moved = Party(bench, ELSEWHERE, "moved")
    sent = bench.invite()
    bench.edge.reply(bench.edge.request("INVITE"), 302, headers=[("Contact", "<sip:moved@192.0.2.77>")])
    bench.edge.request("ACK")
    final = bench.caller.response(302)
    assert final.headers.all("Contact") == ["<sip:moved@192.0.2.77>"]
    bench.caller.ack(sent, final)
    moved.hears_nothing()


def test_a_redirect_that_fails_leads_to_the_next_by_q_and_a_circle_ends(make: Make) -> None:
    bench = make(route={"redirects": ("192.0.2.*",)})
    moved, second = Party(bench, ELSEWHERE, "moved"), Party(bench, SECOND, "second")
    sent = bench.invite()
    contacts = "<sip:s@192.0.2.21:5070>;q=0.1, <sip:m@192.0.2.77>;q=0.8"
    bench.edge.reply(bench.edge.request("INVITE"), 302, headers=[("Contact", contacts)])
    bench.edge.request("ACK")
    moved.reply(moved.request("INVITE"), 480)
    moved.request("ACK")
    second.reply(second.request("INVITE"), 302, headers=[("Contact", "<sip:m@192.0.2.77>, <sip:agent@192.0.2.20:5070>")])
    second.request("ACK")
    bench.caller.ack(sent, bench.caller.response(302))
    moved.hears_nothing()
    assert bench.edge.inbox == []


# -- size ----------------------------------------------------------------------------------------------------------------------------------


def test_a_request_too_long_for_a_datagram_goes_by_tcp(make: Make) -> None:
    bench = make()
    sent = bench.invite(headers=[("X-Long", "a" * 1200)])
    got = bench.edge.request("INVITE")
    assert got.via.transport == "TCP"
    assert invites(bench) == [Flow("tcp", SIDECAR, EDGE)]
    finish(bench, bench.edge, sent, got)
    acks = [effect.flow for effect in bench.facts(e.SendSip) if effect.data.startswith((b"ACK", b"BYE"))]
    assert {flow.transport for flow in acks} == {"udp"}


def test_what_tcp_refuses_goes_by_udp_after_all_and_tcp_is_left_alone_for_a_while(make: Make) -> None:
    bench = make()
    long = [("X-Long", "a" * 1200)]
    sent = bench.invite(headers=long)
    bench.run(0.012)
    bench.engine.transport_failed(Flow("tcp", SIDECAR, EDGE), bench.clock.now, "connection refused")
    bench.pump()
    bench.run(0.05)
    bench.edge.inbox.pop(0)  # the wire of this bench does not refuse TCP
    got = bench.edge.request("INVITE")
    assert got.via.transport == "UDP"
    finish(bench, bench.edge, sent, got)
    again = bench.invite(headers=long, call_id="again", from_tag="again")
    finish(bench, bench.edge, again, bench.edge.request("INVITE"))
    assert [flow.transport for flow in invites(bench)] == ["tcp", "udp", "udp"]


def test_the_limit_is_the_configurations(make: Make) -> None:
    bench = make(largest_datagram=4000)
    sent = bench.invite(headers=[("X-Long", "a" * 1200)])
    finish(bench, bench.edge, sent, bench.edge.request("INVITE"))
    assert invites(bench) == [Flow("udp", SIDECAR, EDGE)]


# -- transports and families ---------------------------------------------------------------------------------------------------------------


def test_each_leg_has_its_own_family_in_contact_and_media(make: Make) -> None:
    both = (Listener(SIDECAR, SIDECAR), Listener(SIX, SIX, "tcp"))
    bench = make(target="sip:agent@[2001:db8::20]:5070;transport=tcp", listeners=both)
    bench.wire.attach(SIX, bench._arrive)
    sent = bench.invite()
    bench.run(0.05)
    assert bench.fact(e.OpenMedia).hosts == ("192.0.2.1", "2001:db8::1")
    (flow,) = invites(bench)
    assert flow == Flow("tcp", SIX, EDGE_SIX)
    invite = next(effect.data for effect in bench.facts(e.SendSip) if effect.data.startswith(b"INVITE"))
    assert b"Contact: <sip:alice@[2001:db8::1]:5060;transport=tcp>\r\n" in invite
    assert b"\r\nc=IN IP6 2001:db8::1\r\n" in invite
    assert b"Via: SIP/2.0/TCP [2001:db8::1]:5060;" in invite
    bench.caller.cancel(sent)
    bench.caller.response(200)
    bench.caller.ack(sent, bench.caller.response(487))


def test_a_target_of_a_family_that_nothing_listens_on_is_said(make: Make) -> None:
    bench = make(target="sip:agent@[2001:db8::20]:5070")
    sent = bench.invite()
    bench.caller.ack(sent, bench.caller.response(503))
    assert "address family that nothing here listens on" in bench.fact(e.Ended).cause


class BehindNat(Party):
    """A phone that knows its private address alone."""

    def via(self) -> str:
        return super().via().replace(self.addr[0], "192.168.1.5")

    def contact(self) -> str:
        return super().contact().replace(self.addr[0], "192.168.1.5")


def test_a_caller_behind_a_nat_is_reached_where_its_datagrams_come_from(make: Make) -> None:
    bench = make()
    bench.caller = BehindNat(bench, CALLER, "caller")
    bench.answered()
    bench.hang_up(bench.edge)


def test_a_proxy_that_did_not_record_its_route_is_passed_by(make: Make) -> None:
    bench = make()
    phone = Party(bench, ("192.0.2.99", 5060), "phone")
    sent = bench.invite(contact=phone.contact())
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.edge.ask("BYE")
    phone.reply(phone.request("BYE"), 200)
    bench.edge.response(200)


def test_media_moves_with_the_target_to_another_address_of_ours(make: Make) -> None:
    listeners = (Listener(SIDECAR, SIDECAR), Listener(SIX, SIX))
    targets = (target(EDGE_SIX), target(EDGE))
    bench = make(target="sip:agent@edge.example", names={"edge.example": targets}, listeners=listeners)
    sent = bench.invite(body=OFFER)
    bench.run(0.012)
    bench.engine.transport_failed(Flow("udp", SIX, EDGE_SIX), bench.clock.now)
    bench.pump()
    got = bench.edge.request("INVITE")
    assert [effect.hosts for effect in bench.facts(e.OpenMedia)] == [("192.0.2.1", "2001:db8::1"), ("192.0.2.1", "192.0.2.1")]
    assert b"\r\nc=IN IP4 192.0.2.1\r\n" in got.body
    finish(bench, bench.edge, sent, got)
