"""What somebody does at the page: another try for a delivery, a look at the sidecars."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from sidecar.lab.evaluator_api import Failure
from tests.e2e.web.conftest import Site
from tests.support.product import until

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
