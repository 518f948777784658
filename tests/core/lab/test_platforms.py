"""From the caller's INVITE through the sidecar and each platform into the agent's report, and from the report back to the call."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest

from control.matching.claim import read_claim
from control.matching.rules import RULES, Match, known, match
from sidecar.b2bua import effects as e
from sidecar.clocks import Mono
from sidecar.identity.carriage import decode
from sidecar.identity.presets import PRESETS, preset_from_values
from sidecar.lab import platforms
from sidecar.lab.evaluator import BASE62
from sidecar.lab.platforms import PLATFORMS
from sidecar.sip.message import Request
from tests.support.platform_agents import (
    READERS,
    Reader,
    Seen,
    at,
    bare_media_stream,
    core,
    create_call,
    imports_of_others,
    livekit,
    media_stream,
)
from tests.support.relay import Relay, Relayed, route

CALL_ID = "2xTb9aQ0kLm3Zp8RwV4sY1cN7dE"
TOKEN = "0123456789abcdef0123456789abcdef"
CORRELATION = ("X-Correlation-Id", TOKEN)


@dataclass(frozen=True)
class Story:
    """One call, as it was relayed and as the agent reported it."""

    relay: Relay
    call: Relayed
    view: dict[str, Any]
    seen: Seen

    @property
    def match(self) -> Match:
        """What control makes of the report, with another call of the same agent beside it."""
        wall = self.relay.wall
        body = json.dumps(create_call(self.seen, "report-1", wall + 1, wall + 13)).encode()
        calls = [known(self.relay.known(call)) for call in (self.call, other(self.relay))]
        return match(read_claim(body), calls)


def other(relay: Relay) -> Relayed:
    """Another call at the same time, of another caller."""
    host = relay.engine.settings.routes[0].host
    return relay.call(f"sip:+15550199@{host}", call_id="another-call", caller="sip:+15550177@evaluator.example")


def tell(platform: str, read: Reader | None = None, *, call_id: str = CALL_ID, answer: Any = (), **route_more: Any) -> Story:
    """A call of +15550100 to +15550199 through `platform`, 13 s long."""
    relay = Relay(route(platform, **route_more))
    call = relay.call(f"sip:+15550199@{platform}.test", call_id=call_id, headers=[CORRELATION])
    own = f"{platform}-own-id-1"
    view = PLATFORMS.get(platform, platforms.generic)(call.arrived, own)
    relay.answer(call, answer)
    relay.now = Mono(13.0)
    relay.hang_up(call)
    return Story(relay, call, view, (read or READERS[platform])(view))


# -- one test a platform -----------------------------------------------------------------------------------------------------------------

LINKED = {"twilio", "telnyx", "livekit", "vapi", "retell", "jambonz", "vonage", "signalwire", "freeswitch", "asterisk", "openai", "generic"}
REPAIRED = {
    "daily": ("a_leg_call_id", 1.0),  # its helper takes the platform's own callId for the Call-ID; ours is among the headers
    "plivo": ("a_leg_call_id", 1.0),  # in hex, among the headers
    "twilio-pstn": ("to_from_time", 0.7),
    "exotel": ("to_from_time", 0.5),  # its agent knows the caller's number and nothing of the called side
}


def test_there_is_a_stand_in_and_an_agent_for_every_preset() -> None:
    assert PLATFORMS.keys() == PRESETS.keys() == READERS.keys() == LINKED | REPAIRED.keys()


@pytest.mark.parametrize("platform", sorted(LINKED))
def test_the_report_carries_the_call_id_that_the_evaluator_dialled_with(platform: str) -> None:
    story = tell(platform)
    assert story.seen.sip_call_id == CALL_ID
    assert (story.match.call, story.match.rule, story.match.exact) == (story.call.id, "a_leg_call_id", True)


@pytest.mark.parametrize("platform", sorted(REPAIRED))
def test_the_report_of_a_platform_that_loses_the_call_id_finds_its_call_all_the_same(platform: str) -> None:
    story = tell(platform)
    assert story.seen.sip_call_id == f"{platform}-own-id-1"
    assert (story.match.call, story.match.rule, story.match.confidence) == (story.call.id, *REPAIRED[platform])
    assert not story.match.exact


@pytest.mark.parametrize("platform", sorted(PRESETS))
def test_the_preset_tells_the_truth_about_where_the_application_finds_the_id(platform: str) -> None:
    """Each key that a preset names holds the id in the stand-in's view, in the preset's encoding."""
    story, preset = tell(platform), PRESETS[platform]
    keys = [key for header in preset.headers for key in preset.keys(header)] + list(preset.native)
    found = {key: decode(preset, value) for key in keys if (value := lookup(platform, story.view, key)) is not None}
    if platform == "telnyx":  # sip_call_id is in some payloads only
        assert lookup(platform, platforms.telnyx(story.call.arrived, "x", shows_call_id=True), keys.pop()) == CALL_ID
    assert found == dict.fromkeys(keys, CALL_ID)


def lookup(platform: str, view: dict[str, Any], key: str) -> Any:
    """What a preset's key stands for in a view: dots step into objects, brackets name an entry, unless the platform's key is so written."""
    if platform == "daily":
        view = view | {"dialin_settings": platforms.dialin_settings(view)}
    if platform == "vapi":
        view = view | view["assistantOverrides"]["variableValues"]
    if platform == "generic":
        view = view["headers"]
    if key in view:
        return view[key]
    path, _, entry = key.partition("[")
    found: Any = view
    for part in path.split("."):
        found = found.get(part, {})
    if not entry:
        return found or None
    name = entry.rstrip("]")
    if isinstance(found, list):
        return next((item["value"] for item in found if item["name"] == name), None)
    return found.get(name)


# -- the traps ---------------------------------------------------------------------------------------------------------------------------


def test_twilio_media_streams_see_what_the_twiml_hands_on() -> None:
    story = tell("twilio", media_stream)
    assert (story.seen.sip_call_id, story.match.exact) == (CALL_ID, True)


def test_twilio_media_streams_without_parameters_are_matched_by_the_call_sid_of_the_edges_answer() -> None:
    story = tell("twilio", bare_media_stream, answer=[("X-Twilio-CallSid", "twilio-own-id-1")])
    assert story.seen == Seen("twilio-own-id-1")
    assert (story.match.call, story.match.rule, story.match.confidence) == (story.call.id, "platform_id", 0.95)


def test_telnyx_shows_the_call_id_itself_in_some_payloads() -> None:
    story = tell("telnyx")
    view = platforms.telnyx(story.call.arrived, "v3:x", shows_call_id=True)
    view["data"]["payload"]["custom_headers"] = []
    assert core("telnyx")(view).sip_call_id == CALL_ID


def test_livekit_shows_no_header_unless_the_trunk_is_told_to() -> None:
    arrived = tell("livekit").call.arrived
    assert not [name for name in platforms.livekit(arrived, "SCL_1", include="none") if name.startswith("sip.h.")]
    mapped = platforms.livekit(arrived, "SCL_1", include="none", headers_to_attributes={"X-Sip-Call-Id": "caller.call_id"})
    assert mapped["caller.call_id"] == mapped["sip.callIDFull"] == CALL_ID


def test_livekit_takes_the_last_of_a_repeated_header() -> None:
    relay = Relay(route("livekit"))
    call = relay.call("sip:1@livekit.test", call_id=CALL_ID, headers=[CORRELATION, ("x-correlation-id", "f" * 32)])
    assert platforms.livekit(call.arrived, "SCL_1")["sip.h.x-correlation-id"] == "f" * 32
    assert [found.name for found in relay.of(e.Found)] == ["correlation_contradictory"]


@pytest.mark.parametrize("carrier", ["twilio", "telnyx"])
def test_livekit_behind_another_carrier_knows_the_correlation_token_alone(carrier: str) -> None:
    """The carrier dials LiveKit itself, with a Call-ID of its own and the header that the evaluator's helper asked for."""
    with imports_of_others():
        from tuner.telephony import extract_sip, forward_to_sip
    story = tell(carrier)
    forward = forward_to_sip(extract_sip(story.view, provider=carrier), sip_uri="sip:agent@project.sip.livekit.cloud")
    second = Request("INVITE", "sip:agent@project.sip.livekit.cloud", [*story.call.arrived.headers.items()])
    for name in ("X-Sip-Call-Id", "X-CID", "X-Correlation-Id"):
        second.headers.remove(name)
    second.headers.set("Call-ID", "carrier-made-this-one")
    for header in forward.custom_headers:
        second.headers.add(header["name"], header["value"])
    seen = livekit(platforms.livekit(second, "SCL_1"))
    assert seen.sip_call_id == "carrier-made-this-one"
    found = replace(story, seen=replace(seen, caller=None)).match
    assert (found.call, found.rule, found.confidence) == (story.call.id, "correlation_id", 0.99)


