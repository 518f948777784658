"""What a route's identity policy does to calls, what the trace is told of it, and where an outbound route may dial."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from sidecar.b2bua import effects as e
from sidecar.identity.digest import Answered as Authorised
from sidecar.identity.digest import Credentials, DigestClient, DigestServer
from sidecar.identity.findings import FINDINGS
from sidecar.identity.inbound import Policy
from sidecar.identity.presets import PRESETS
from sidecar.sip.message import Request, Response
from tests.support.relay import CALLER, Relay, Relayed, route

CALL_ID = "2xTb9aQ0kLm3Zp8RwV4sY1cN7dE"
CLAIM = ("X-Sip-Call-Id", "another-id@upstream")
TOKEN = ("X-Correlation-Id", "0123456789abcdef0123456789abcdef")
STRANGER = ("203.0.113.66", 5060)


def dialled(relay: Relay, *headers: tuple[str, str], call_id: str = CALL_ID) -> Relayed:
    return relay.call("sip:agent@generic.test", call_id=call_id, headers=headers)


def answered(relay: Relay, *headers: tuple[str, str], call_id: str = CALL_ID) -> Response:
    """The only thing that left: an answer to the caller."""
    left = relay.offer("sip:agent@generic.test", call_id=call_id, headers=headers)
    assert len(left) == 1
    assert isinstance(left[0], Response)
    return left[0]


def found(relay: Relay) -> list[str]:
    return [finding.name for finding in relay.of(e.Found)]


# -- a claim that disagrees --------------------------------------------------------------------------------------------------------------


def test_overwrite_carries_the_call_id_and_tells() -> None:
    relay = Relay(route("generic"))
    call = dialled(relay, CLAIM)
    assert call.arrived.headers.all("X-Sip-Call-Id") == [CALL_ID]
    assert found(relay) == ["claim_disagrees"]
    assert relay.of(e.Started)[0].sip_call_id == CALL_ID


def test_reject_answers_400_with_the_reason_and_dials_nobody() -> None:
    relay = Relay(route("generic", policy=Policy("reject")))
    answer = answered(relay, CLAIM)
    assert answer.status == 400
    assert "X-Sip-Call-Id says 'another-id@upstream'" in (answer.headers.get("Warning") or "")
    assert relay.of(e.Ended)[0].reason == "identity-rejected"
    assert relay.of(e.Dialled) == []


def test_keep_links_the_call_by_the_claim_and_knows_the_call_id_besides() -> None:
    relay = Relay(route("generic", policy=Policy("keep")))
    call = dialled(relay, CLAIM)
    assert (call.arrived.call_id, call.arrived.headers.get("X-Sip-Call-Id"), call.arrived.headers.get("X-CID")) == (
        CALL_ID,
        CLAIM[1],
        CLAIM[1],
    )
    told = relay.known(call)
    assert (told.sip_call_id, told.b_leg_call_ids, told.platform_ids) == (CLAIM[1], [CALL_ID], [CALL_ID])


# -- findings ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call_id", "headers", "name"),
    [
        ("a b", [], "call_id_malformed"),
        ("x" * 256, [], "call_id_too_long"),
        (CALL_ID, [TOKEN, TOKEN], "correlation_duplicate"),
        (CALL_ID, [TOKEN, ("X-Correlation-Id", "other")], "correlation_contradictory"),
        (CALL_ID, [("X-Correlation-Id", "two words")], "correlation_malformed"),
        (CALL_ID, [CLAIM], "claim_disagrees"),
    ],
)
def test_a_finding_breaks_no_call_unless_the_policy_names_it(call_id: str, headers: list[tuple[str, str]], name: str) -> None:
    lenient = Relay(route("generic"))
    dialled(lenient, *headers, call_id=call_id)
    assert found(lenient) == [name]
    strict = Relay(route("generic", policy=Policy(reject=frozenset({name}))))
    assert answered(strict, *headers, call_id=call_id).status == 400
    assert found(strict) == [name]
    for relay in (lenient, strict):
        assert {key: number for key, number in relay.engine.findings.items() if number} == {name: 1}


def test_a_call_id_that_lives_in_another_call_is_found() -> None:
    relay = Relay(route("generic", policy=Policy(reject=frozenset({"call_id_in_use"}))))
    dialled(relay)
    assert answered(relay).status == 400
    assert found(relay) == ["call_id_in_use"]


def test_what_a_platform_cannot_carry_may_refuse_the_call_too() -> None:
    relay = Relay(route("exotel", policy=Policy(reject=frozenset({"carriage_none"}))))
    left = relay.offer("sip:1@exotel.test", call_id=CALL_ID)
    assert [message.status for message in left if isinstance(message, Response)] == [400]
    relay = Relay(route("exotel"))
    relay.call("sip:1@exotel.test", call_id=CALL_ID)
    assert found(relay) == ["carriage_none"]


def test_every_finding_is_counted_from_nought() -> None:
    assert Relay(route("generic")).engine.findings == dict.fromkeys(FINDINGS, 0)


@pytest.mark.parametrize("said", [True, False, None])
def test_what_the_route_says_about_wire_only_reports_travels_with_the_call(said: bool | None) -> None:
    relay = Relay(route("generic", wire_only=said))
    relay.call("sip:1@generic.test", call_id=CALL_ID)
    assert [started.wire_only for started in relay.of(e.Started)] == [said]


# -- aliases -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", sorted(PRESETS))
def test_the_trace_knows_the_forms_in_which_the_call_id_left_and_no_form_of_the_token(platform: str) -> None:
    relay = Relay(route(platform))
    relay.call(f"sip:1@{platform}.test", call_id=CALL_ID, headers=[("X-Correlation-Id", "to-ken")])
    told = [(learned.name, learned.value) for learned in relay.of(e.Learned)]
    assert told == ([("alias", CALL_ID.encode().hex())] if platform == "plivo" else [])


# -- simulation or production --------------------------------------------------------------------------------------------------------------


def test_calls_from_an_evaluators_network_are_simulations() -> None:
    relay = Relay(route("generic"), evaluator_networks=(ip_network("192.0.2.10/32"),))
    dialled(relay)
    relay.call("sip:a@generic.test", call_id="b", source=("192.0.2.11", 5060))
    assert [started.kind for started in relay.of(e.Started)] == ["simulation", "production"]


@pytest.mark.parametrize(("user", "kind"), [("tuner", "simulation"), ("bob", "production")])
def test_calls_of_an_authenticated_evaluator_are_simulations_and_its_claims_are_not_believed(user: str, kind: str) -> None:
    server = DigestServer("trunkside", {"tuner": "secret", "bob": "secret"}, b"k" * 16)
    relay = Relay(route("generic"), digest=server, evaluator_users=frozenset({"tuner"}))
    uri = "sip:agent@generic.test"
    challenge = relay.offer(uri, call_id=CALL_ID, source=STRANGER)[0]
    assert isinstance(challenge, Response)
    assert challenge.status == 407
    answer = DigestClient(Credentials(user, "secret")).answer(challenge, method="INVITE", uri=uri, body=b"", cnonce="c")
    assert isinstance(answer, Authorised)
    call = relay.call(uri, call_id=CALL_ID, source=STRANGER, headers=[*answer.headers, CLAIM])
    assert [started.kind for started in relay.of(e.Started)] == [kind]
    assert found(relay) == ["claim_stripped"]
    assert call.arrived.headers.all("X-Sip-Call-Id") == [CALL_ID]


# -- outbound ------------------------------------------------------------------------------------------------------------------------------


def outbound(*allow: str) -> Relay:
    """The agent dials out through the sidecar; the route takes whatever its host says."""
    made = route("generic", direction="outbound", allow=allow)
    return Relay(type(made)("out", made.target, direction="outbound", allow=allow))


@pytest.mark.parametrize(
    "uri",
    [
        "sip:sim-7Qx%2dA@sip.usetuner.ai",
        "sip:sim-1@SIP.UseTuner.ai:5060;transport=udp;x=Y",
        "sip:sim-1;x=%3F@a.b.example;y",
    ],
)
def test_the_recipient_leaves_byte_for_byte_and_is_what_the_call_is_linked_by(uri: str) -> None:
    relay = outbound("sip.usetuner.ai", "*.example")
    call = relay.call(uri, call_id=CALL_ID, source=CALLER)
    assert call.arrived.uri == uri
    assert call.arrived.encode().startswith(f"INVITE {uri} SIP/2.0\r\n".encode())
    told = relay.known(call)
    assert (told.direction, told.recipient) == ("outbound", uri)


@pytest.mark.parametrize(
    "uri",
    ["sip:+15551234@trunk.example.net", "sip:x@usetuner.ai", "sip:x@sip.usetuner.ai.evil.net", "sip:x@sip.usetuner.ai;maddr=192.0.2.99"],
)
def test_a_recipient_outside_the_allow_list_is_never_dialled(uri: str) -> None:
    relay = outbound("sip.usetuner.ai")
    left = relay.offer(uri, call_id=CALL_ID)
    assert [message.status for message in left if isinstance(message, Response)] == [403]
    assert not [message for message in left if isinstance(message, Request)]
    assert [refused.reason for refused in relay.of(e.Refused)] == ["recipient-not-allowed"]
    assert relay.of(e.Started) == []
