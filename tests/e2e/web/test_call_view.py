"""One call in a browser: its ladder, its messages, its timeline to scale, its identity, and why it failed."""

from __future__ import annotations

import re
import urllib.request
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e.web.conftest import BUSY, HOSTILE, LINKED, LIVE, SDK_SHARE, WCAG, Site, opened

pytestmark = pytest.mark.peer


def show(page: Page, call: str) -> None:
    page.goto(f"/#/calls/{call}")
    expect(page.locator(".ladder .row").first).to_be_visible()


def test_the_ladder_has_both_legs_in_order_with_repetitions_folded(page: Page, site: Site) -> None:
    show(page, LINKED)
    messages = site.get(f"/v1/calls/{LINKED}/messages")["messages"]
    arrows = page.locator(".row.message")
    labels = arrows.locator(".label bdi").all_inner_texts()
    firsts = [m["text"].split("\r\n")[0] for m in messages if not m["retransmission"]]
    assert len(firsts) == len(messages) - 1
    for label, first in zip(labels, firsts, strict=False):  # those in sight
        assert label.split(" (")[0] in first, (label, first)
    expect(page.locator(".row.message", has_text="×2")).to_have_count(1)
    legs = arrows.locator(".arrow").evaluate_all("all => all.map(one => one.classList.contains('legA') ? 'A' : 'B')")
    assert legs == [m["leg"] for m in messages if not m["retransmission"]][: len(legs)]
    left, right = page.locator(".arrow.legA").first.bounding_box(), page.locator(".arrow.legB").first.bounding_box()
    assert left is not None
    assert right is not None
    assert left["x"] + left["width"] <= right["x"] + 1, "the legs lie side by side"
    assert abs(left["width"] - right["width"]) < 3


def test_hover_tells_the_distance_and_a_click_shows_the_message_redacted(page: Page, site: Site) -> None:
    show(page, LINKED)
    challenge = page.locator(".row.message", has_text="407 Proxy Authentication Required")
    page.locator(".row.message").first.click()
    challenge.hover()
    expect(page.locator(".hint")).to_contain_text("Δ 510.8 ms after the row before")
    expect(page.locator(".hint")).to_contain_text("511.8 ms after the chosen one")
    page.locator(".row.message", has_text="INVITE").nth(2).click()
    wire = page.locator(".wire")
    expect(wire).to_contain_text('response="redacted"')
    expect(wire.locator(".redacted", has_text="redacted")).to_have_count(1)
    expect(wire.locator(".redacted", has_text="sha256:")).to_have_count(1)
    text = wire.inner_text()
    assert "5f0c1e2d3a4b59687766554433221100" not in text
    message = next(m for m in site.get(f"/v1/calls/{LINKED}/messages")["messages"] if "Proxy-Authorization" in m["text"])
    assert [line.strip() for line in text.splitlines()] == [line.strip() for line in message["text"].splitlines()]


def test_a_message_tells_what_changed_on_the_way_through(page: Page) -> None:
    show(page, LINKED)
    page.locator(".row.message").first.click()
    page.get_by_role("button", name="On leg B").click()
    expect(page.locator(".pane .meta")).to_contain_text("leg B, sent")
    expect(page.locator(".wire .added", has_text="X-Sip-Call-Id")).to_have_count(1)
    expect(page.locator(".wire .changed", has_text="Via")).to_have_count(1)
    expect(page.locator(".wire .changed, .wire .added").filter(has_text=re.compile(r"^Call-ID"))).to_have_count(0)


