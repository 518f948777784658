"""The evidence file: what a person finds in it, and the timeline to scale."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

from control.api import evidence, timeline_svg
from control.contract.call import Call, Hop, Verdict
from tests.core.control.client.calls import BEGAN, barge_in, call, turn

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '</pre><script>alert(1)</script> & "x" \x00\x1b[31m\ufffe'


class Texts(HTMLParser):
    """The text of each list item of the chain and of the element with the id `call-json`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.chain: list[tuple[str, str]] = []
        self.json = ""
        self.tags: list[str] = []
        self._into = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        told = dict(attrs)
        if tag == "li":
            self.chain.append((told.get("class") or "seen", ""))
            self._into = "chain"
        elif told.get("id") == "call-json":
            self._into = "json"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("li", "pre"):
            self._into = ""

    def handle_data(self, data: str) -> None:
        if self._into == "chain":
            self.chain[-1] = (self.chain[-1][0], self.chain[-1][1] + data)
        elif self._into == "json":
            self.json += data


def test_the_chain_shows_where_the_id_was_lost() -> None:
    hops = [Hop(hop="received", at=BEGAN, evidence="INVITE"), Hop(hop="carried", at=BEGAN, evidence="left with Call-ID")]
    page = Texts(evidence.render(call(verdict=Verdict(outcome="missing", hops=hops)), []))
    assert [kind for kind, _ in page.chain] == ["seen", "seen", "gap", "gap"]
    assert [text.split()[0] for _, text in page.chain] == ["received", "carried", "echoednot", "acceptednot"]


def test_the_call_object_is_in_the_file_whatever_its_texts_say() -> None:
    told = call("c1", 700.0, cause=HOSTILE, status=486, answered_at=None)
    page = Texts(evidence.render(told, []))
    assert "script" not in page.tags
    read = Call.model_validate_json(page.json)
    assert read == told
    assert json.loads(page.json)["from"] == told.from_


def test_a_refused_call_says_why_above_all() -> None:
    text = evidence.render(call(status=407, ended_by="agent", cause="credentials refused by 10.0.0.7:5060"), [])
    assert '<p class="cause">Not answered: 407 by agent. credentials refused by 10.0.0.7:5060</p>' in text
    assert 'class="cause"' not in evidence.render(call(), [])


def bars(drawing: str, style: str) -> list[tuple[float, float]]:
    """Left edge and width of each."""
    root = ET.fromstring(drawing)
    return [(float(each.attrib["x"]), float(each.attrib["width"])) for each in root.iter(f"{SVG}rect") if each.get("class") == style]


def test_bars_are_as_long_as_the_speech_and_the_bracket_as_the_wait() -> None:
    told = call("c1", 500.0, 2000.0)  # the caller 8 to 10 s and 18 to 20 s of 60 s, on two rows of 30 s
    drawing = timeline_svg.render(told)
    root = ET.fromstring(drawing)
    scale = 790 / 30.0  # pixels a second
    assert [(round((x - 70) / scale, 1), round(width / scale, 1)) for x, width in bars(drawing, "caller")] == [(8.0, 2.0), (18.0, 2.0)]
    assert [round((x - 70) / scale, 1) for x, _ in bars(drawing, "agent")] == [10.5, 22.0]
    waits = list(root.iter(f"{SVG}path"))
    assert [each.attrib["class"] for each in waits] == ["wait good", "wait poor"]
    assert [each.findtext(f"{SVG}title") for each in waits] == ["turn 1: 500 ms", "turn 2: 2000 ms"]


def test_what_goes_over_the_end_of_a_row_goes_on_in_the_next() -> None:
    told = call(turns=[turn(1, 500.0, caller_start_ms=29_000, caller_end_ms=31_000, agent_start_ms=31_500, agent_end_ms=33_000)])
    drawn = bars(timeline_svg.render(told), "caller")
    assert len(drawn) == 2
    assert drawn[1][0] == 70.0


def test_a_timeline_of_two_hours_is_drawn_once_and_one_without_speech_not_at_all() -> None:
    long = call("c1", *[700.0] * 400)
    root = ET.fromstring(timeline_svg.render(long))
    assert float(root.attrib["height"]) < 2000
    assert len(bars(timeline_svg.render(long), "agent")) >= 400
    assert timeline_svg.render(call()) == ""


def test_barge_ins_are_marked_and_hostile_texts_stay_texts() -> None:
    root = ET.fromstring(timeline_svg.render(call(HOSTILE, 700.0, barge_ins=[barge_in(200.0)])))
    assert [each.text for each in root.iter(f"{SVG}text") if each.get("class") == "mark"] == ["!"]
    assert "<script>" in (root.findtext(f"{SVG}title") or "")
