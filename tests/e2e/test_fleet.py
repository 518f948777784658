"""A sidecar and control as processes: configuration from control, orders to the sidecar, and a file that is read again."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
import yaml

from sidecar.lab.agent import Agent
from sidecar.lab.challenge import Challenge
from sidecar.lab.script import AgentScript
from tests.e2e.test_lifecycle import control_settings, one_call, sidecar_settings, sip_of
from tests.shell.verify import edges
from tests.support.product import Product, free_port, get_json, loopback, running, until
from tests.support.sipp import Sipp

pytestmark = pytest.mark.peer
T = TypeVar("T")
PLANTED = "s3cret-of-the-route"


@dataclass
class Pair:
    """Both halves, and where control is."""

    sidecar: Product
    control: Product
    url: str
    folder: Path

    def seen(self) -> dict[str, Any]:
        """The sidecar as control knows it."""
        found = [each for each in get_json(f"{self.url}/v1/sidecars")["sidecars"] if each["name"] == "edge-1"]
        return found[0] if found else {}

    def connected(self) -> dict[str, Any]:
        """The same, once it is connected."""
        return until("the connection", lambda: (seen := self.seen()).get("connected") and seen)

    def state(self, wanted: str, version: int) -> dict[str, Any]:
        """The same, once it has answered to a version of the configuration."""

        def answered() -> Any:
            seen = self.seen()
            has = seen["configuration"]
            return (has["state"], has["wanted"]) == (wanted, version) and seen

        return until(f"{wanted} of version {version}", answered)


@contextmanager
def pair(folder: Path, routes: list[dict[str, Any]], **more: Any) -> Iterator[Pair]:
    """A sidecar with these routes in its file, and its control."""
    host = loopback()
    port = free_port(host, socket.SOCK_STREAM)
    url = f"http://{host}:{port}"
    with running("control", folder / "control", control_settings(host, port)) as control:
        settings = sidecar_settings(host, "sip:agent@127.0.0.1:9", url) | {"routes": routes} | more
        with running("sidecar", folder / "sidecar", settings) as sidecar:
            yield Pair(sidecar, control, url, folder)


async def ask(method: str, url: str, body: Any = None, **headers: str) -> tuple[int, Any, str]:
    """Status, body and ETag of a request."""
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, url, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()}) as answer,
    ):
        text = await answer.text()
        return (
            answer.status,
            json.loads(text) if answer.content_type in ("application/json", "application/problem+json") else text,
            answer.headers.get("ETag", ""),
        )


def put(url: str, *routes: dict[str, Any], **more: Any) -> tuple[int, Any, str]:
    """PUT /v1/routes."""
    return asyncio.run(ask("PUT", f"{url}/v1/routes", {"routes": list(routes), **more}))


def route(target: str, name: str = "agent", **more: Any) -> dict[str, Any]:
    return {"name": name, "target": target, **more}


def test_routes_of_control_are_dialled_and_stay_in_force_over_a_restart_without_it(tmp_path: Path) -> None:
    edge, host = loopback(), loopback()
    edge_port, port = free_port(edge), free_port(host, socket.SOCK_STREAM)
    url = f"http://{host}:{port}"
    settings = sidecar_settings(host, "sip:agent@127.0.0.1:9", url)
    with running("control", tmp_path / "control", control_settings(host, port)) as control:
        with running("sidecar", tmp_path / "sidecar", settings) as sidecar:
            both = Pair(sidecar, control, url, tmp_path)
            seen = both.connected()
            assert (seen["configuration"]["state"], seen["configuration"]["source"], seen["routes"]) == ("none", "file", ["agent"])
            given = route(f"sip:agent@{edge}:{edge_port}", "from-control", username="alice", password=PLANTED)
            status, shown, tag = put(url, given)
            assert (status, shown["version"], tag[:4]) == (200, 1, 'W/"1')
            assert (shown["routes"][0]["password_set"], "password" in shown["routes"][0]) == (True, False)
            seen = both.state("applied", 1)
            assert (seen["configuration"]["source"], seen["routes"]) == ("control", ["from-control"])
            sidecar.stop()
        assert control.stop() == 0
    folder = tmp_path / "sidecar" / "spool"
    for name in ("configuration.sealed", "configuration.key"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    with running("sidecar", tmp_path / "sidecar", settings) as again:
        assert again.event("ready")["routes"] == ["from-control"]
        with one_call(tmp_path, sip_of(again), edge, edge_port, 300) as (caller, _):
            assert caller.wait(20).successful == 1
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert PLANTED.encode() not in file.read_bytes(), file


def test_a_snapshot_that_cannot_be_used_is_refused_whole_and_the_one_before_stays(tmp_path: Path) -> None:
    good = route("sip:agent@127.0.0.1:9")
    with pair(tmp_path, [good]) as both:
        both.connected()
        put(both.url, route("sip:agent@127.0.0.1:9", "one"))
        both.state("applied", 1)
        status, _, _ = put(both.url, route("sip:agent@127.0.0.1:9", "fine"), route("sip:agent@127.0.0.1:9", "ill", platform="no-such"))
        assert status == 200  # control does not know presets of sidecars
        seen = both.state("refused", 2)
        assert "no carriage preset 'no-such'" in seen["configuration"]["reason"]
        assert (seen["configuration"]["version"], seen["routes"]) == (1, ["one"])
        assert put(both.url, route("agent@127.0.0.1"))[0] == 422
        put(both.url)
        seen = both.state("applied", 3)
        assert (seen["configuration"]["source"], seen["routes"]) == ("file", ["agent"])
        status, problem, _ = asyncio.run(ask("PUT", f"{both.url}/v1/routes", {"routes": []}, If_Match='W/"1-0123"'))
        assert (status, "version 3" in problem["detail"]) == (412, True)
    assert [line["event"] for line in both.sidecar.faults] == ["snapshot refused"]


def test_a_live_call_goes_on_while_its_route_changes_and_is_ended_by_an_order(tmp_path: Path) -> None:
    edge = loopback()
    edge_port = free_port(edge)
    target = f"sip:agent@{edge}:{edge_port}"
    with pair(tmp_path, [route(target)]) as both:
        both.connected()
        with one_call(tmp_path, sip_of(both.sidecar), edge, edge_port, 60_000):
            call = until("the live call", lambda: get_json(f"{both.url}/v1/calls")["calls"])[0]["id"]
            until("the answer", lambda: get_json(f"{both.url}/v1/calls/{call}")["answered_at"])
            put(both.url, route("sip:elsewhere@127.0.0.1:9", "other"))
            both.state("applied", 1)
            shown = get_json(f"{both.url}/v1/calls/{call}")
            assert (shown["ended_at"], shown["route"]) == (None, "agent")
            assert until("its beat", lambda: both.seen()["live_calls"]) == 1
            status, told, _ = asyncio.run(ask("POST", f"{both.url}/v1/calls/{call}/hangup"))
            assert (status, told) == (200, {"call": call, "sidecar": "edge-1"})
            ended = until("the end", lambda: (found := get_json(f"{both.url}/v1/calls/{call}"))["complete"] and found)
            assert (ended["reason"], ended["ended_by"], ended["status"]) == ("hung-up", "sidecar", 200)
            assert "anonymous" in ended["cause"]
            assert ended["clock"]["uncertainty_ms"] < 1000
        assert asyncio.run(ask("POST", f"{both.url}/v1/calls/{call}/hangup"))[0] == 409
        assert asyncio.run(ask("POST", f"{both.url}/v1/calls/nobody/hangup"))[0] == 404
        entries = get_json(f"{both.url}/v1/audit")["entries"]
        assert [entry["action"] for entry in entries] == ["call.hangup", "routes.put"]
    assert both.sidecar.faults == []


def test_a_sidecar_is_drained_by_an_order(tmp_path: Path) -> None:
    with pair(tmp_path, [route("sip:agent@127.0.0.1:9")]) as both:
        both.connected()
        status, told, _ = asyncio.run(ask("POST", f"{both.url}/v1/sidecars/edge-1/drain"))
        assert (status, told) == (200, {"sidecar": "edge-1", "live_calls": 0})
        assert both.sidecar.process.wait(20) == 0
        until("that it has gone", lambda: not both.seen()["connected"])
        status, problem, _ = asyncio.run(ask("POST", f"{both.url}/v1/sidecars/edge-1/drain"))
        assert (status, "is not connected" in problem["detail"]) == (409, True)
        assert asyncio.run(ask("POST", f"{both.url}/v1/sidecars/edge-9/drain"))[0] == 404


# -- verify --------------------------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def challenging() -> AsyncIterator[str]:
    """The lab's agent behind a digest challenge: host:port."""
    agent = Agent(AgentScript(greeting=None), challenge=Challenge("voice.example", "alice", PLANTED))
    async with asyncio.TaskGroup() as tasks:
        try:
            await agent.start(tasks, loopback())
            yield "{}:{}".format(*agent.ua.address)
        finally:
            await agent.stop()