def test_vapi_may_give_the_correlation_token_back_as_sip_call_id() -> None:
    story = tell("vapi", at("assistantOverrides", "variableValues", "Correlation-Id"))
    assert story.seen == Seen(TOKEN)
    assert (story.match.call, story.match.rule) == (story.call.id, "correlation_id")


def test_jambonz_makes_a_call_id_of_its_own() -> None:
    story = tell("jambonz")
    assert story.view["call_id"] == story.view["sip"]["headers"]["call-id"] != CALL_ID
    with imports_of_others():
        from tuner_pipecat_sdk.providers.jambonz import JambonzCallContext
    assert JambonzCallContext.from_webhook(story.view).sip_call_id == CALL_ID


@pytest.mark.parametrize("call_id", [CALL_ID, "a1b2c3@203.0.113.9:5060", "w-1._~!%40"])
def test_plivo_carries_any_call_id_as_hex(call_id: str) -> None:
    story = tell("plivo", call_id=call_id)
    assert story.view["X-PH-Sipcallid"] == call_id.encode().hex()
    assert story.view["X-PH-Correlationid"] == TOKEN
    assert not [name for name in story.view if name.lower() in ("x-sip-call-id", "x-cid")]
    assert (story.match.call, story.match.rule) == (story.call.id, "a_leg_call_id")
    # An agent that reports the parameter as it stands, and one that decodes it:
    by_hex = replace(story, seen=Seen(story.view["X-PH-Sipcallid"])).match
    assert (by_hex.call, by_hex.rule, by_hex.exact) == (story.call.id, "a_leg_call_id", False)
    assert replace(story, seen=Seen(decode(PRESETS["plivo"], story.view["X-PH-Sipcallid"]))).match.exact


