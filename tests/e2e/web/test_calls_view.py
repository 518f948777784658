"""The list of calls in a browser: live, filtered, summed up."""

from __future__ import annotations

import tempfile
import urllib.error
import urllib.request
from concurrent.futures import Future
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sidecar.analysis.recordings import Recordings
from tests.e2e.web.conftest import BIG, BUSY, LINKED, LIVE, Site
from tests.support.product import until

pytestmark = pytest.mark.peer


def answers(url: str) -> bool:
    """Whether there is something at `url`."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False


def test_a_live_call_appears_and_is_linked_without_a_reload(page: Page, site: Site) -> None:
    page.goto("/")
    expect(page.locator(f"tr[data-call='{LINKED}']")).to_be_visible()
    page.evaluate("window.loadedOnce = true")
    dialled: Future[str] = Future()
    talking = site.lab.run(site.lab.call(site.sip, dialled))
    row = page.locator("table.calls tbody tr", has_text=dialled.result(20))
    expect(row.locator(".chip").first).to_contain_text("in progress")
    assert page.locator("table.calls tbody tr").first.get_attribute("data-call") == row.get_attribute("data-call"), "the newest is on top"
    talking.result(60)
    expect(row.locator(".chip").first).to_have_text("completed")
    expect(row.locator("td[data-name=Verdict]")).to_contain_text("linked")
    expect(row.locator("td[data-name=Turns]")).to_have_text("2")
    assert page.evaluate("window.loadedOnce") is True

    row.locator("a").click()
    call = site.get(f"/v1/calls?sip_call_id={dialled.result()}")["calls"][0]
    expect(page.locator(".ladder .row", has_text="407 Proxy Authentication Required")).to_be_visible()
    expect(page.locator(".turns tbody tr")).to_have_count(2)
    for turn in call["turns"]:
        shown = page.locator(f".turns tr[data-turn='{turn['n']}'] td[data-name=wire]")
        expect(shown).to_have_text(f"{int(turn['response_latency_ms'] + 0.5):,} ms")
    expect(page.locator(".level.caller")).to_have_count(1)
    expect(page.locator(".speech.agent")).to_have_count(len(site.get(f"/v1/calls/{call['id']}/timeline")["tracks"]["agent"]["segments"]))
    expect(page.locator(".hops .seen")).to_have_count(4)
    assert_played_on_one_clock(page, site, call["id"])
    send_as_opus(site, call["id"])
    page.reload()
    assert_played_on_one_clock(page, site, call["id"])


def send_as_opus(site: Site, call: str) -> None:
    """The call's recording in the form that its sidecar might have given it."""
    source = f"{site.url}/v1/calls/{call}/recording"
    with tempfile.TemporaryDirectory() as folder, urllib.request.urlopen(source, timeout=10) as answer:
        kept = Recordings(Path(folder), 1 << 30)
        kept.append(call, "ogg", answer.read()[44:])
        assert kept.finish(call, "ogg") is not None
        content = (Path(folder) / f"{call}.ogg").read_bytes()
    place = f"{site.url}/v1/ingest/recordings/{call}"
    urllib.request.urlopen(urllib.request.Request(place, content, {"Content-Type": "audio/ogg"}), timeout=10).close()
    with urllib.request.urlopen(source, timeout=10) as answer:
        assert (answer.headers["Content-Type"], answer.read()) == ("audio/ogg", content)


def assert_played_on_one_clock(page: Page, site: Site, call: str) -> None:
    """The recording plays, and the line in the timeline is where it is heard."""
    until("the recording", lambda: answers(f"{site.url}/v1/calls/{call}/recording"))
    page.get_by_role("button", name="Play").click()
    until("the sound", lambda: page.evaluate("document.querySelector('audio').currentTime > 0.3"))
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    heard, head = page.evaluate(
        """() => {
            const drawn = [...document.querySelectorAll('.speech.agent')];
            const marks = drawn.map(one => [Number(one.getAttribute('x')), Number(one.dataset.start)]);
            const [first, last] = [marks[0], marks.at(-1)];
            const at = new DOMMatrix(document.querySelector('.stage .head').style.transform).m41;
            const perMs = (last[0] - first[0]) / (last[1] - first[1]);
            return [document.querySelector('audio').currentTime * 1000, first[1] + (at - first[0]) / perMs];
        }"""
    )
    answered = site.get(f"/v1/calls/{call}/timeline")["answered_ms"]
    assert head == pytest.approx(answered + heard, abs=200), "the player and the timeline share one clock"