def causes(report: dict[str, Any]) -> list[str]:
    return [finding["name"] for finding in report["findings"]]


async def test_verify_goes_through_a_sidecar_and_explains_what_it_meets(tmp_path: Path) -> None:
    async with challenging() as edge:
        host, port = edges.closed()
        routes = [route(f"sip:agent@{edge}"), route(f"sip:agent@{host}:{port}", "closed")]
        with pair(tmp_path, routes) as both:
            both.connected()
            url = f"{both.url}/v1/verify"
            good = {"uri": f"sip:agent@{edge}", "username": "alice", "password": PLANTED}
            status, report, _ = await ask("POST", url, good)
            assert (status, report["fine"], report["sidecar"], causes(report)) == (200, True, "edge-1", [])
            assert [step["step"] for step in report["steps"]] == [
                "uri",
                "resolve",
                "connect",
                "options",
                "invite",
                "answer",
                "media",
                "end",
            ]
            status, report, _ = await ask("POST", url, good | {"password": "wrong-one"})
            assert (status, causes(report)) == (200, ["credentials_refused"])
            status, report, _ = await ask("POST", url, {"uri": f"sip:agent@{host}:{port}", "sidecar": "edge-1"})
            assert (status, causes(report)) == (200, ["udp_closed"])
            status, report, _ = await ask("POST", url, {"uri": "agent"})
            assert (status, causes(report)) == (200, ["uri_invalid"])
            for stranger in ("sip:agent@127.0.0.1:9", f"sip:agent@{edge};maddr=127.0.0.1", "sip:[::1]"):
                status, problem, _ = await ask("POST", url, {"uri": stranger})
                assert (status, "may not be dialled" in problem["detail"]) == (403, True), problem
            status, _, _ = await ask("PUT", f"{both.url}/v1/routes", {"routes": [], "policies": {"verify": {"hosts": ["127.0.0.1"]}}})
            assert status == 200
            both.state("applied", 1)
            status, report, _ = await ask("POST", url, {"uri": "sip:agent@127.0.0.1:9"})
            assert (status, causes(report)) == (200, ["udp_closed"])
            status, lines, _ = await ask("POST", url, good, Accept="application/x-ndjson")
            told = [json.loads(line) for line in lines.splitlines()]
            assert [*(line["step"]["step"] for line in told[:-1])] == [step["step"] for step in told[-1]["report"]["steps"]]
        assert both.control.faults == []
        everything = json.dumps([both.control.events, both.sidecar.events])
        assert PLANTED not in everything
        assert "wrong-one" not in everything
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert PLANTED.encode() not in file.read_bytes(), file