def test_a_platform_of_the_users_own_is_carried_by_the_users_preset() -> None:
    preset = preset_from_values("my-pbx", {"prefix": "P-", "alias": "P-Link", "encoding": "percent", "seen_as": ["{name}"]})
    story = tell("my-pbx", at("headers", "P-Link"), call_id="c1@203.0.113.9", own_preset=preset)
    assert story.seen == Seen("c1%40203.0.113.9")
    assert (story.match.call, story.match.rule, story.match.exact) == (story.call.id, "a_leg_call_id", False)
    assert story.relay.known(story.call).platform == "my-pbx"


def test_an_id_in_a_form_that_control_cannot_undo_is_known_to_it_as_an_alias() -> None:
    """Control undoes hex of printable ASCII alone; the sidecar told it what it sent."""
    preset = preset_from_values("hexed", {"alias": "X-Link", "encoding": "hex", "seen_as": ["{name}"]})
    story = tell("hexed", at("headers", "X-Link"), call_id="é-1", own_preset=preset)
    assert (story.match.call, story.match.rule) == (story.call.id, "platform_id")


@pytest.mark.parametrize("platform", ["twilio", "retell"])
def test_lines_that_are_too_long_do_not_come_through(platform: str) -> None:
    relay = Relay(route(platform))
    call = relay.call(f"sip:1@{platform}.test", call_id="c" * 1100, headers=[CORRELATION])
    text = json.dumps(PLATFORMS[platform](call.arrived, "own"))
    assert TOKEN in text
    assert "Sip-Call-Id" not in text
    assert "carriage_too_long" in [found.name for found in relay.of(e.Found)]


