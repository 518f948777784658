"""A real control and a real sidecar, stand-ins that talk, and Debian's Chromium, which may reach nothing else and may not complain."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Request, sync_playwright

from tests.core.control.traces import TOKEN, report, turn
from tests.e2e.web.calls import Story, conversation, figures
from tests.e2e.web.lab import AGENT, KEY, PASSWORD, USER, WORKSPACE, Lab, lab
from tests.support.product import Product, free_port, loopback, running

CHROMIUM = shutil.which("chromium")
LINKED, BUSY, HOSTILE, BIG, LIVE = ("1" * 32, "2" * 32, "3" * 32, "4" * 32, "5" * 32)
LATENCIES = (612.0, 734.0, 581.0, 1290.0, 455.0, 860.0, 702.0, 1834.0, 640.0, 590.0)
WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}}
"""What axe-core looks for."""
SDK_SHARE = 0.63
"""What the agent of the seeded call claims, as a share of what the wire says."""
HOSTILE_FROM = '"<img src=x onerror=window.owned=1>" <sip:mallory@evil.example>'
HOSTILE_CALL_ID = "<script>window.owned=1</script>@evil.example"


@dataclass
class Site:
    """Where control listens, and what stands around it."""

    url: str
    sip: str
    lab: Lab
    sidecar: Product

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict[str, Any], **headers: str) -> Any:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def tell(self, story: Story) -> None:
        """Bring a call's facts as a sidecar does."""
        for start in range(0, len(story.facts), 800):
            self.post("/v1/ingest/facts", {"version": 1, "sidecar": "edge-1", "facts": story.facts[start : start + 800]})

    def report(self, call_id: str, **more: Any) -> None:
        """Bring an agent's report as its SDK does."""
        query = f"?workspace_id={WORKSPACE}&agent_remote_identifier={AGENT}"
        self.post(f"/api/v1/public/call{query}", report(call_id, **more), Authorization=f"Bearer {KEY}")


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    """What drives browsers."""
    with sync_playwright() as playwright:
        yield playwright


def chromium(playwright: Playwright, program: str | None = CHROMIUM, *more: str) -> Browser:
    """Debian's Chromium. Root has no sandbox, and these pages are our own."""
    assert program is not None, "the browser tests need Debian's package chromium"
    return playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage", *more])


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """One for all tests."""
    browser = chromium(playwright)
    yield browser
    browser.close()


