"""Dialogs: built at both ends, kept in step, and the requests that they make."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sidecar.sip.dialog import Dialog, DialogKey, DialogState, key_of_request, key_of_response
from sidecar.sip.errors import MalformedMessage, OutOfOrder
from sidecar.sip.message import Request, Response
from tests.support.sip import answer, parsed_request, received

LOOSE = ("<sip:p1.example;lr>", "<sip:p2.example;lr>")


def pair(routes: Sequence[str] = (), status: int = 200) -> tuple[Dialog, Dialog]:
    """One dialog from both ends: caller's, callee's. `routes` as Record-Route from the callee's point of view."""
    record = [("Record-Route", route) for route in routes]
    invite = received(headers=record, cseq=7)
    response = answer(invite, status, "b1", headers=[("Contact", "<sip:bob@192.0.2.2:5080>")])
    return Dialog.uac(invite, response), Dialog.uas(invite, response)


def ok(request: Request, *, tag: str = "b1", contact: str | None = None, routes: Sequence[str] = (), status: int = 200) -> Response:
    headers = [("Contact", contact)] if contact else []
    response = answer(request, status, tag, headers=headers)
    response.headers.remove("Record-Route")
    for route in routes:
        response.headers.add("Record-Route", route)
    return response


def test_both_ends_agree_on_the_dialog() -> None:
    caller, callee = pair(LOOSE)
    assert caller.key == DialogKey("call-1", "a1", "b1")
    assert callee.key == DialogKey("call-1", "b1", "a1")
    assert caller.state is callee.state is DialogState.CONFIRMED
    assert (caller.remote_target, callee.remote_target) == ("sip:bob@192.0.2.2:5080", "sip:alice@192.0.2.1")
    assert (caller.local_cseq, caller.remote_cseq, callee.local_cseq, callee.remote_cseq) == (7, None, None, 7)
    assert caller.route_set == tuple(reversed(LOOSE))
    assert callee.route_set == LOOSE


def test_requests_of_each_end_are_matched_by_tags_at_the_other() -> None:
    caller, callee = pair()
    bye = caller.request("BYE")
    assert key_of_request(bye) == callee.key
    assert key_of_request(callee.request("INFO")) == caller.key
    bye.headers.prepend("Via", "SIP/2.0/UDP h;branch=z9hG4bK1")
    assert key_of_response(answer(bye, 200)) == caller.key


def test_a_peer_without_tags_still_has_a_dialog() -> None:
    invite = received(from_="<sip:a@b>")
    callee = Dialog.uas(invite, answer(invite, 200, "b1"))
    assert callee.key == DialogKey("call-1", "b1", "")
    assert key_of_request(received("BYE", from_="<sip:a@b>", to="<sip:b@c>;tag=b1")) == callee.key


def test_a_request_through_loose_routers() -> None:
    caller, _ = pair(LOOSE)
    bye = caller.request("BYE", headers=[("Reason", "Q.850;cause=16")], contact="<sip:me>", body=b"x", content_type="text/plain")
    assert (bye.method, bye.uri, bye.body) == ("BYE", "sip:bob@192.0.2.2:5080", b"x")
    assert bye.headers.items() == [
        ("Route", "<sip:p2.example;lr>"),
        ("Route", "<sip:p1.example;lr>"),
        ("Max-Forwards", "70"),
        ("From", "Alice <sip:alice@atlanta.example>;tag=a1"),
        ("To", "Bob <sip:bob@biloxi.example>;tag=b1"),
        ("Call-ID", "call-1"),
        ("CSeq", "8 BYE"),
        ("Contact", "<sip:me>"),
        ("Reason", "Q.850;cause=16"),
        ("Content-Type", "text/plain"),
    ]
    assert caller.next_hop == "sip:p2.example;lr"


def test_a_request_through_a_strict_router() -> None:
    caller, _ = pair(("<sip:p2.example;lr>", "<sip:strict.example;method=INVITE?X=y>"))
    bye = caller.request("BYE")
    assert bye.uri == "sip:strict.example"
    assert bye.headers.all("Route") == ["<sip:p2.example;lr>", "<sip:bob@192.0.2.2:5080>"]
    assert caller.next_hop == "sip:strict.example;method=INVITE?X=y"


def test_without_a_route_set_the_target_is_the_next_hop() -> None:
    caller, callee = pair()
    assert caller.next_hop == "sip:bob@192.0.2.2:5080"
    assert "Route" not in callee.request("BYE").headers


def test_cseq_counts_up_from_the_invite_and_ack_repeats_its_number() -> None:
    caller, callee = pair()
    assert [caller.request("INFO").cseq.number for _ in range(2)] == [8, 9]
    assert caller.ack(7).cseq == (7, "ACK")
    assert caller.next_cseq() == 10
    assert [callee.request("INFO").cseq.number for _ in range(2)] == [1, 2]


def test_a_request_out_of_order_is_refused_with_500_and_changes_nothing() -> None:
    _, callee = pair()
    callee.accept(received("INFO", cseq=9))
    with pytest.raises(OutOfOrder) as caught:
        callee.accept(received("INVITE", cseq=8, headers=[("Contact", "<sip:else>")]))
    assert caught.value.status == 500
    assert (callee.remote_cseq, callee.remote_target) == (9, "sip:alice@192.0.2.1")


