"""The carriage table holds together, and a preset of the user's own is checked as strictly."""

from __future__ import annotations

import pytest

from sidecar.identity.presets import PRESETS, Preset, PresetError, preset_from_values

PLATFORMS = {
    "twilio", "twilio-pstn", "telnyx", "livekit", "vapi", "retell", "daily", "jambonz", "plivo", "exotel", "vonage", "signalwire",
    "freeswitch", "asterisk", "openai", "generic",
}  # fmt: skip


def test_every_platform_has_its_preset() -> None:
    assert PRESETS.keys() == PLATFORMS


@pytest.mark.parametrize("name", sorted(PLATFORMS))
def test_the_application_can_find_the_id_or_the_preset_says_that_it_cannot(name: str) -> None:
    preset = PRESETS[name]
    keys = [key for header in preset.headers for key in preset.keys(header)]
    assert bool(keys) == preset.survives
    assert preset.survives or preset.note


@pytest.mark.parametrize(
    ("name", "header", "keys"),
    [
        ("twilio", "X-Sip-Call-Id", ("SipHeader_X-Sip-Call-Id",)),
        ("twilio", "X-Twilio-Thing", ()),
        ("telnyx", "X-Sip-Call-Id", ("data.payload.custom_headers[X-Sip-Call-Id]",)),
        ("livekit", "X-CID", ("sip.h.x-cid",)),
        ("vapi", "X-sip_call_id", ("sip_call_id",)),
        ("retell", "X-Sip-Call-Id", ("call.custom_sip_headers[Sip-Call-Id]",)),
        ("daily", "Any", ("sipHeaders[Any]", "dialin_settings.sip_headers[Any]")),
        ("jambonz", "X-CID", ("sip.headers[X-CID]",)),
        ("plivo", "X-PH-Sipcallid", ("X-PH-Sipcallid",)),
        ("plivo", "X-Sip-Call-Id", ()),
        ("plivo", "X-PH-Sip-Call-Id", ()),
        ("exotel", "X-Sip-Call-Id", ()),
        ("freeswitch", "X-Sip-Call-Id", ("sip_h_X-Sip-Call-Id",)),
        ("asterisk", "X-CID", ("PJSIP_HEADER(read,X-CID)",)),
        ("openai", "X-CID", ("data.sip_headers[X-CID]",)),
    ],
)
def test_the_key_under_which_the_application_sees_a_header(name: str, header: str, keys: tuple[str, ...]) -> None:
    assert PRESETS[name].keys(header) == keys


def test_a_preset_of_ones_own_is_built_from_plain_values() -> None:
    preset = preset_from_values(
        "my-pbx", {"prefix": "P-", "alias": "P-Link", "encoding": "percent", "seen_as": ["hdr.{lower}"], "max_bytes": 200}
    )
    assert preset == Preset("my-pbx", prefix="P-", alias="P-Link", encoding="percent", seen_as=("hdr.{lower}",), max_bytes=200)
    assert preset.keys("P-Link") == ("hdr.p-link",)
    assert preset_from_values("one", {"seen_as": "{name}"}).seen_as == ("{name}",)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seen_as": ["{name}"], "colour": "red"}, "unknown key 'colour'"),
        ({"seen_as": ["{name}"], "encoding": "base64"}, "base64"),
        ({"seen_as": ["{name}"], "prefix": "P-"}, "set an alias"),
        ({"seen_as": ["{name}"], "prefix": "P-", "alias": "X-Link"}, "would not come through"),
        ({"seen_as": ["{name}"], "alias": "no good"}, "not a header name"),
        ({"seen_as": ["{name}"], "alias": "X-CID"}, "no alias"),
        ({"seen_as": ["{name}"], "prefix": "X-", "alias": "X-Link", "alnum_only": True}, "hex"),
        ({"seen_as": ["{nmae}"]}, "{name}"),
        ({"seen_as": ["{"]}, "{name}"),
        ({}, "seen_as"),
        ({"seen_as": ["{name}"], "max_bytes": 10}, "max_bytes"),
        ({"seen_as": ["{name}"], "max_bytes": "10"}, "max_bytes"),
        ({"seen_as": 3}, "seen_as"),
        ({"seen_as": ["{name}"], "survives": "yes"}, "survives"),
    ],
)
def test_one_that_contradicts_itself_is_refused_by_name(values: dict[str, object], said: str) -> None:
    with pytest.raises(PresetError) as caught:
        preset_from_values("mine", values)
    assert said in str(caught.value)
    assert "preset mine" in str(caught.value)


def test_a_preset_name_is_a_key() -> None:
    with pytest.raises(PresetError, match="lower-case"):
        Preset("My PBX", seen_as=("{name}",))