def test_twilio_keeps_its_own_names_to_itself_and_passes_user_to_user() -> None:
    relay = Relay(route("twilio"))
    headers = [("X-Twilio-Thing", "1"), ("x-twilio-other", "2"), ("User-to-User", "616263;encoding=hex"), ("P-Thing", "3"), ("X-Mine", "4")]
    call = relay.call("sip:1@twilio.test", call_id=CALL_ID, headers=headers)
    seen = {name: value for name, value in platforms.twilio(call.arrived, "CA1").items() if name.startswith("SipHeader_")}
    assert seen == {
        "SipHeader_User-to-User": "616263;encoding=hex",
        "SipHeader_X-Mine": "4",
        "SipHeader_X-Sip-Call-Id": CALL_ID,
        "SipHeader_X-CID": CALL_ID,
    }


@pytest.mark.parametrize("platform", ["twilio-pstn", "exotel"])
def test_where_nothing_survives_nothing_of_the_invite_but_its_numbers_is_there(platform: str) -> None:
    story = tell(platform)
    text = json.dumps(story.view)
    assert "+15550100" in text
    assert CALL_ID not in text
    assert TOKEN not in text
    assert [found.name for found in story.relay.of(e.Found)] == ["carriage_none"]


def test_no_platform_shows_credentials() -> None:
    invite = tell("generic").call.arrived
    invite.headers.add("Authorization", "Digest response=secret")
    for name in set(PLATFORMS) - {"asterisk", "generic"}:
        assert "Digest" not in json.dumps(PLATFORMS[name](invite, "own")), name


# -- many at once ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_of_two_hundred_overlapping_calls_no_report_is_linked_wrongly(seed: int) -> None:
    """All platforms in one sidecar, a third of the agents without any id, some callers with one number, reports in random order."""
    rng = random.Random(seed)
    names = sorted(PRESETS)
    relay = Relay(*(route(name) for name in names))
    calls: dict[str, tuple[Relayed, Seen]] = {}
    for n in range(200):
        relay.now = Mono(n * 0.05)
        number = f"+1555{n // 50 if n % 10 == 0 else 1000 + n:07}"
        call, seen = _one_of_many(relay, names[n % len(names)], number, rng)
        # Half of those that lost every id know at least who called.
        calls[call.id] = call, Seen(caller=rng.choice((number, None))) if n % 3 == 0 else seen
    relay.now = Mono(60.0)
    for call, _ in calls.values():
        relay.hang_up(call)
    everything = [known(relay.known(call)) for call, _ in calls.values()]
    found = {}
    for call_id in rng.sample(list(calls), len(calls)):
        body = json.dumps(create_call(calls[call_id][1], f"report-{call_id}", relay.wall + 1, relay.wall + 60)).encode()
        found[call_id] = match(read_claim(body), everything)
    assert [call_id for call_id, result in found.items() if result.call not in (call_id, None)] == []
    sure = {rule.name: rule.confidence for rule in RULES}
    assert [result for result in found.values() if result.call and not 0.5 <= result.confidence <= sure[result.rule or ""]] == []
    kinds = Counter(result.kind for result in found.values())
    by_rule = Counter(result.rule for result in found.values() if result.call)
    assert kinds["matched"] > 133  # all that had an id of their own, and some of the others
    assert by_rule.keys() == {"a_leg_call_id", "to_from_time"}
    assert kinds["unlinked"] > 0  # no id and no caller
    assert kinds["conflict"] > 0  # no id, and a number that several callers share
    assert all(len(result.candidates) > 1 for result in found.values() if result.kind == "conflict")


def _one_of_many(relay: Relay, platform: str, number: str, rng: random.Random) -> tuple[Relayed, Seen]:
    call = relay.call(
        f"sip:+15550199@{platform}.test",
        call_id="".join(rng.choices(BASE62, k=27)),
        caller=f"sip:{number}@evaluator.example",
        headers=[("X-Correlation-Id", rng.randbytes(16).hex())],
    )
    seen = READERS[platform](PLATFORMS[platform](call.arrived, f"own-{call.id}"))
    relay.answer(call)
    return call, seen