@contextmanager
def control(folder: Path, **more: Any) -> Iterator[str]:
    """Control as a process; its URL."""
    host = loopback()
    port = free_port(host, socket.SOCK_STREAM)
    settings = {"listen": f"{host}:{port}", "database": "sqlite+aiosqlite:///control.db", **more}
    with running("control", folder, settings):
        yield f"http://{host}:{port}"


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The whole product, with some calls in its store."""
    folder = tmp_path_factory.mktemp("web")
    host = loopback()
    port = free_port(host, socket.SOCK_STREAM)
    url = f"http://{host}:{port}"
    with lab(url) as stand_ins:
        agent = "{}:{}".format(*stand_ins.agent.ua.address)
        control_settings = {
            "listen": f"{host}:{port}",
            "database": "sqlite+aiosqlite:///control.db",
            "enrich_wait_s": 1,
            "recordings": {"path": "recordings"},
            "evaluator": {"base_url": stand_ins.api.base_url, "api_key": KEY, "workspace_id": WORKSPACE, "agent_id": AGENT},
        }
        sidecar_settings = {
            "name": "edge-7",
            "sip": {"listen": [f"udp://127.0.0.1:{free_port('127.0.0.1')}"]},
            "routes": [{"name": "lab", "target": f"sip:agent@{agent}", "username": USER, "password": PASSWORD}],
            "control": {"url": url},
            "spool": {"path": "spool"},
            "media": {"record": True},
            "recordings": {"path": "recordings"},
            "admin": {"listen": f"{host}:0"},
            "drain": {"deadline_s": 0, "goodbye_s": 1, "flush_s": 1},
        }
        with (
            running("control", folder / "control", control_settings),
            running("sidecar", folder / "sidecar", sidecar_settings) as sidecar,
        ):
            made = Site(url, str(sidecar.event("ready")["sip"][0]).removeprefix("udp://"), stand_ins, sidecar)
            seed(made)
            yield made


def seed(site: Site) -> None:
    """A call that is linked and enriched, one that was refused, a hostile one, one that goes on, and a very long one."""
    linked = Story(LINKED, "a84b4c76e66710@evaluator.example", seconds_ago=300).set_up()
    turns = conversation(LATENCIES)
    turns[3]["interrupted"] = True
    told = figures(turns, 80_000)
    barge_in = turns[3]["agent_end_ms"] - 200
    told["barge_ins"] = [{"kind": "barge_in", "caller_start_ms": barge_in, "agent_stop_ms": barge_in + 320, "latency_ms": 320}]
    told["media"]["caller"] |= {
        "dtmf": [{"digit": digit, "start_ms": 30_000 + 400 * i, "duration_ms": 160} for i, digit in enumerate("42#")]
    }
    site.tell(linked.hang_up(80_000, told.pop("turns"), **told))
    segments = [{"role": "agent", "text": "hello", "start_ms": 350, "end_ms": 2500, "metadata": {}}]
    for each in turns:
        claimed = round(each["response_latency_ms"] * SDK_SHARE)
        segments += [
            {"role": "user", "text": "…", "start_ms": each["caller_start_ms"], "end_ms": each["caller_end_ms"], "metadata": {}},
            {
                "role": "agent",
                "text": "…",
                "start_ms": each["agent_start_ms"],
                "end_ms": each["agent_end_ms"],
                "metadata": {"e2e_latency": claimed},
            },
        ]
    began = int(linked.trace.started.timestamp())
    site.report(
        "seeded-1",
        sip_call_id=linked.sip_call_id,
        start_timestamp=began,
        end_timestamp=began + 82,
        transcript_with_tool_calls=segments,
    )
    busy = Story(BUSY, "busy@evaluator.example", seconds_ago=400, token=None)
    site.tell(busy.refuse("486 Busy Here", "rejected", "203.0.113.7:5060 answered 486 Busy Here"))
    site.tell(Story(HOSTILE, HOSTILE_CALL_ID, seconds_ago=200, caller=HOSTILE_FROM, kind="production", token=None).set_up().hang_up(4000))
    site.tell(Story(LIVE, "going-on@evaluator.example", seconds_ago=30, token=None).set_up().live([turn(1, 3000, 5000, 5640, 8000)]))
    site.tell(long_call())
    for i in range(12):
        kind = "simulation" if i % 3 else "production"
        other = Story(
            f"6{i:031d}", f"other-{i}@evaluator.example", seconds_ago=3600 + 60 * i, kind=kind, token=f"{i:02d}{TOKEN[2:]}", route="support"
        )
        site.tell(other.set_up(challenged=False).hang_up(60_000, conversation([380.0 + 31 * i, 520.0, 610.0])))


def long_call() -> Story:
    """Two hours, 400 turns, 3,000 messages."""
    story = Story(BIG, "two-hours@evaluator.example", seconds_ago=7300, token=None).set_up()
    rest = (3000 - sum(fact["kind"] == "sip_message" for fact in story.facts) - 4) // 2
    for k in range(rest):
        at = 3000 + k * 7_190_000 / rest
        story.request(at, "A", "in", "OPTIONS", cseq=10 + k).answer(at + 1, "A", "out", "200 OK", "OPTIONS", cseq=10 + k)
    story.hang_up(7_200_000, conversation([300 + (k * 193) % 1700 for k in range(400)], caller_ms=6000, agent_ms=10_000))
    return story


class Watch:
    """What a page must not do: complain, or talk to anybody but control."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.faults: list[str] = []
        self.allowed: list[str] = []
        """Texts of console errors that a test provokes."""
        context.on("console", self._said)
        context.on("weberror", lambda error: self.faults.append(f"uncaught {error.error}"))
        context.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(text in message.text for text in self.allowed):
            self.faults.append(f"{message.type} {message.text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.url + "/", "blob:")):
            self.faults.append(f"request to {request.url}")


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[tuple[Page, Watch]]:
    """A page in a fresh profile; afterwards it must have been quiet."""
    context = browser.new_context(base_url=url, **({"viewport": {"width": 1360, "height": 900}} | options))
    context.set_default_timeout(15_000)
    watch = Watch(context, url)
    page = context.new_page()
    try:
        yield page, watch
    finally:
        context.close()
    assert watch.faults == []


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """An empty page that knows where control is."""
    with opened(browser, site.url) as (page, _):
        yield page
