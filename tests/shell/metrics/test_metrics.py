"""Both halves' metrics as Prometheus' own tool and an OpenMetrics scraper read them, and the dashboard that is made of them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from control.app import serving
from control.config import ControlConfig
from control.contract.call import Media, RelayDelay, Speech, Stream
from sidecar.admin import AdminServer, LiveCall
from sidecar.b2bua import effects as e
from sidecar.figures import Figures
from sidecar.reporter.spool import Spool
from sidecar.status import Status
from sidecar.turns.measured import Measured
from tests.core.control.client.calls import BEGAN, barge_in, turn
from tests.core.control.traces import complete
from tests.support.relay import Relay, route
from tests.support.tools import run

CALL = "4bf92f3577b34da6a3ce929d0e0e4736"
DASHBOARD = Path(__file__).parents[3] / "configs" / "grafana" / "trunkside.json"
RULES = Path(__file__).parents[3] / "configs" / "prometheus" / "rules.yaml"
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


class State(Status):
    """A sidecar's own status, of a sidecar that consists of what the metrics look at."""

    def not_ready(self) -> Sequence[str]:
        return []

    def calls(self) -> Sequence[LiveCall]:
        return []

    def describe(self) -> Mapping[str, Any]:
        return {}


@asynccontextmanager
async def sidecar(folder: Path) -> AsyncIterator[str]:
    """The admin port of a sidecar that has had a call."""
    relay, figures = Relay(route("generic")), Figures()
    relay.call("sip:1@generic.test", call_id="one")
    figures.ended("agent", "simulation", e.Ended(CALL, 200, "caller", "completed", "", e.SetupTimings(to_answer=0.4)), 21.5)
    media = Media(caller=Stream(packets=1000, lost=3), agent=Stream(packets=900), relay_delay=RelayDelay(p50_us=90.0))
    figures.measured(CALL, "agent", "simulation", Measured([turn(1, 620.0)], [barge_in(280.0)], Speech(), media, 390.0, None), [1e-4])
    spool = Spool.open(folder / "spool", now=BEGAN)
    parts = SimpleNamespace(
        engine=relay.engine,
        pool=SimpleNamespace(free=10),
        reporter=SimpleNamespace(spool=spool),
        analysis=SimpleNamespace(deaths=0),
        fleet=None,
        relays=None,
        recordings=SimpleNamespace(waiting=0, uploaded=0, refused=0),
        ended={"completed": 1},
        figures=figures,
    )
    server = AdminServer(State(parts), ("127.0.0.1", 0))  # type: ignore[arg-type]
    await server.start()
    try:
        yield "http://{}:{}".format(*server.address)
    finally:
        await server.stop()
        spool.shut()


@asynccontextmanager
async def control(folder: Path) -> AsyncIterator[str]:
    """A control that has stored a complete call."""
    config = ControlConfig(listen="127.0.0.1:0", database=f"sqlite+aiosqlite:///{folder}/control.db")
    async with serving(config) as url, aiohttp.ClientSession() as http:
        facts = complete(CALL, "SCL_one").facts
        next(fact for fact in facts if fact["kind"] == "call_measured")["media"] = {"agent": {"packets": 900, "mos_lq": 4.4}}
        body = {"version": 1, "sidecar": "edge-1", "facts": facts}
        for _ in range(2):  # what a sidecar posts again is counted once
            async with http.post(f"{url}/v1/ingest/facts", json=body) as answer:
                assert answer.status == 200
        yield url


HALVES = pytest.mark.parametrize("half", [sidecar, control])


async def scrape(url: str, **headers: str) -> tuple[str, str]:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics", headers=headers) as answer:
        assert answer.status == 200
        return answer.headers["Content-Type"], await answer.text()


def families(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))


@pytest.mark.peer
@HALVES
async def test_promtool_finds_nothing_to_say_about_the_metrics(tmp_path: Path, half: Any) -> None:
    async with half(tmp_path) as url:
        kind, text = await scrape(url)
    assert kind.startswith("text/plain")
    assert "trunkside_" in text
    run("promtool", "check", "metrics", given=text.encode())


@HALVES
async def test_a_scraper_that_accepts_openmetrics_gets_the_call_with_each_slow_turn(tmp_path: Path, half: Any) -> None:
    async with half(tmp_path) as url:
        kind, text = await scrape(url, **OPENMETRICS)
    assert kind.startswith("application/openmetrics-text")
    samples = [sample for family in families(text) for sample in family.samples if sample.exemplar is not None]
    assert {sample.exemplar.labels["trace_id"] for sample in samples if sample.exemplar is not None} == {CALL}
    assert any(sample.name.endswith("response_latency_seconds_bucket") for sample in samples)


async def test_control_counts_a_complete_call_once(tmp_path: Path) -> None:
    async with control(tmp_path) as url:
        _, text = await scrape(url, **OPENMETRICS)
    values = {(sample.name, *sorted(sample.labels.items())): sample.value for family in families(text) for sample in family.samples}
    labels = (("kind", "simulation"), ("route", "agent"))
    assert values["trunkside_control_response_latency_seconds_count", *labels] == 2
    assert values["trunkside_control_response_latency_seconds_sum", *labels] == 1.5
    assert values["trunkside_control_calls_total", labels[0], ("reason", "caller-bye"), labels[1]] == 1


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"trunkside_[a-z0-9_]+", expression))


def expressions(panels: Iterable[dict[str, Any]]) -> list[str]:
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


@pytest.fixture
async def exposed(tmp_path: Path) -> set[str]:
    """Every sample name that a scraper can see."""
    found = set()
    for half in (sidecar, control):
        (tmp_path / half.__name__).mkdir()
        async with half(tmp_path / half.__name__) as url:
            found |= {sample.name for family in families((await scrape(url, **OPENMETRICS))[1]) for sample in family.samples}
    return found


async def test_every_metric_of_the_dashboard_exists(exposed: set[str]) -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    asked = expressions(dashboard["panels"])
    asked += [each["definition"] for each in dashboard["templating"]["list"] if each["type"] == "query"]
    assert len(asked) >= 15
    assert all(names_in(each) for each in asked)
    assert {name for each in asked for name in names_in(each)} - exposed == set()


async def test_every_metric_of_the_alerts_exists(exposed: set[str]) -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
    assert {name for rule in rules for name in names_in(rule["expr"])} - exposed == set()


@pytest.mark.peer
def test_promtool_accepts_every_query_of_the_dashboard_and_every_alert(tmp_path: Path) -> None:
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    asked = expressions(json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"])
    recorded = [
        {"record": f"dashboard:query{n}", "expr": re.sub(r"\$__rate_interval|\$__interval", "5m", each)} for n, each in enumerate(asked)
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}), encoding="utf-8")
    run("promtool", "check", "rules", str(file))


def test_panels_of_the_dashboard_have_their_own_place_and_a_unit() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [(x, y) for panel in panels for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
             for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])]  # fmt: skip
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert all("unit" in panel["fieldConfig"]["defaults"] for panel in panels if panel["type"] != "row")
