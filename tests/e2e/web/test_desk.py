"""What somebody does at the page: another try for a delivery, a look at the sidecars, routes, verification."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from sidecar.lab.evaluator_api import Failure
from tests.e2e.web.conftest import Site, control, opened
from tests.e2e.web.lab import PASSWORD, USER
from tests.support.product import free_port, get_json, until

pytestmark = pytest.mark.peer


def test_a_dead_delivery_is_tried_again_and_arrives(page: Page, site: Site) -> None:
    site.lab.behaviour.failures.append(Failure(422))
    site.report("refused-at-first")
    until("the refusal", lambda: site.get("/v1/deliveries?state=dead&call_id=refused-at-first")["deliveries"])
    page.goto("/#/deliveries?state=dead")
    row = page.locator("table.list tbody tr", has_text="refused-at-first")
    expect(row.locator("td[data-name=State]")).to_contain_text("dead")
    expect(row.locator("td[data-name=State]")).to_contain_text("422")
    page.get_by_label("State").select_option("")
    row.get_by_role("button", name="Try delivery").click()
    expect(row.locator("td[data-name=State]")).to_contain_text("delivered")
    expect(row.get_by_role("button")).to_have_count(0)
    assert site.get("/v1/deliveries?call_id=refused-at-first")["deliveries"][0]["state"] == "delivered"
    assert "state" not in page.url


def test_the_sidecars_are_there_with_what_they_do(page: Page, site: Site) -> None:
    page.goto("/#/sidecars")
    told = site.get("/v1/sidecars")["sidecars"]
    cards = page.locator("section[data-sidecar]")
    expect(cards).to_have_count(len(told))
    edge = page.locator("section[data-sidecar='edge-1']")
    expect(edge.locator("dd").first).to_have_text(str(next(each for each in told if each["name"] == "edge-1")["live_calls"]))
    edge.get_by_role("link").click()
    expect(page.get_by_role("textbox", name="Sidecar")).to_have_value("edge-1")


def test_verify_shows_each_step_and_why_it_fails(page: Page, site: Site) -> None:
    until("the sidecar's connection", lambda: any(each["connected"] for each in site.get("/v1/sidecars")["sidecars"]))
    closed = free_port("127.0.0.1")
    page.goto("/#/verify")
    page.get_by_label("SIP address").fill(f"sip:agent@127.0.0.1:{closed}")
    page.get_by_role("button", name="Verify").click()
    failed = page.locator(".step.failed")
    expect(failed.first).to_be_visible(timeout=30_000)
    expect(page.locator(".unfine")).to_contain_text("would fail", timeout=30_000)
    assert page.locator(".step").first.get_attribute("data-step") != failed.first.get_attribute("data-step"), "steps before it went well"
    finding = failed.locator(".finding").first
    expect(finding).to_contain_text(str(closed))
    expect(finding.locator("p")).to_have_count(2)
    expect(page.get_by_role("button", name="Verify")).to_be_enabled()


def test_verify_that_is_fine_says_so_and_a_foreign_host_is_not_dialled(page: Page, site: Site) -> None:
    until("the sidecar's connection", lambda: any(each["connected"] for each in site.get("/v1/sidecars")["sidecars"]))
    page.goto("/#/verify")
    page.get_by_label("SIP address").fill("sip:agent@{}:{}".format(*site.lab.agent.ua.address))
    page.get_by_label("User name").fill(USER)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Verify").click()
    expect(page.locator(".fine")).to_be_visible(timeout=40_000)
    expect(page.locator(".step.failed")).to_have_count(0)
    assert page.locator(".step").count() >= 3


def test_routes_are_edited_and_a_password_is_never_shown(browser: Browser, tmp_path: Path) -> None:
    with control(tmp_path) as url, opened(browser, url) as (page, watch):
        watch.allowed = ["status of 422"]  # its phrase changed with Python 3.13
        page.goto("/#/routes")
        expect(page.get_by_text("Nothing was put yet")).to_be_visible()
        for name, target in (("first", "sip:agent@edge.example"), ("second", "sip:agent@other.example")):
            page.get_by_role("button", name="Add a route").click()
            dialog = page.get_by_role("dialog", name="New route")
            dialog.get_by_label("Name", exact=True).fill(name)
            dialog.get_by_label("Target").fill(target)
            dialog.get_by_label("User name at the edge").fill("trunk")
            dialog.get_by_label("Password").fill("a-secret-word")
            dialog.get_by_role("button", name="Put in force").click()
            expect(dialog).to_have_count(0)
        cards = page.locator("section[data-route]")
        expect(cards).to_have_count(2)
        expect(cards.first).to_contain_text("password set")
        assert "a-secret-word" not in page.content()
        assert "a-secret-word" not in str(get_json(f"{url}/v1/routes"))

        page.get_by_role("button", name="Move up route second").click()
        expect(cards.first).to_have_attribute("data-route", "second")
        page.get_by_role("button", name="Edit route first").click()
        dialog = page.get_by_role("dialog", name="Route first")
        expect(dialog.get_by_label("Password")).to_have_value("")
        dialog.get_by_label("Matches user").fill("book*")
        dialog.get_by_label("Direction").select_option("outbound")
        dialog.get_by_role("button", name="Put in force").click()
        expect(dialog.get_by_role("alert")).to_contain_text("an outbound route needs allow")
        dialog.get_by_label("Direction").select_option("inbound")
        dialog.get_by_role("button", name="Put in force").click()
        expect(dialog).to_have_count(0)
        told = {route["name"]: route for route in get_json(f"{url}/v1/routes")["routes"]}
        assert told["first"]["match"]["user"] == "book*"
        assert told["first"]["password_set"] is True, "a password that is left out stays"
        page.get_by_role("button", name="Remove route second").click()
        page.get_by_role("button", name="Yes").click()
        expect(cards).to_have_count(1)
        assert [route["name"] for route in get_json(f"{url}/v1/routes")["routes"]] == ["first"]


def test_routes_that_somebody_else_changed_meanwhile_are_not_overwritten(browser: Browser, tmp_path: Path) -> None:
    with control(tmp_path) as url, opened(browser, url) as (page, watch):
        watch.allowed = ["412 (Precondition Failed)"]
        page.goto("/#/routes")
        expect(page.get_by_text("Nothing was put yet")).to_be_visible()
        body = json.dumps({"routes": [{"name": "theirs", "target": "sip:a@b.example"}]}).encode()
        put = urllib.request.Request(f"{url}/v1/routes", body, {"Content-Type": "application/json"}, method="PUT")
        with urllib.request.urlopen(put, timeout=10) as answer:
            assert answer.status == 200
        page.get_by_role("button", name="Add a route").click()
        dialog = page.get_by_role("dialog", name="New route")
        dialog.get_by_label("Name", exact=True).fill("ours")
        dialog.get_by_label("Target").fill("sip:agent@edge.example")
        dialog.get_by_role("button", name="Put in force").click()
        expect(page.get_by_role("alert").first).to_contain_text("Somebody else changed the routes meanwhile")
        expect(page.locator("section[data-route]")).to_have_count(1)
        assert [route["name"] for route in get_json(f"{url}/v1/routes")["routes"]] == ["theirs"]