async def test_without_a_sidecar_verify_says_what_to_do(tmp_path: Path) -> None:
    host = loopback()
    port = free_port(host, socket.SOCK_STREAM)
    with running("control", tmp_path, control_settings(host, port)):
        status, problem, _ = await ask("POST", f"http://{host}:{port}/v1/verify", {"uri": "sip:agent@127.0.0.1"})
        assert (status, "no sidecar is connected: start one" in problem["detail"]) == (409, True)
        status, problem, _ = await ask("POST", f"http://{host}:{port}/v1/verify", {"uri": "sip:agent@127.0.0.1", "sidecar": "edge-7"})
        assert (status, "no sidecar named edge-7" in problem["detail"]) == (404, True)


async def test_a_password_is_changed_while_calls_live_and_the_next_call_uses_it(tmp_path: Path) -> None:
    quiet = loopback()
    quiet_port = free_port(quiet)
    plain = route(f"sip:agent@{quiet}:{quiet_port}", "plain", match={"user": "agent"})
    async with challenging() as edge:
        with pair(tmp_path, [plain]) as both:
            both.connected()
            guarded = route(f"sip:agent@{edge}", "guarded", match={"user": "other"}, username="alice", password="the old one")
            await ask("PUT", f"{both.url}/v1/routes", {"routes": [plain, guarded]})
            both.state("applied", 1)
            with one_call(tmp_path, sip_of(both.sidecar), quiet, quiet_port, 60_000):
                await in_thread(until, "the live call", lambda: both.seen()["live_calls"])
                assert await in_thread(dialled, tmp_path / "before", sip_of(both.sidecar)) == (0, 1)
                await ask("PUT", f"{both.url}/v1/routes", {"routes": [plain, guarded | {"password": PLANTED}]})
                await in_thread(both.state, "applied", 2)
                assert await in_thread(dialled, tmp_path / "after", sip_of(both.sidecar)) == (1, 0)
                assert [call["ended_at"] for call in calls(both.url, "plain")] == [None]
            wanted = {"credentials-refused", "completed"}
            await in_thread(until, "both calls", lambda: {call["reason"] for call in calls(both.url, "guarded")} == wanted)
        assert both.sidecar.faults == []