def test_ack_and_cancel_do_not_count() -> None:
    _, callee = pair()
    callee.accept(received("INFO", cseq=9))
    callee.accept(received("ACK", cseq=7))
    assert callee.remote_cseq == 9


@pytest.mark.parametrize(
    ("method", "target"), [("UPDATE", "sip:new"), ("REFER", "sip:new"), ("INFO", "sip:alice@192.0.2.1"), ("BYE", "sip:alice@192.0.2.1")]
)
def test_only_target_refresh_requests_move_the_target(method: str, target: str) -> None:
    _, callee = pair()
    callee.accept(received(method, cseq=8, headers=[("Contact", "<sip:new>")]))
    assert callee.remote_target == target


def test_a_re_invite_without_contact_keeps_the_target() -> None:
    _, callee = pair()
    without = received("INVITE", cseq=8)
    without.headers.remove("Contact")
    callee.accept(without)
    assert callee.remote_target == "sip:alice@192.0.2.1"


def test_the_2xx_confirms_an_early_dialog_and_settles_its_route_set_once() -> None:
    invite = received(cseq=7)
    early = Dialog.uac(invite, ok(invite, status=180, routes=["<sip:early;lr>"]))
    assert (early.state, early.route_set, early.remote_target) == (DialogState.EARLY, ("<sip:early;lr>",), "sip:bob@192.0.2.2")
    early.refresh(ok(invite, status=183, contact="<sip:first>"))
    assert (early.state, early.remote_target) == (DialogState.EARLY, "sip:first")
    early.refresh(ok(invite, contact="<sip:second>", routes=["<sip:r1;lr>", "<sip:r2;lr>"]))
    assert (early.state, early.route_set, early.remote_target) == (DialogState.CONFIRMED, ("<sip:r2;lr>", "<sip:r1;lr>"), "sip:second")
    early.refresh(ok(invite, contact="<sip:third>", routes=["<sip:late;lr>"]))
    assert (early.route_set, early.remote_target) == (("<sip:r2;lr>", "<sip:r1;lr>"), "sip:third")


def test_a_refused_re_invite_and_a_late_provisional_leave_the_dialog_as_it_was() -> None:
    caller, _ = pair()
    again = received(cseq=8)
    caller.refresh(ok(again, status=488, contact="<sip:else>"))
    caller.refresh(ok(again, status=183, contact="<sip:else>"))
    assert caller.remote_target == "sip:bob@192.0.2.2:5080"


def test_a_2xx_to_update_in_an_early_dialog_does_not_confirm_it() -> None:
    caller, _ = pair(status=180)
    caller.refresh(ok(received("UPDATE", cseq=8), contact="<sip:else>"))
    assert (caller.state, caller.remote_target) == (DialogState.EARLY, "sip:else")


def test_the_callees_end_is_confirmed_and_ended_by_its_user() -> None:
    _, callee = pair(status=180)
    assert callee.state is DialogState.EARLY
    callee.confirm()
    assert callee.state is DialogState.CONFIRMED
    callee.terminate()
    callee.confirm()
    assert callee.state is DialogState.TERMINATED


def test_a_dialog_forming_request_needs_a_contact() -> None:
    invite = received()
    invite.headers.remove("Contact")
    with pytest.raises(MalformedMessage, match="contact"):
        Dialog.uas(invite, answer(invite, 200))
    invite.headers.add("Contact", "*")
    with pytest.raises(MalformedMessage, match="contact"):
        Dialog.uas(invite, answer(invite, 200))


def test_a_broken_record_route_is_refused_when_it_comes_not_when_it_is_used() -> None:
    invite = received(headers=[("Record-Route", "<nonsense>")])
    with pytest.raises(MalformedMessage):
        Dialog.uas(invite, answer(invite, 200))


def test_what_a_response_garbles_does_not_cost_the_call() -> None:
    invite = received()
    garbled = ok(invite, contact='"open <sip:x>', routes=["<nonsense>", "<sip:p;lr>"])
    caller = Dialog.uac(invite, garbled)
    assert (caller.remote_target, caller.route_set) == (invite.uri, ("<sip:p;lr>",))
    caller.refresh(garbled)
    again = received(cseq=8)
    again.headers.set("Contact", "<")
    caller.accept(again)
    assert caller.remote_target == invite.uri
    assert caller.request("BYE").uri == invite.uri


def test_display_names_and_parameters_of_the_parties_are_kept() -> None:
    invite = received(from_='"A, B" <sip:a@b;x=y>;tag=a1;p="q;r"')
    callee = Dialog.uas(invite, answer(invite, 200, "b1"))
    assert parsed_request(_with_via(callee.request("BYE"))).headers.get("To") == '"A, B" <sip:a@b;x=y>;tag=a1;p="q;r"'


def _with_via(request: Request) -> bytes:
    request.headers.prepend("Via", "SIP/2.0/UDP h;branch=z9hG4bK1")
    return request.encode()
