"""What final responses, descriptions and Contacts mean to a caller."""

from __future__ import annotations

import pytest

from sidecar.sip import sdp
from sidecar.sip.message import Response
from sidecar.verify import judge, offer
from sidecar.verify.judge import Asked, narrower, refusal, scope

# 1.2.3.4 and the like: addresses that count as public; nothing is sent there.
PUBLIC = "1.2.3.4"
ASKED = Asked("agent", "192.168.0.7")
PCMU = "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"


def response(status: int, *headers: tuple[str, str], media: str = "", host: str = PUBLIC, reason: str = "Because") -> Response:
    """A final response; with `media`, one that has a description with audio at `host`."""
    body = f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n{media}".encode() if media else b""
    given = [("Contact", f"<sip:edge@{PUBLIC}>"), *headers] if not any(name == "Contact" for name, _ in headers) else headers
    return Response(status, reason, [*given, ("Content-Type", "application/sdp")], body)


def names(judged: judge.Judged) -> list[str]:
    return [found.name for found in judged.findings]


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (302, "redirected"),
        (400, "refused"),
        (403, "forbidden"),
        (404, "no_such_user"),
        (408, "edge_failed"),
        (415, "no_common_codec"),
        (420, "extension_wanted"),
        (480, "declined"),
        (486, "declined"),
        (488, "no_common_codec"),
        (500, "edge_failed"),
        (503, "edge_failed"),
        (603, "declined"),
        (604, "no_such_user"),
        (606, "no_common_codec"),
        (699, "refused"),
    ],
)
def test_each_status_has_its_cause(status: int, name: str) -> None:
    found = refusal(response(status), ASKED)
    assert found.name == name
    assert found.cause.startswith(f"{status} ")


def test_a_403_after_credentials_speaks_of_them() -> None:
    found = refusal(response(403), Asked("agent", "192.168.0.7", realm="edge", username="alice"))
    assert found.name == "forbidden_with_credentials"
    assert 'the realm is "edge"' in found.cause
    assert "user alice" in found.mend


def test_the_edges_own_words_are_told() -> None:
    found = refusal(response(503, ("Warning", '399 edge "no worker"')), ASKED)
    assert '399 edge "no worker"' in found.cause
    found = refusal(response(404, ("Reason", "Q.850;cause=1")), ASKED)
    assert "Q.850;cause=1" in found.cause
    assert "user agent" in found.cause


def test_a_redirection_names_where_to() -> None:
    assert "sip:new@other.example" in refusal(response(302, ("Contact", "<sip:new@other.example>")), ASKED).cause


def test_the_codecs_of_a_488_are_told_before_those_of_an_earlier_answer() -> None:
    asked = Asked("agent", "192.168.0.7", edge_codecs=("G729",))
    assert "only G729" in refusal(response(488), asked).cause
    assert "only OPUS" in refusal(response(488, media="m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n"), asked).cause


def test_an_answer_in_order_has_no_finding_and_says_where_to_speak() -> None:
    judged = judge.answer(response(200, media=PCMU), PUBLIC)
    assert not judged.findings
    assert judged.codec == "PCMU"
    assert judged.audio is not None
    assert judged.audio.remote == (PUBLIC, 4000)
    assert ("codecs", "PCMU") in judged.facts


@pytest.mark.parametrize(
    ("media", "name"),
    [
        ("", "answer_without_sdp"),
        ("m=audio nonsense\r\n", "answer_unusable"),
        ("m=audio 0 RTP/AVP 0\r\n", "audio_refused"),
        ("m=video 4000 RTP/AVP 31\r\n", "audio_refused"),
        ("m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n", "answer_codec"),
        ("m=audio 4000 RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\n", "answer_codec"),
        (PCMU + "a=inactive\r\n", "answer_on_hold"),
        (PCMU + "a=sendonly\r\n", "answer_on_hold"),
        (PCMU + "a=recvonly\r\n", "answer_on_hold"),
    ],
)
def test_an_answer_without_usable_audio(media: str, name: str) -> None:
    assert names(judge.answer(response(200, media=media), PUBLIC)) == [name]


def test_an_answer_without_telephone_event_is_told_but_is_no_finding() -> None:
    judged = judge.answer(response(200, media="m=audio 4000 RTP/AVP 8\r\n"), PUBLIC)
    assert not judged.findings
    assert any(what == "digits" for what, _ in judged.facts)


@pytest.mark.parametrize(
    ("host", "reached", "found"),
    [
        ("10.0.0.5", PUBLIC, ["media_address"]),
        ("100.64.0.1", PUBLIC, ["media_address"]),
        ("127.0.0.1", "10.0.0.5", ["media_address"]),
        ("10.0.0.9", "10.0.0.5", []),
        ("5.6.7.8", PUBLIC, []),
        ("5.6.7.8", "10.0.0.5", []),
        ("media.example", PUBLIC, []),
        ("0.0.0.0", PUBLIC, ["answer_on_hold"]),
    ],
)
def test_media_at_an_address_that_the_caller_cannot_reach(host: str, reached: str, found: list[str]) -> None:
    assert names(judge.answer(response(200, media=PCMU, host=host), reached)) == found


def test_a_contact_that_the_caller_cannot_reach() -> None:
    inside = ("Contact", "<sip:edge@192.168.1.4:5060>")
    assert names(judge.answer(response(200, inside, media=PCMU), PUBLIC)) == ["contact_address"]
    # Behind a proxy that stays in the dialog, ACK and BYE go to the proxy.
    assert names(judge.answer(response(200, inside, ("Record-Route", "<sip:p.example;lr>"), media=PCMU), PUBLIC)) == []


@pytest.mark.parametrize("contact", ["*", "<tel:+4930>", "<nonsense"])
def test_a_contact_that_is_none(contact: str) -> None:
    assert names(judge.answer(response(200, ("Contact", contact), media=PCMU), PUBLIC)) == ["contact_missing"]


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("10.1.1.1", "private"),
        ("fd00::1", "private"),
        ("100.64.0.1", "private"),
        (PUBLIC, "public"),
        ("2a00::1", "public"),
        ("voice.example", None),
    ],
)
def test_how_far_an_address_reaches(host: str, known: str | None) -> None:
    assert scope(host) == known


def test_a_name_is_never_called_narrower() -> None:
    assert not narrower("voice.example", PUBLIC)
    assert not narrower("10.0.0.1", "voice.example")


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_the_offer_is_the_evaluators(host: str) -> None:
    (audio,) = sdp.parse(offer.describe((host, 4000))).media
    assert [audio.rtpmap[int(number)].name for number in audio.formats] == ["G722", "PCMU", "PCMA", "telephone-event"]
    assert (audio.remote, audio.proto, audio.ptime, audio.direction) == ((host, 4000), "RTP/AVP", 20.0, "sendrecv")


@pytest.mark.parametrize(("codec", "payload_type", "octet"), [("PCMU", 0, 0xFF), ("PCMA", 8, 0xD5), ("G722", 9, 0xFA)])
def test_silence_is_rtp(codec: str, payload_type: int, octet: int) -> None:
    first, second = offer.silence(codec, 0, 7), offer.silence(codec, 1, 7)
    assert first[:2] == bytes((0x80, 0x80 | payload_type))
    assert second[:2] == bytes((0x80, payload_type))
    assert (second[2:4], second[4:8], second[8:12]) == (b"\0\1", (160).to_bytes(4, "big"), (7).to_bytes(4, "big"))
    assert second[12:] == bytes((octet,)) * 160
