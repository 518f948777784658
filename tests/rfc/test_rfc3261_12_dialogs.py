"""RFC 3261 section 12: dialogs."""

from __future__ import annotations

import pytest

from sidecar.sip.dialog import Dialog, DialogState, key_of_request
from sidecar.sip.errors import OutOfOrder
from sidecar.sip.message import response_to
from tests.support.sip import answer, received

ROUTES = [("Record-Route", "<sip:p1.example;lr;x=1>"), ("Record-Route", "<sip:p2.example;lr>")]
CONTACT = [("Contact", "<sip:bob@192.0.2.2:5080>")]


def ends(status: int = 200, routes: list[tuple[str, str]] = ROUTES) -> tuple[Dialog, Dialog]:
    invite = received(headers=routes, cseq=3, uri="sips:bob@192.0.2.2")
    response = answer(invite, status, "b1", headers=CONTACT)
    return Dialog.uac(invite, response), Dialog.uas(invite, response)


def test_12_1_1_the_response_copies_every_record_route_in_order_with_its_parameters() -> None:
    assert response_to(received(headers=ROUTES), 200, to_tag="b").headers.all("Record-Route") == [value for _, value in ROUTES]


def test_12_1_1_the_servers_route_set_is_record_route_in_order() -> None:
    assert ends()[1].route_set == tuple(value for _, value in ROUTES)


def test_12_1_1_the_servers_state_comes_from_the_request() -> None:
    _, server = ends()
    assert (server.remote_target, server.remote_cseq, server.local_cseq, server.call_id) == ("sip:alice@192.0.2.1", 3, None, "call-1")
    assert (server.local_tag, server.remote_tag) == ("b1", "a1")
    assert (server.local.uri, server.remote.uri) == ("sip:bob@biloxi.example", "sip:alice@atlanta.example")


def test_12_1_1_no_from_tag_counts_as_an_empty_tag() -> None:
    invite = received(from_="<sip:a@b>")
    assert Dialog.uas(invite, answer(invite, 200)).remote_tag == ""


def test_12_1_2_the_clients_route_set_is_record_route_reversed() -> None:
    assert ends()[0].route_set == tuple(value for _, value in reversed(ROUTES))


def test_12_1_2_the_clients_state_comes_from_the_request_and_the_response() -> None:
    client, _ = ends()
    assert (client.remote_target, client.local_cseq, client.remote_cseq, client.call_id) == ("sip:bob@192.0.2.2:5080", 3, None, "call-1")
    assert (client.local_tag, client.remote_tag) == ("a1", "b1")


def test_12_1_2_no_to_tag_counts_as_an_empty_tag() -> None:
    invite = received()
    assert Dialog.uac(invite, answer(invite, 200, None)).remote_tag == ""


def test_12_1_a_provisional_response_makes_the_dialog_early() -> None:
    assert [end.state for end in ends(180)] == [DialogState.EARLY, DialogState.EARLY]


def test_12_1_2_the_secure_flag_follows_a_sips_request_uri() -> None:
    assert all(end.secure for end in ends())
    invite = received()
    assert not Dialog.uac(invite, answer(invite, 200)).secure


def test_12_2_1_1_to_from_and_call_id_are_the_dialogs() -> None:
    client, server = ends()
    request = server.request("BYE")
    assert (request.from_tag, request.to_tag, request.call_id) == ("b1", "a1", "call-1")
    assert key_of_request(request) == client.key


def test_12_2_1_1_cseq_numbers_rise_by_one_and_name_the_method() -> None:
    client, _ = ends()
    assert [client.request(method).cseq for method in ("INFO", "BYE")] == [(4, "INFO"), (5, "BYE")]


def test_12_2_1_1_a_loose_route_leaves_the_target_in_the_request_uri() -> None:
    client, _ = ends()
    request = client.request("BYE")
    assert request.uri == "sip:bob@192.0.2.2:5080"
    assert request.headers.all("Route") == ["<sip:p2.example;lr>", "<sip:p1.example;lr;x=1>"]


def test_12_2_1_1_a_strict_route_goes_into_the_request_uri_and_the_target_to_the_end() -> None:
    client, _ = ends(routes=[("Record-Route", "<sip:p1.example;lr>"), ("Record-Route", "<sip:p2.example>")])
    request = client.request("BYE")
    assert request.uri == "sip:p2.example"
    assert request.headers.all("Route") == ["<sip:p1.example;lr>", "<sip:bob@192.0.2.2:5080>"]


def test_12_2_1_1_an_empty_route_set_puts_the_target_into_the_request_uri_without_route() -> None:
    client, _ = ends(routes=[])
    request = client.request("BYE")
    assert request.uri == "sip:bob@192.0.2.2:5080"
    assert "Route" not in request.headers


def test_12_2_1_2_a_2xx_to_a_target_refresh_request_moves_the_target() -> None:
    client, _ = ends()
    client.refresh(answer(received(cseq=4), 200, "b1", headers=[("Contact", "<sip:moved>")]))
    assert client.remote_target == "sip:moved"


def test_12_2_2_a_lower_cseq_is_out_of_order_and_gets_500() -> None:
    _, server = ends()
    with pytest.raises(OutOfOrder) as caught:
        server.accept(received("INFO", cseq=2))
    assert caught.value.status == 500


def test_12_2_2_a_gap_in_cseq_is_no_error_and_moves_the_remote_number() -> None:
    _, server = ends()
    server.accept(received("INFO", cseq=300))
    assert server.remote_cseq == 300


def test_12_2_2_a_target_refresh_request_moves_the_target() -> None:
    _, server = ends()
    server.accept(received("INVITE", cseq=4, headers=[]))
    assert server.remote_target == "sip:alice@192.0.2.1"
    moved = received("INVITE", cseq=5)
    moved.headers.set("Contact", "<sip:alice@192.0.2.7>")
    server.accept(moved)
    assert server.remote_target == "sip:alice@192.0.2.7"


def test_12_2_the_route_set_of_a_confirmed_dialog_never_changes() -> None:
    client, server = ends()
    before = client.route_set, server.route_set
    client.refresh(answer(received(cseq=4, headers=[("Record-Route", "<sip:new;lr>")]), 200, "b1", headers=CONTACT))
    server.accept(received(cseq=4, headers=[("Record-Route", "<sip:new;lr>")]))
    assert (client.route_set, server.route_set) == before
