"""Transfers: REFER, its notifications, and the dialog ids that Replaces carries (RFC 3515, 3891, 4488)."""

from __future__ import annotations

import pytest

from sidecar.b2bua import effects as e
from sidecar.sip.dialog import Dialog
from sidecar.sip.message import Request
from tests.core.b2bua.harness import ANSWER, GIVE_UP, Bench, Headers, Party
from tests.core.b2bua.types import Make


def second_call(bench: Bench, **invite: object) -> tuple[Request, Request]:
    """Another call from the same caller to the same edge, answered."""
    sent = bench.invite(call_id="second", from_tag="caller-tag-2", **invite)  # type: ignore[arg-type]
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 200, tag="edge-2", body=ANSWER)
    bench.caller.ack(sent, bench.caller.response(200))
    bench.edge.request("ACK")
    return sent, got


def dialog_of(party: Party) -> Dialog:
    """The party's own view of its call."""
    assert party.dialog is not None
    return party.dialog


def at_caller(bench: Bench) -> str:
    """The caller's call as it would name it in Replaces to whom it calls: their tag first."""
    dialog = dialog_of(bench.caller)
    return f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}"


def at_edge(bench: Bench) -> str:
    """The same call as the edge has to be told of it."""
    dialog = dialog_of(bench.edge)
    return f"{dialog.call_id};to-tag={dialog.local_tag};from-tag={dialog.remote_tag}"


def test_replaces_names_the_edges_own_dialog_when_it_arrives_there(bench: Bench) -> None:
    bench.answered()
    first = dialog_of(bench.caller), dialog_of(bench.edge)
    ours, theirs = at_caller(bench), at_edge(bench)
    assert ours != theirs
    _, got = second_call(bench, headers=[("Require", "replaces"), ("Replaces", f"{ours};early-only;x=1")])
    assert got.headers.all("Replaces") == [f"{theirs};early-only;x=1"]
    assert [(effect.call_id, effect.header) for effect in bench.facts(e.Replaces)] == [("abc@192.0.2.10", "Replaces")]
    # RFC 3891 3: the edge ends the call that was replaced.
    second = dialog_of(bench.caller), dialog_of(bench.edge)
    bench.caller.dialog, bench.edge.dialog = first
    bench.hang_up(bench.edge)
    bench.caller.dialog, bench.edge.dialog = second
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("value", ["unknown@host;to-tag=a;from-tag=b", "no-tags", "half;to-tag=a", ";to-tag=a;from-tag=b"])
def test_replaces_that_names_no_dialog_of_ours_crosses_as_it_came(bench: Bench, value: str) -> None:
    _, got = second_call(bench, headers=[("Replaces", value)])
    assert got.headers.all("Replaces") == [value]
    bench.hang_up(bench.caller)


def test_join_and_target_dialog_are_told_in_the_edges_ids_too(bench: Bench) -> None:
    bench.answered()
    first = dialog_of(bench.caller), dialog_of(bench.edge)
    a, b = first
    headers = [("Join", at_caller(bench)), ("Target-Dialog", f"{a.call_id};local-tag={a.local_tag};remote-tag={a.remote_tag}")]
    expected = at_edge(bench)
    _, got = second_call(bench, headers=headers)
    assert got.headers.get("Join") == expected
    assert got.headers.get("Target-Dialog") == f"{b.call_id};local-tag={b.remote_tag};remote-tag={b.local_tag}"
    bench.hang_up(bench.caller)
    bench.caller.dialog, bench.edge.dialog = first
    bench.hang_up(bench.caller)


def test_an_attended_transfer_names_the_other_call_as_its_target_knows_it(bench: Bench) -> None:
    """The caller has two calls through us and refers the edge of the first to that of the second."""
    bench.answered()
    first = dialog_of(bench.caller), dialog_of(bench.edge)
    second_call(bench)
    second = dialog_of(bench.caller), dialog_of(bench.edge)
    known, meant = at_caller(bench), at_edge(bench)
    bench.caller.dialog, bench.edge.dialog = first
    escaped = known.replace("@", "%40").replace(";", "%3B").replace("=", "%3D")
    bench.caller.ask("REFER", headers=[("Refer-To", f'"Carol" <sip:agent@192.0.2.1?Replaces={escaped}&X-Keep=a%20b>;x=1')])
    refer = bench.edge.request("REFER")
    said = meant.replace("@", "%40").replace(";", "%3B").replace("=", "%3D")
    assert refer.headers.get("Refer-To") == f'"Carol" <sip:agent@192.0.2.1?Replaces={said}&X-Keep=a%20b>;x=1'
    bench.edge.reply(refer, 202)
    bench.caller.response(202)
    for pair in (first, second):
        bench.caller.dialog, bench.edge.dialog = pair
        bench.hang_up(bench.caller)


def test_an_invite_whose_replaces_already_names_the_edges_dialog_keeps_it(bench: Bench) -> None:
    """The referred party dials through us with what the translated Refer-To said."""
    bench.answered()
    first = dialog_of(bench.caller), dialog_of(bench.edge)
    meant = at_edge(bench)
    _, got = second_call(bench, headers=[("Replaces", meant)])
    assert got.headers.get("Replaces") == meant
    bench.hang_up(bench.caller)
    bench.caller.dialog, bench.edge.dialog = first
    bench.hang_up(bench.caller)


