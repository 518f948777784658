"""Listening in from a browser on another host: a live call's audio is heard there, and no longer than the call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, expect

from tests.e2e.web.conftest import CHROMIUM, chromium, opened
from tests.support import netns
from tests.support.netns import Host
from tests.support.product import running
from tests.support.sipp import SCENARIOS, Sipp

pytestmark = [pytest.mark.peer, pytest.mark.skipif((reason := netns.why_not()) is not None, reason=str(reason))]

POD, DESK = "10.77.0.1", "10.77.0.2"
URL = f"http://{POD}:8080"
TOKEN = "a-token-that-may-listen"
CONTROL = {
    "listen": f"{POD}:8080",
    "database": "sqlite+aiosqlite:///control.db",
    "tokens": [{"name": "desk", "token": TOKEN, "scopes": ["read", "operate", "sidecar"]}],
}
SIDECAR = {
    "sip": {"listen": ["udp://127.0.0.1:5060"]},
    "routes": [{"name": "agent", "target": "sip:agent@127.0.0.1:5070"}],
    "control": {"url": URL, "token": TOKEN},
    "spool": {"path": "spool"},
    "admin": {"listen": "127.0.0.1:0"},
    "drain": {"deadline_s": 0, "goodbye_s": 1, "flush_s": 1},
}
ENERGY = """async () => {
    const peers = window.peers, stats = peers.length ? [...(await peers.at(-1).getStats()).values()] : [];
    const heard = stats.find((one) => one.type === "inbound-rtp");
    return heard ? heard.totalAudioEnergy : 0;
}"""
WATCHED = """
    window.peers = [];
    window.RTCPeerConnection = class extends RTCPeerConnection { constructor(...given) { super(...given); window.peers.push(this); } };
"""


@contextmanager
def desk(playwright: Playwright, host: Host, folder: Path) -> Iterator[Browser]:
    """A Chromium on that host."""
    program = folder / "chromium"
    program.write_text(f'#!/bin/sh\nexec ip netns exec {host.full} {CHROMIUM} "$@"\n')
    program.chmod(0o755)
    browser = chromium(playwright, str(program), "--autoplay-policy=no-user-gesture-required")
    try:
        yield browser
    finally:
        browser.close()


def test_a_live_call_is_heard_at_another_desk_and_no_longer_than_it_lasts(tmp_path: Path, playwright: Playwright) -> None:
    with ExitStack() as stack:
        pod, away = (stack.enter_context(_host(name)) for name in ("pod", "desk"))
        netns.link(pod, f"{POD}/24", away, f"{DESK}/24")
        stack.enter_context(running("control", tmp_path / "control", CONTROL, pod.prefix))
        stack.enter_context(running("sidecar", tmp_path / "sidecar", SIDECAR, pod.prefix))
        for name, options in (("agent", []), ("caller", ["-s", "agent", "-d", "60000"])):
            party = Sipp(
                name,
                tmp_path,
                "127.0.0.1",
                5070 if name == "agent" else 5080,
                calls=1,
                options=options,
                target="127.0.0.1:5060" if options else "",
                file=_talks_on(tmp_path, name),
                prefix=pod.prefix,
            )
            stack.callback(party.stop)
        browser = stack.enter_context(desk(playwright, away, tmp_path))
        with opened(browser, URL) as (page, watch):
            watch.allowed.append("Cross-Origin-Opener-Policy")  # means nothing without TLS off the loopback, and Chromium says so
            page.add_init_script(f"sessionStorage.setItem('trunkside.token', '{TOKEN}');{WATCHED}")
            page.goto("/#/calls")
            page.locator("tbody tr a").first.click()
            button = page.get_by_role("button", name="Listen in")
            button.click()
            expect(page.get_by_role("button", name="Stop listening")).to_be_visible()
            page.wait_for_function(f"async () => (await ({ENERGY})()) > 0.01")
            page.get_by_role("button", name="Stop listening").click()
            expect(button).to_be_visible()
            button.click()
            expect(page.get_by_role("button", name="Stop listening")).to_be_visible()
            page.get_by_role("button", name="Hang up").click()
            page.get_by_role("dialog").get_by_role("button", name="Yes").click()
            expect(page.get_by_role("button", name="Stop listening")).to_have_count(0)
            page.wait_for_function("() => window.peers.every((one) => one.connectionState === 'closed')")


@contextmanager
def _host(name: str) -> Iterator[Host]:
    host = Host(name)
    try:
        yield host
    finally:
        host.close()


def _talks_on(folder: Path, name: str) -> Path:
    """A scenario whose party says its speech over and over."""
    text = (SCENARIOS / f"{name}.xml").read_text()
    assert "speech.ulaw,1," in text
    file = folder / f"{name}.xml"
    file.write_text(text.replace("speech.ulaw,1,", "speech.ulaw,-1,"))
    return file