def bars(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.locator(".lanes-svg .turn").evaluate_all(
        """all => all.map(one => {
            const bar = one.querySelector('.bar'), sdk = one.querySelector('.sdk');
            const of = (element, name) => element ? Number(element.getAttribute(name)) : null;
            return {n: Number(one.dataset.turn), x: of(bar, 'x'), width: of(bar, 'width'), height: of(bar, 'height'),
                    sdkX: of(sdk, 'x'), sdkWidth: of(sdk, 'width')};
        })"""
    )
    return found


def test_the_timeline_is_to_scale(page: Page, site: Site) -> None:
    show(page, LINKED)
    call = site.get(f"/v1/calls/{LINKED}")
    answered = site.get(f"/v1/calls/{LINKED}/timeline")["answered_ms"]
    shown = bars(page)
    assert [bar["n"] for bar in shown] == [turn["n"] for turn in call["turns"]]
    first, last = call["turns"][0], call["turns"][-1]
    scale = (shown[-1]["x"] - shown[0]["x"]) / (last["caller_end_ms"] - first["caller_end_ms"])
    zero = shown[0]["x"] - scale * (answered + first["caller_end_ms"])
    for bar, turn in zip(shown, call["turns"], strict=True):
        assert bar["x"] == pytest.approx(zero + scale * (answered + turn["caller_end_ms"]), abs=0.5)
        assert bar["width"] == pytest.approx(scale * turn["response_latency_ms"], abs=0.5)
        assert bar["sdkX"] == pytest.approx(bar["x"], abs=0.5)
        assert bar["sdkWidth"] == pytest.approx(scale * round(turn["response_latency_ms"] * SDK_SHARE), abs=0.5)
    for side in ("caller", "agent"):
        drawn = page.locator(f".speech.{side}").evaluate_all(
            "all => all.map(one => [Number(one.getAttribute('x')), Number(one.getAttribute('width'))])"
        )
        segments = site.get(f"/v1/calls/{LINKED}/timeline")["tracks"][side]["segments"]
        assert len(drawn) == len(segments)
        for (x, width), (start, end) in zip(drawn, segments, strict=True):
            assert x == pytest.approx(zero + scale * (answered + start), abs=0.5)
            assert width == pytest.approx(scale * (end - start), abs=0.5)
    answer = page.locator("line.answer").get_attribute("x1")
    assert float(answer or 0) == pytest.approx(zero + scale * answered, abs=0.5), "the ladder's clock and the media's are one"


def test_zooming_keeps_the_scale_and_the_table_leads_into_the_timeline(page: Page, site: Site) -> None:
    show(page, LINKED)
    turn = site.get(f"/v1/calls/{LINKED}")["turns"][7]
    page.get_by_role("button", name="Turn 8 in the timeline").click()
    expect(page.locator(".lanes-svg .chosen")).to_have_count(1)
    (bar,) = [each for each in bars(page) if each["n"] == 8]
    segment = next(
        (float(one["x"]), float(one["w"]))
        for one in page.locator(".speech.agent").evaluate_all(
            "all => all.map(one => ({x: one.getAttribute('x'), w: one.getAttribute('width'), start: Number(one.dataset.start)}))"
        )
        if float(one["x"]) >= bar["x"]
    )
    scale = segment[1] / (turn["agent_end_ms"] - turn["agent_start_ms"])
    assert bar["width"] == pytest.approx(turn["response_latency_ms"] * scale, abs=0.5)
    assert bar["x"] + bar["width"] == pytest.approx(segment[0], abs=0.5), "the bar ends where the agent begins"
    expect(page.locator(".bar .range")).not_to_contain_text("1:22,")
    page.get_by_role("button", name="Show the whole call").click()
    expect(page.locator(".lanes-svg .turn")).to_have_count(10)


def test_the_turns_stand_beside_what_the_sdk_reported(page: Page, site: Site) -> None:
    show(page, LINKED)
    call = site.get(f"/v1/calls/{LINKED}")
    assert [each["turn"] for each in call["reported"]["turns"]] == [turn["n"] for turn in call["turns"]]
    for turn, told in zip(call["turns"], call["reported"]["turns"], strict=True):
        row = page.locator(f".turns tr[data-turn='{turn['n']}']")
        expect(row.locator("td[data-name=wire]")).to_have_text(f"{int(turn['response_latency_ms'] + 0.5):,} ms")
        expect(row.locator("td[data-name=SDK]")).to_have_text(f"{told['e2e_latency_ms']:,.0f} ms")
        expect(row.locator("td[data-name='wire − SDK']")).to_have_text(f"+{told['difference_ms']:,.0f} ms")
    expect(page.locator(".barges")).to_contain_text("barge-in")
    expect(page.locator(".lanes-svg .key text")).to_have_text("42#")
    expect(page.locator(".lanes-svg .loss")).to_have_count(1)


def test_the_identity_has_its_chain_with_evidence(page: Page) -> None:
    show(page, LINKED)
    expect(page.locator(".hops .seen b")).to_have_text(["received", "carried", "echoed", "accepted"])
    expect(page.locator(".hops .seen").nth(1)).to_contain_text("X-Sip-Call-Id and X-CID added")
    expect(page.locator(".sent")).to_contain_text("delivered")


def test_a_refused_call_says_why_and_cites_the_message(page: Page) -> None:
    show(page, BUSY)
    expect(page.locator(".failed .cause")).to_contain_text("203.0.113.7:5060 answered 486 Busy Here")
    expect(page.locator(".wire .start")).to_have_text("SIP/2.0 486 Busy Here"), "it is shown at once"
    page.locator(".row.message").first.click()
    expect(page.locator(".wire .start")).to_contain_text("INVITE")
    page.get_by_role("button", name="see 486 Busy Here on leg B").click()
    expect(page.locator(".wire .start")).to_have_text("SIP/2.0 486 Busy Here")
    expect(page.locator(".pane .meta")).to_contain_text("leg B, received")


def test_hostile_text_is_shown_and_never_run(page: Page, site: Site) -> None:
    page.goto("/")
    row = page.locator(f"tr[data-call='{HOSTILE}']")
    expect(row).to_contain_text("<script>window.owned=1</script>@evil.example")
    expect(row).to_contain_text("mallory@evil.example")
    row.locator("a").click()
    expect(page.locator(".crumbs")).to_contain_text("<script>window.owned=1</script>")
    expect(page.locator(".wire")).to_contain_text('From: <"<img src=x onerror=window.owned=1>"')
    expect(page.locator(".wire")).to_contain_text("Call-ID: <script>window.owned=1</script>@evil.example")
    assert page.locator("main script, main img").count() == 0
    assert page.evaluate("window.owned === undefined")
    assert page.locator("script").count() == 2, "those of the page itself"


def test_the_legend_names_only_what_the_call_has(page: Page) -> None:
    show(page, LINKED)
    marks = page.locator(".legend li")
    expect(marks).to_have_text(
        [
            "caller",
            "agent",
            "up to 800 ms",
            "to 1.5 s",
            "longer",
            "as the SDK reports",
            "lost audio",
            "jitter, to 20 ms",
            "caller speaks up",
        ]
    )
    show(page, BUSY)
    expect(marks).to_have_count(0)


def test_a_call_is_taken_along_in_every_form(page: Page, site: Site) -> None:
    show(page, LINKED)
    links = page.locator(".files a")
    expect(links).to_have_text(["evidence", "pcap", "ladder as text", "as SVG", "as Mermaid", "vCon", "JSON"])
    for link in links.all():
        with urllib.request.urlopen(site.url + str(link.get_attribute("href")), timeout=10) as answer:
            assert answer.read(), link


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_evidence_is_readable_in_any_light_and_on_a_small_screen(browser: Browser, site: Site, scheme: str) -> None:
    with opened(browser, site.url, color_scheme=scheme, viewport={"width": 360, "height": 740}, bypass_csp=True) as (page, watch):
        watch.allowed.append("404 (Not Found)")  # the icon that a browser asks for: a file that stands alone names none
        for call in (LINKED, BUSY):
            page.goto(f"/v1/calls/{call}/evidence")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            found = Axe().run(page, options=WCAG).response["violations"]
            assert [(each["id"], [node["html"][:200] for node in each["nodes"]][:3]) for each in found] == []


def test_listening_to_a_call_of_a_sidecar_that_is_gone_says_so(browser: Browser, site: Site) -> None:
    with opened(browser, site.url) as (page, watch):
        watch.allowed.append("409 (Conflict)")
        show(page, LIVE)
        page.get_by_role("button", name="Listen in").click()
        expect(page.locator(".listen [role=alert]")).to_contain_text("sidecar edge-1 is not connected")
        expect(page.get_by_role("button", name="Listen in")).to_be_visible()


def test_listening_that_is_given_up_while_it_connects_comes_to_nothing(page: Page) -> None:
    """Whoever leaves the view, or presses again, must not be connected behind their back."""
    held: list[Route] = []
    page.route("**/v1/listening", lambda each: held.append(each))
    page.add_init_script(
        "window.made = 0; window.RTCPeerConnection = class extends RTCPeerConnection { constructor(...a) { super(...a); made += 1; } }"
    )
    show(page, LIVE)
    page.get_by_role("button", name="Listen in").click()
    page.get_by_role("button", name="press to stop").click()
    expect(page.get_by_role("button", name="Listen in")).to_be_visible()
    page.get_by_role("button", name="Listen in").click()
    expect(page.get_by_role("button", name="press to stop")).to_be_visible()
    page.locator(".crumbs a").click()
    expect(page.locator("table.calls")).to_be_visible()
    assert len(held) == 2
    for each in held:
        with page.expect_response("**/v1/listening"):
            each.continue_()
    page.wait_for_timeout(100)
    assert page.evaluate("made") == 0