def test_a_refer_to_without_a_dialog_crosses_octet_for_octet(bench: Bench) -> None:
    bench.answered()
    for value in (
        "<sip:carol@192.0.2.30?Replaces=1%40x%3Bto-tag%3Da%3bfrom-tag%3Db&Subject=%C3%A4>",
        "sip:carol@192.0.2.30;a=b",
        "<tel:+1?x>",
    ):
        bench.caller.ask("REFER", headers=[("Refer-To", value)])
        refer = bench.edge.request("REFER")
        assert refer.headers.all("Refer-To") == [value]
        bench.edge.reply(refer, 603)
        bench.caller.response(603)
    bench.hang_up(bench.caller)


@pytest.mark.parametrize("who", ["caller", "edge"])
def test_a_route_may_forbid_transfers(make: Make, who: str) -> None:
    bench = make(route={"refer": "refuse"})
    bench.answered()
    asks, other = (bench.caller, bench.edge) if who == "caller" else (bench.edge, bench.caller)
    asks.ask("REFER", headers=[("Refer-To", "<sip:carol@192.0.2.30>")])
    refused = asks.response(403)
    assert refused.headers.get("Warning") == '399 trunkside "route agent lets nobody be transferred"'
    other.hears_nothing()
    bench.hang_up(other)
    assert bench.fact(e.Ended).reason == "completed"


@pytest.mark.parametrize("sub", ["true", "false"])
def test_refer_sub_crosses_both_ways_and_decides_alone_whether_notifications_come(bench: Bench, sub: str) -> None:
    bench.answered()
    bench.edge.ask("REFER", headers=[("Refer-To", "<sip:carol@192.0.2.30>"), ("Refer-Sub", sub), ("Require", "norefersub")])
    refer = bench.caller.request("REFER")
    assert (refer.headers.get("Refer-Sub"), refer.headers.get("Require")) == (sub, "norefersub")
    bench.caller.reply(refer, 202 if sub == "true" else 200, headers=[("Refer-Sub", sub)])
    assert bench.edge.response(202 if sub == "true" else 200).headers.get("Refer-Sub") == sub
    if sub == "true":
        bench.caller.ask("NOTIFY", headers=[("Event", "refer"), ("Subscription-State", "terminated;reason=noresource")])
        bench.edge.reply(bench.edge.request("NOTIFY"), 200)
        bench.caller.response(200)
    bench.hang_up(bench.edge)


FINISHED = [("Event", "refer"), ("Subscription-State", "terminated;reason=noresource"), ("Content-Type", "message/sipfrag;version=2.0")]
TRYING = [("Event", "refer"), ("Subscription-State", "active;expires=60"), ("Content-Type", "message/sipfrag;version=2.0")]


def referred(bench: Bench, asks: Party, answers: Party, *, answer: Headers = ()) -> None:
    """A REFER that was taken."""
    asks.ask("REFER", headers=[("Refer-To", "<sip:carol@192.0.2.30>")])
    answers.reply(answers.request("REFER"), 202, headers=answer)
    asks.response(202)


@pytest.mark.parametrize("who", ["caller", "edge"])
@pytest.mark.parametrize("ends", ["who asked", "who calls"])
def test_who_asked_for_a_transfer_hears_of_it_after_the_bye(bench: Bench, who: str, ends: str) -> None:
    """RFC 5057 5: BYE ends the call and not the subscription of the REFER. The dialogs are forgotten with its last notification."""
    bench.answered()
    asks, answers = (bench.caller, bench.edge) if who == "caller" else (bench.edge, bench.caller)
    referred(bench, asks, answers)
    bench.hang_up(asks if ends == "who asked" else answers)
    assert bench.fact(e.Ended).reason == "completed"
    for state, fragment in ((TRYING, b"SIP/2.0 100 Trying\r\n"), (FINISHED, b"SIP/2.0 200 OK\r\n")):
        assert bench.facts(e.Gone) == []
        answers.ask("NOTIFY", headers=state, body=fragment)
        heard = asks.request("NOTIFY")
        assert (heard.body, heard.headers.get("Subscription-State")) == (fragment, state[1][1])
        asks.reply(heard, 200)
        answers.response(200)
    assert bench.fact(e.Gone)


def test_nothing_but_notifications_crosses_after_the_bye_and_only_to_who_waits(bench: Bench) -> None:
    bench.answered()
    referred(bench, bench.caller, bench.edge)
    bench.hang_up(bench.caller)
    bench.edge.ask("INFO")
    bench.edge.response(481)
    bench.caller.ask("NOTIFY", headers=FINISHED, body=b"SIP/2.0 200 OK\r\n")
    bench.caller.response(481)
    bench.run(GIVE_UP)
    assert bench.fact(e.Gone)
    bench.edge.ask("NOTIFY", headers=FINISHED, body=b"SIP/2.0 200 OK\r\n")
    bench.edge.response(481)


@pytest.mark.parametrize("answer", [[("Refer-Sub", "false")], [("Refer-Sub", "False;x=y")]])
def test_a_transfer_without_a_subscription_keeps_no_call(bench: Bench, answer: Headers) -> None:
    bench.answered()
    referred(bench, bench.caller, bench.edge, answer=answer)
    bench.hang_up(bench.caller)
    bench.run(0.1)
    assert bench.fact(e.Gone)


def test_a_transfer_of_a_call_that_is_never_answered_keeps_none(bench: Bench) -> None:
    sent = bench.invite()
    got = bench.edge.request("INVITE")
    bench.edge.reply(got, 180)
    bench.caller.join(sent, bench.caller.response(180))
    bench.caller.ask("REFER", headers=[("Refer-To", "<sip:carol@192.0.2.30>")])
    bench.edge.reply(bench.edge.request("REFER"), 202)
    bench.caller.response(202)
    bench.edge.reply(got, 486)
    bench.edge.request("ACK")
    bench.caller.ack(sent, bench.caller.response(486))
    bench.run(0.1)
    assert bench.fact(e.Gone)
