"""`trunkside verify --deep` through a running sidecar, with control beside it: at which hop would the id die?"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from aiohttp import web

from sidecar.clocks import Addr
from sidecar.verify.command import Options, UsageError, run
from sidecar.verify.deep import Deep, listening
from sidecar.verify.run import verify
from sidecar.verify.steps import Report
from tests.shell.verify.edges import closed, running
from tests.support import product


@dataclass
class Running:
    """Both halves, and where the sidecar's routes expect an edge."""

    sip: Addr
    admin: str
    control: str
    edge: Addr
    host: str


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("deep")
    host, edge_host = product.loopback(), product.loopback()
    edge = (edge_host, product.free_port(edge_host))
    target, nobody = f"sip:agent@{edge[0]}:{edge[1]}", f"sip:agent@{closed()[0]}:{closed()[1]}"
    routes = [
        {"name": "agent", "match": {"user": "agent"}, "target": target},
        {"name": "opaque", "match": {"user": "opaque"}, "target": target, "platform": "exotel"},
        {"name": "customers", "match": {"user": "customers"}, "target": target, "simulation": "never"},
        {"name": "own", "match": {"user": "own"}, "target": target, "platform": "my-pbx"},
        {"name": "gone", "match": {"user": "gone"}, "target": nobody},
    ]
    settings = {
        "sip": {"listen": [f"udp://{host}:0"]},
        "admin": {"listen": f"{host}:0"},
        "presets": {"my-pbx": {"prefix": "P-", "alias": "P-Link", "seen_as": ["{name}"]}},
        "routes": routes,
        "spool": {"path": str(folder / "spool")},
        "drain": {"deadline_s": 0, "goodbye_s": 1, "flush_s": 1},
    }
    control_port = product.free_port(host, socket.SOCK_STREAM)
    url = f"http://{host}:{control_port}"
    database = {"listen": f"{host}:{control_port}", "database": f"sqlite+aiosqlite:///{folder}/control.db"}
    with (
        product.running("control", folder / "c", database),
        product.running("sidecar", folder / "s", {**settings, "control": {"url": url}}) as sidecar,
    ):
        ready = sidecar.event("ready")
        sip_host, _, sip_port = ready["sip"][0].removeprefix("udp://").rpartition(":")
        yield Running((sip_host, int(sip_port)), ready["admin"], url, edge, host)


async def through(halves: Running, user: str, *, admin: bool = True, control: bool = True, via: Addr | None = None) -> Report:
    """Verify through the sidecar with an edge in place."""
    deep = Deep(halves.admin if admin else None, halves.control if control else None)
    async with running(at=halves.edge):
        return await verify(f"sip:{user}@voice.example", timeout_s=3, via=via or halves.sip, probe=deep)


def outcomes(report: Report) -> dict[str, str]:
    return {step.name: step.outcome for step in report.steps if step.name in ("received", "carried", "platform", "echoed")}


def causes(report: Report) -> list[str]:
    return [found.name for found in report.findings]


@pytest.mark.peer
async def test_an_id_that_arrives_is_followed_to_the_agents_own_report(halves: Running) -> None:
    report = await through(halves, "agent")
    assert causes(report) == []
    assert outcomes(report) == {"received": "ok", "carried": "ok", "platform": "ok", "echoed": "note"}
    received, carried = (next(step for step in report.steps if step.name == name) for name in ("received", "carried"))
    assert ("kind", "simulation") in received.facts
    assert report.call_id in carried.detail


@pytest.mark.peer
async def test_the_admin_port_alone_shows_every_hop(halves: Running) -> None:
    report = await through(halves, "agent", control=False)
    assert causes(report) == []
    assert outcomes(report) == {"received": "ok", "carried": "ok", "platform": "ok", "echoed": "note"}


@pytest.mark.peer
async def test_the_admin_port_tells_where_to_dial(halves: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert await listening(halves.admin) == [f"udp://{halves.sip[0]}:{halves.sip[1]}"]
    async with running(at=halves.edge):
        assert await run(Options("sip:agent@voice.example", timeout_s=3, json=True, deep=True, admin=halves.admin)) == 0
    assert '"carried"' in capsys.readouterr().out


@pytest.mark.peer
async def test_a_control_is_no_admin_port(halves: Running) -> None:
    with pytest.raises(UsageError, match=r"--deep needs --via: .* cannot tell the sidecar's SIP address: it answers 404"):
        await run(Options("sip:agent@voice.example", deep=True, admin=halves.control))


@pytest.mark.peer
async def test_a_platform_that_lets_nothing_through_is_where_the_id_dies(halves: Running) -> None:
    report = await through(halves, "opaque")
    assert causes(report) == ["carriage_none"]
    assert report.findings[0].cause == "the id dies at the platform: exotel hands no SIP header to the application"
    assert outcomes(report) == {"received": "ok", "carried": "ok", "platform": "failed", "echoed": "note"}


@pytest.mark.peer
async def test_a_route_that_never_takes_calls_for_simulations_is_named(halves: Running) -> None:
    report = await through(halves, "customers")
    assert causes(report) == ["deep_not_simulation"]
    assert report.findings[0].mend == "set simulation: auto or always on route customers"


@pytest.mark.peer
async def test_a_preset_of_the_users_own_is_left_to_config_check(halves: Running) -> None:
    report = await through(halves, "own")
    assert causes(report) == []
    assert outcomes(report)["platform"] == "note"


@pytest.mark.peer
async def test_a_target_that_is_down_is_where_the_id_dies(halves: Running) -> None:
    report = await through(halves, "gone")
    assert causes(report) == ["edge_failed", "deep_not_taken"]
    assert "the id dies between the sidecar and the edge" in report.findings[1].cause
    assert outcomes(report) == {"received": "ok", "carried": "failed"}


@pytest.mark.peer
async def test_a_call_that_went_past_the_sidecar_is_not_received(halves: Running) -> None:
    report = await through(halves, "agent", via=halves.edge, control=False)
    assert causes(report) == ["deep_not_received"]


@pytest.mark.peer
async def test_an_admin_port_and_a_control_that_cannot_be_asked_are_named(halves: Running) -> None:
    host, port = closed()
    deep = Deep(f"http://{host}:{port}", f"{halves.admin}/nowhere")
    async with running(at=halves.edge):
        report = await verify("sip:agent@voice.example", timeout_s=3, via=halves.sip, probe=deep)
    assert causes(report)[:2] == ["deep_admin", "deep_control"]
    assert "404" in report.findings[1].cause


async def test_the_token_goes_to_control_and_not_to_the_admin_port() -> None:
    seen: dict[str, str | None] = {}

    async def calls(request: web.Request) -> web.Response:
        seen[request.path] = request.headers.get("Authorization")
        return web.json_response({"calls": []})

    server = web.Application()
    server.router.add_get("/{who}/v1/calls", calls)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        host, port = runner.addresses[0][:2]
        deep = Deep(f"http://{host}:{port}/admin", f"http://{host}:{port}/control", "hidden", patience_s=0.1)
        await deep.during("id")
        (step,) = await deep.after("id", answered=True)
    finally:
        await runner.cleanup()
    assert seen == {"/admin/v1/calls": None, "/control/v1/calls": "Bearer hidden"}
    assert [found.name for found in step.findings] == ["deep_not_received"]