def calls(url: str, route_name: str) -> list[dict[str, Any]]:
    return [call for call in get_json(f"{url}/v1/calls")["calls"] if call["route"] == route_name]


def dialled(folder: Path, sip: str) -> tuple[int, int]:
    """One short call to the user `other`: (successful, failed)."""
    host = loopback()
    caller = Sipp("caller", folder, host, free_port(host), calls=1, options=["-s", "other", "-d", "300"], target=sip)
    try:
        figures = caller.wait(20)
    finally:
        caller.stop()
    return figures.successful, figures.failed


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Work that waits, while the stand-ins go on."""
    return await asyncio.to_thread(work, *arguments)


# -- the file ------------------------------------------------------------------------------------------------------------------------------


def rewrite(product: Product, folder: Path, change: Any) -> None:
    """Change the sidecar's file and tell it so."""
    file = folder / "sidecar" / "sidecar.yaml"
    text = file.read_text()
    file.write_text(change if isinstance(change, str) else yaml.safe_dump(change(yaml.safe_load(text))))
    product.process.send_signal(signal.SIGHUP)


def count(product: Product, event: str) -> int:
    return sum(line.get("event") == event for line in product.events)


def test_the_file_is_read_again_on_sighup_whole_or_not_at_all(tmp_path: Path) -> None:
    edge = loopback()
    edge_port = free_port(edge)
    with pair(tmp_path, [route("sip:agent@127.0.0.1:9")]) as both:
        sidecar = both.sidecar
        both.connected()
        rewrite(sidecar, tmp_path, lambda file: file | {"routes": [route(f"sip:agent@{edge}:{edge_port}", "new")]})
        sidecar.event("configuration reloaded")
        with one_call(tmp_path, sip_of(sidecar), edge, edge_port, 60_000):
            until("the live call", lambda: get_json(f"{both.url}/v1/calls")["calls"])
            assert until("its beat", lambda: both.seen()["routes"] == ["new"])
            rewrite(sidecar, tmp_path, lambda file: file | {"media": {"ports": [40000, 41000]}, "routes": [route("sip:agent@127.0.0.1:9")]})
            until("the first refusal", lambda: count(sidecar, "configuration refused") == 1)
            rewrite(sidecar, tmp_path, "name: edge-1\nroutes:\n  - name: agent\n    target: sip:agent@127.0.0.1\n    platfrom: generic\n")
            until("the second refusal", lambda: count(sidecar, "configuration refused") == 2)
            assert until("a beat later", lambda: both.seen()["live_calls"]) == 1
            assert both.seen()["routes"] == ["new"]
    details = [line["detail"] for line in sidecar.events if line.get("event") == "configuration refused"]
    assert "sidecar.yaml" in details[0]
    assert "media cannot change while the sidecar runs" in details[0]
    assert details[1].endswith("sidecar.yaml:5: unknown key 'routes.0.platfrom'")


def test_a_sidecar_without_routes_of_its_own_is_ready_once_control_has_sent_some(tmp_path: Path) -> None:
    with pair(tmp_path, []) as both:
        assert "control has sent none yet" in both.connected()["not_ready"][0]
        put(both.url, route("sip:agent@127.0.0.1:9", sidecars=["edge-*"]), route("sip:x@127.0.0.1:9", "not-mine", sidecars=["other"]))
        assert both.state("applied", 1)["routes"] == ["agent"]
        until("ready", lambda: not both.seen()["not_ready"])
