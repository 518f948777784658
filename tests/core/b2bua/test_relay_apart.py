"""Media that is relayed outside of the sidecar: each description waits for the relay's answer, and nothing overtakes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.b2bua import effects as e
from tests.core.b2bua.harness import ANSWER, OFFER, RELAY, Bench

AT = f"c=IN IP4 {RELAY}".encode()
Make = Callable[..., Bench]


def relayed(body: bytes, host: bytes, port: bytes, at: bytes) -> bytes:
    """A description as the other party is to have it: every line as it was, but for where the media goes."""
    return body.replace(b"c=IN IP4 " + host, AT).replace(b"m=audio " + port, b"m=audio " + at)


def asked(bench: Bench) -> list[tuple[str, bool]]:
    """Whose descriptions the relay was asked about, and which of them were offers."""
    return [(effect.leg, effect.is_offer) for effect in bench.facts(e.AskRelay)]


@pytest.mark.parametrize("after", [0.0, 0.1])
def test_offer_and_answer_lead_to_the_relay_and_keep_every_other_line(make: Make, after: float) -> None:
    bench = make(relay_after=after)
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    assert got.body == relayed(OFFER, b"192.0.2.10", b"4000", b"20000")
    bench.edge.reply(got, 200, body=ANSWER)
    back = bench.caller.response(200)
    assert back.body == relayed(ANSWER, b"192.0.2.20", b"6000", b"30000")
    bench.caller.ack(sent, back)
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)
    assert asked(bench) == [("A", True), ("B", False)]
    assert bench.facts(e.OpenMedia) == []
    assert [(fact.leg, fact.line.port) for fact in bench.facts(e.MediaDescribed)] == [("A", 4000), ("B", 6000)]


def test_a_caller_that_gives_up_before_the_relay_answers_is_not_dialled_for(make: Make) -> None:
    bench = make(relay_after=0.5)
    sent = bench.invite()
    bench.run(0.1)
    bench.caller.cancel(sent)
    bench.caller.response(200)
    bench.caller.ack(sent, bench.caller.response(487))
    bench.edge.hears_nothing(1.0)
    assert bench.fact(e.Ended).reason == "cancelled"


def test_an_answer_does_not_overtake_the_early_media_before_it(make: Make) -> None:
    bench = make(relay_after=0.2)
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183, body=ANSWER)
    bench.edge.reply(got, 200)
    assert bench.caller.response(183).body == relayed(ANSWER, b"192.0.2.20", b"6000", b"30000")
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    bench.hang_up(bench.caller)
    assert [fact.leg for fact in bench.facts(e.MediaDescribed)] == ["A", "B"]


def test_a_relay_that_takes_no_call_is_answered_with_503_in_words(make: Make) -> None:
    bench = make(relay_after=0.0, ports=0)
    sent = bench.invite()
    refused = bench.caller.response(503)
    bench.caller.ack(sent, refused)
    assert "no media relay takes the call" in (refused.headers.get("Warning") or "")
    assert refused.headers.get("Retry-After") == "5"
    bench.edge.hears_nothing()
    assert (bench.fact(e.Ended).reason, bench.fact(e.Ended).status) == ("no-media-relay", 503)


def test_a_relay_that_fails_at_the_answer_ends_both_legs(make: Make) -> None:
    bench = make(relay_after=0.0)
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.free_ports = 0
    bench.edge.reply(got, 200, body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(503))
    bench.edge.request("ACK")
    bench.edge.reply(bench.edge.request("BYE"), 200)
    assert bench.fact(e.Ended).reason == "no-media-relay"


def test_a_delayed_offer_is_the_edges_and_the_ack_has_the_answer(make: Make) -> None:
    bench = make(relay_after=0.01)
    sent = bench.invite(body=b"")
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, body=OFFER)
    bench.caller.ack(sent, bench.caller.response(200), body=ANSWER)
    assert bench.edge.request("ACK").body == relayed(ANSWER, b"192.0.2.20", b"6000", b"20000")
    assert asked(bench) == [("B", True), ("A", False)]
    bench.hang_up(bench.edge)


def test_a_hold_of_the_agent_is_its_offer(make: Make) -> None:
    bench = make(relay_after=0.01)
    bench.answered()
    bench.edge.ask("INVITE", body=ANSWER + b"a=sendonly\r\n")
    got = bench.caller.request("INVITE")
    assert got.body.endswith(b"a=sendonly\r\n")
    bench.caller.reply(got, 200, body=OFFER + b"a=recvonly\r\n")
    bench.edge.ack(bench.edge.asked, bench.edge.response(200))
    bench.caller.request("ACK")
    assert asked(bench)[2:] == [("B", True), ("A", False)]
    assert bench.facts(e.Renegotiated) == [e.Renegotiated(bench.fact(e.Started).call)], "once, at the answer"
    bench.hang_up(bench.caller)


def test_after_a_refused_offer_the_relay_is_to_go_by_what_was_agreed(make: Make) -> None:
    bench = make(relay_after=0.01)
    bench.answered()
    bench.caller.ask("INVITE", body=OFFER.replace(b"m=audio 4000", b"m=audio 4400"))
    bench.edge.reply(bench.edge.request("INVITE"), 488)
    bench.edge.request("ACK")
    bench.caller.ack(bench.caller.asked, bench.caller.response(488))
    assert len(bench.facts(e.Renegotiated)) == 2
    assert [fact.line.port for fact in bench.facts(e.MediaDescribed)] == [4000, 6000], "the refused offer never counted"
    bench.hang_up(bench.caller)


def test_rfc3264_8_what_only_we_changed_has_a_version_of_its_own(make: Make) -> None:
    """A party that renews the session with the description that it sent before finds its media on another relay."""

    def versions(offer: bytes, answer: bytes) -> tuple[bytes, bytes]:
        bench.caller.ask("INVITE", body=offer)
        got = bench.edge.request("INVITE")
        bench.edge.reply(got, 200, body=answer)
        back = bench.caller.response(200)
        bench.caller.ack(bench.caller.asked, back)
        bench.edge.request("ACK")
        return got.body.split(b"\r\n")[1], back.body.split(b"\r\n")[1]

    bench = make(relay_after=0.01)
    bench.answered()
    as_they_were = b"o=caller 1 1 IN IP4 192.0.2.10", b"o=agent 7 7 IN IP4 192.0.2.20"
    risen = b"o=caller 1 2 IN IP4 192.0.2.10", b"o=agent 7 8 IN IP4 192.0.2.20"
    assert versions(OFFER, ANSWER) == as_they_were
    bench.relay = "198.51.100.10"
    assert versions(OFFER, ANSWER) == risen
    assert versions(OFFER, ANSWER) == risen
    held = OFFER.replace(b"o=caller 1 1", b"o=caller 1 2") + b"a=sendonly\r\n"
    assert versions(held, ANSWER) == (b"o=caller 1 3 IN IP4 192.0.2.10", risen[1])
    bench.hang_up(bench.caller)


def test_the_branch_that_answers_is_the_one_that_counts(make: Make) -> None:
    bench = make(relay_after=0.01)
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 183, tag="one", body=ANSWER)
    bench.caller.response(183)
    bench.edge.reply(got, 183, tag="two", body=ANSWER.replace(b"m=audio 6000", b"m=audio 6600"))
    bench.caller.response(183)
    bench.edge.reply(got, 200, tag="one")
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    order = [effect for _, effect in bench.effects if isinstance(effect, e.MediaDescribed | e.Renegotiated)]
    assert isinstance(order[-1], e.Renegotiated)
    assert [fact.line.port for fact in order[:-1] if isinstance(fact, e.MediaDescribed)] == [4000, 6000, 6600, 6000]
    bench.hang_up(bench.caller)


def test_an_end_while_the_relay_is_asked_leaves_nothing(make: Make) -> None:
    bench = make(relay_after=0.5)
    bench.answered()
    bench.caller.ask("INVITE", body=OFFER)
    bench.run(0.1)
    bench.hang_up(bench.edge)
    bench.caller.ack(bench.caller.asked, bench.caller.response(487))
    bench.edge.hears_nothing(1.0)