def test_filters_are_in_the_address_and_an_address_brings_them_back(page: Page, site: Site) -> None:
    page.goto("/")
    rows = page.locator("table.calls tbody tr")
    expect(page.locator(f"tr[data-call='{BUSY}']")).to_be_visible()
    page.get_by_label("SIP status").fill("486")
    page.get_by_label("SIP status").press("Enter")
    expect(rows).to_have_count(1)
    expect(rows.first).to_have_attribute("data-call", BUSY)
    assert "status=486" in page.url
    page.reload()
    expect(rows).to_have_count(1)
    expect(page.get_by_label("SIP status")).to_have_value("486")

    page.goto("/#/calls?range=all&route=support&kind=production")
    expect(rows).to_have_count(4)
    page.get_by_label("Kind").select_option("")
    expect(rows).to_have_count(12)
    assert "kind" not in page.url
    page.get_by_label("Slowest turn").fill("700")
    page.get_by_label("Slowest turn").press("Enter")
    expect(rows).to_have_count(1)
    expect(page.locator(".strip .total .big")).to_have_text("1")
    page.get_by_label("Call-ID").fill("nobody@nowhere.example")
    page.get_by_label("Call-ID").press("Enter")
    expect(page.get_by_role("heading", name="No call fits these filters")).to_be_visible()


def test_a_wrong_filter_is_refused_at_the_field(page: Page) -> None:
    page.goto("/")
    page.get_by_label("SIP status").fill("48")
    page.get_by_label("SIP status").press("Enter")
    assert page.get_by_label("SIP status").evaluate("field => field.validity.patternMismatch")
    assert "status" not in page.url


def test_the_strip_says_what_the_api_says(page: Page, site: Site) -> None:
    page.goto("/#/calls?range=all&route=support")
    told = site.get("/v1/summary?route=support")
    expect(page.locator(".strip .total .big")).to_have_text(str(told["calls"]))
    expect(page.locator(".latency h2")).to_have_text(f"Response latency, n {told['response_latency_ms']['n']}")
    expect(page.locator(".latency dd").first).to_have_text(f"{round(told['response_latency_ms']['p50'])} ms")
    heights = page.locator(".histogram rect").evaluate_all("bars => bars.map(bar => Number(bar.getAttribute('height')))")
    counts = told["latency_histogram"]["counts"]
    assert [height > 0 for height in heights] == [count > 0 for count in counts]
    assert heights.index(max(heights)) == counts.index(max(counts))
    slowest = told["slowest_turns"][0]
    first = page.locator(".slowest a").first
    expect(first).to_contain_text(f"{round(slowest['response_latency_ms'])} ms")
    first.click()
    assert slowest["call"] in page.url
    expect(page.locator(f".turns tr[data-turn='{slowest['n']}']")).to_have_class("chosen")


def test_a_call_that_goes_on_shows_its_turns_so_far_and_its_time_runs(page: Page) -> None:
    page.goto("/")
    row = page.locator(f"tr[data-call='{LIVE}']")
    expect(row.locator(".chip").first).to_contain_text("in progress")
    expect(row.locator("td[data-name=p50]")).to_have_text("640 ms")
    before = row.locator("[data-since]").inner_text()
    expect(row.locator("[data-since]")).not_to_have_text(before)


def test_older_calls_are_shown_when_asked_for(page: Page, site: Site) -> None:
    page.goto("/#/calls?range=all")
    expect(page.locator(f"tr[data-call='{BIG}']")).to_have_count(1)
    expect(page.get_by_role("button", name="Show older calls")).to_be_hidden()


def test_a_live_call_is_hung_up_from_the_page(page: Page, site: Site) -> None:
    until("the sidecar's connection", lambda: any(each["connected"] for each in site.get("/v1/sidecars")["sidecars"]))
    dialled: Future[str] = Future()
    talking = site.lab.run(site.lab.call(site.sip, dialled))
    call_id = dialled.result(20)
    (call,) = until(
        "the call in control", lambda: [each for each in site.get(f"/v1/calls?sip_call_id={call_id}")["calls"] if each["answered_at"]]
    )
    page.goto(f"/#/calls/{call['id']}")
    page.get_by_role("button", name="Hang up").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.locator(".title .chip").first).to_contain_text("hung-up", timeout=15_000)
    expect(page.get_by_role("button", name="Hang up")).to_have_count(0)
    assert site.get(f"/v1/calls/{call['id']}")["ended_by"] == "sidecar"
    talking.exception(30)
