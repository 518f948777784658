"""The fleet at control: versions of its configuration, connections, orders across replicas, and what a stranger is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from control import tokens
from control.api import access
from control.contract.fleet import HangUpOrder, InForce, RefusedSnapshot, SidecarState, SnapshotSent
from control.fleet import fleet as fleet_module
from control.store.database import Store
from control.store.schema import answers, commands, metadata, snapshots
from sidecar.fleet.client import FleetClient
from sidecar.net.tls import TlsSettings
from sidecar.reporter.pace import Pace
from tests.core.control.traces import Trace, report
from tests.shell.control.kit import Client, control, evaluator, settings, until

NOWHERE = "http://127.0.0.1:9"
ROUTE = {"name": "agent", "target": "sip:agent@voice.example", "username": "alice", "password": "planted-in-a-route"}
QUICK = Pace(first_retry=0.02, last_retry=0.1, refused_retry=0.1)
HELLO = {"type": "hello", "version": 1, "sidecar": "x", "instance": "i", "software": "", "facts_version": 1, "state": {}}
BOTH_ON_POSTGRESQL = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


@dataclass
class Host:
    """A sidecar without calls: takes what it is told to take, and remembers."""

    refuse: str | None = None
    hosts: tuple[str, ...] = ("voice.example",)
    taken: list[SnapshotSent] = field(default_factory=list)
    hung_up: list[tuple[str, str]] = field(default_factory=list)
    captured: list[tuple[str, str]] = field(default_factory=list)
    configuration: InForce = field(default_factory=InForce)

    def state(self) -> SidecarState:
        return SidecarState(live_calls=1, drops={"facts": 2}, verify_hosts=list(self.hosts), configuration=self.configuration, routes=["r"])

    async def take(self, sent: SnapshotSent) -> str | None:
        self.taken.append(sent)
        if self.refuse is None:
            self.configuration = InForce(source="control", id=sent.id, version=sent.version)
        else:
            refused = RefusedSnapshot(id=sent.id, version=sent.version, reason=self.refuse)
            self.configuration = self.configuration.model_copy(update={"refused": refused})
        return self.refuse

    def hang_up(self, call: str, by: str) -> bool:
        self.hung_up.append((call, by))
        return call == "c1"

    def listen(self, call: str, by: str) -> AsyncIterator[bytes] | None:
        return None

    def capture(self, call: str, by: str) -> bool:
        self.captured.append((call, by))
        return call == "c1"

    def drain(self) -> int:
        return 3

    def verify_hosts(self) -> Sequence[str]:
        return self.hosts

    def verify_tls(self) -> TlsSettings:
        return TlsSettings()


@asynccontextmanager
async def sidecar(url: str, host: Host, *, name: str = "edge-1", token: str | None = None) -> AsyncIterator[FleetClient]:
    client = FleetClient(host, url=url, token=token, sidecar=name, software="1.2.3", pace=QUICK)
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def seen(client: Client, name: str = "edge-1", **kwargs: Any) -> dict[str, Any]:
    found = (await client.get("/v1/sidecars", **kwargs))["sidecars"]
    return next((each for each in found if each["name"] == name), {})


async def is_connected(client: Client, name: str = "edge-1", *, connected: bool = True) -> bool:
    return (await seen(client, name)).get("connected", False) is connected


async def configured(client: Client, state: str, version: int) -> bool:
    told = (await seen(client)).get("configuration", {})
    return (told.get("state"), told.get("wanted")) == (state, version)


async def put(client: Client, body: dict[str, Any], status: int = 200, **headers: str) -> Any:
    async with client.http.put(
        client.url + "/v1/routes", data=json.dumps(body), headers={name.replace("_", "-"): value for name, value in headers.items()}
    ) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json(content_type=None)


# -- versions ------------------------------------------------------------------------------------------------------------------------------


async def test_routes_are_put_in_versions_and_a_writer_who_saw_another_state_is_refused(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        async with client.http.get(client.url + "/v1/routes") as answer:
            assert (await answer.json(), answer.headers["ETag"]) == (
                {
                    "version": 0, "updated_at": None, "updated_by": None, "routes": [], "presets": {},
                    "policies": {"identity": {"claim": "overwrite", "reject": []}, "evaluators": None, "verify": {"hosts": []}},
                },
                'W/"0"',
            )  # fmt: skip
        first = await put(client, {"routes": [ROUTE]}, If_Match='W/"0"')
        assert (first["version"], first["updated_by"], first["routes"][0]["password_set"]) == (1, "anonymous", True)
        await put(client, {"routes": []}, 412, If_Match='W/"0"')
        async with client.http.get(client.url + "/v1/routes") as answer:
            tag = answer.headers["ETag"]
        async with client.http.get(client.url + "/v1/routes", headers={"If-None-Match": tag}) as answer:
            assert answer.status == 304
        await put(client, {"routes": [ROUTE], "presets": {"p": {}}}, If_Match=f'"other", {tag}')
        assert (await put(client, {"routes": []}, If_Match="*"))["version"] == 3
        entries = (await client.get("/v1/audit?action=routes.put"))["entries"]
        assert [(entry["target"], entry["detail"]) for entry in entries] == [
            ("version 3", {"routes": [], "new_passwords": []}),
            ("version 2", {"routes": ["agent"], "new_passwords": []}),
            ("version 1", {"routes": ["agent"], "new_passwords": ["agent"]}),
        ]


async def test_two_writers_who_saw_the_same_state_cannot_both_win(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        tries = [
            client.http.put(client.url + "/v1/routes", json={"routes": [{**ROUTE, "name": f"r{n}"}]}, headers={"If-Match": '"0"'})
            for n in range(6)
        ]
        answers_ = await asyncio.gather(*tries)
        assert sorted(answer.status for answer in answers_) == [200] + [412] * 5


async def test_a_password_is_kept_as_long_as_name_user_and_host_are_the_same(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        bare = {name: value for name, value in ROUTE.items() if name != "password"}
        problem = await put(client, {"routes": [bare]}, 422)
        assert "needs a password" in problem["detail"]
        await put(client, {"routes": [ROUTE]})
        shown = await client.get("/v1/routes")
        shown["routes"][0]["target"] = "sip:other@voice.example:5080"
        assert (await put(client, shown))["routes"][0]["password_set"]  # what GET gave can be put
        for change in (
            {"target": "sip:agent@elsewhere.example"},
            {"username": "bob"},
            {"target": "sip:agent@voice.example;maddr=192.0.2.1"},
        ):
            problem = await put(client, {"routes": [bare | change]}, 422)
            assert "give the password again" in problem["detail"]
        assert not (await put(client, {"routes": [bare | {"username": None}]}))["routes"][0]["password_set"]


async def test_passwords_are_sealed_at_rest_and_gone_with_their_version(tmp_path: Path) -> None:
    config = settings(tmp_path, NOWHERE)
    async with control(config) as client:
        await put(client, {"routes": [ROUTE]})
        await put(client, {"routes": [ROUTE | {"password": "planted-later"}]})
        texts = [json.dumps(await client.get(path)) for path in ("/v1/routes", "/v1/audit", "/v1/sidecars", "/readyz", "/openapi.json")]
        texts.append(await client.get("/metrics"))
    store = Store(config.database)
    async with store.read() as conn:
        for table in metadata.sorted_tables:
            texts += [repr(tuple(row)) for row in await conn.execute(sa.select(table))]
        kept = (await conn.execute(sa.select(snapshots.c.version, snapshots.c.secrets).order_by(snapshots.c.version))).all()
    await store.close()
    assert [(row.version, row.secrets is None) for row in kept] == [(1, True), (2, False)]
    assert not any("planted" in text for text in texts)


@BOTH_ON_POSTGRESQL
async def test_without_a_key_passwords_are_not_taken(tmp_path: Path) -> None:
    config = settings(tmp_path, NOWHERE, secret_key_file=None, evaluator={"base_url": NOWHERE, "api_key": "own"})
    async with control(config) as client:
        assert "secret_key_file: set it" in (await put(client, {"routes": [ROUTE]}, 422))["detail"]
        await put(client, {"routes": [{"name": "agent", "target": "sip:agent@voice.example"}]})


async def test_a_refused_body_is_not_repeated_in_the_answer(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        for body in ({"routes": [ROUTE | {"password": ["planted"]}]}, {"routes": [ROUTE, ROUTE]}, {"routes": [ROUTE | {"planted": 1}]}):
            problem = await put(client, body, 422)
            assert "planted-" not in json.dumps(problem)


# -- connections ---------------------------------------------------------------------------------------------------------------------------


async def test_a_sidecar_registers_takes_the_newest_version_and_is_shown_with_its_state(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        await put(client, {"routes": [ROUTE, ROUTE | {"name": "other", "sidecars": ["west-*"]}]})
        host = Host()
        async with sidecar(client.url, host):
            await until(lambda: configured(client, "applied", 1))
            [sent] = host.taken
            assert [(route["name"], route["password"]) for route in sent.content["routes"]] == [("agent", "planted-in-a-route")]
            await until(lambda: _clock(client))
            told = await seen(client)
            assert {name: told[name] for name in ("software", "version", "facts", "live_calls", "drops", "draining", "routes")} == {
                "software": "1.2.3", "version": 1, "facts": 0, "live_calls": 0, "drops": {"facts": 2}, "draining": False, "routes": ["r"],
            }  # fmt: skip
            assert abs(told["clock"]["offset_ms"]) <= told["clock"]["uncertainty_ms"] + 0.1  # one machine has one clock
            host.refuse = "the test does not want it"
            await put(client, {"routes": []})
            await until(lambda: configured(client, "refused", 2))
            told = (await seen(client))["configuration"]
            assert (told["version"], told["source"], told["reason"]) == (1, "control", "the test does not want it")
        await until(lambda: is_connected(client, connected=False))
        assert "trunkside_sidecars_connected 0.0" in await client.get("/metrics")


async def _clock(client: Client) -> bool:
    return (await seen(client))["clock"] is not None


async def test_a_sidecar_comes_back_by_itself_when_control_was_away(tmp_path: Path) -> None:
    config, host = settings(tmp_path, NOWHERE), Host()
    async with control(config) as client:
        port = int(client.url.rsplit(":", 1)[1])
        task = sidecar(client.url, host)
        connection = await task.__aenter__()
        await until(lambda: is_connected(client))
    await until(lambda: connection.describe()["link"] in ("away", "refused"))
    async with control(config.model_copy(update={"listen": f"127.0.0.1:{port}"})) as client:
        await until(lambda: is_connected(client))
        assert connection.describe()["link"] == "up"
        await task.__aexit__(None, None, None)


async def test_a_report_is_not_given_to_another_call_while_a_sidecar_that_may_have_carried_its_own_is_away(tmp_path: Path) -> None:
    """Two calls from one number at one time; the one sidecar's link is cut before it has told of its call."""
    async with evaluator() as tuner, control(settings(tmp_path, tuner.base_url, enrich_wait_s=0.3, enrich_max_s=60)) as client:
        async with sidecar(client.url, Host(), name="edge-1"), sidecar(client.url, Host(), name="edge-2"):
            await until(lambda: _connected(client, {"edge-1", "edge-2"}))
            told, untold = (Trace(letter * 32, f"SCL_{letter}", token=None).answered().ended() for letter in "ab")
            await client.facts(*told.facts)
            await asyncio.sleep(0.4)
        await until(lambda: _connected(client, set()))
        await client.report(report("r1", untold, caller_phone_number="+15550100"))
        await asyncio.sleep(1.0)
        assert tuner.calls() == []
        await client.facts(*untold.facts)
        async with sidecar(client.url, Host(), name="edge-1"), sidecar(client.url, Host(), name="edge-2"):
            await until(lambda: tuner.calls() == ["r1"])
        assert "sip_call_id" not in tuner.body("r1")
        for call in (told, untold):
            assert (await client.get(f"/v1/calls/{call.call}"))["verdict"]["outcome"] == "conflict"


async def _connected(client: Client, names: set[str]) -> bool:
    seen = (await client.get("/v1/sidecars"))["sidecars"]
    return {each["name"] for each in seen if each["connected"]} == names


async def test_the_later_of_two_sidecars_of_one_name_is_served(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        await client.facts(*Trace("c1", "SCL_abc").facts)
        first, second = Host(), Host()
        async with sidecar(client.url, first) as one:
            await until(lambda: is_connected(client))
            async with sidecar(client.url, second) as two:
                await until(lambda: one.describe()["link"] == "refused" and two.describe()["link"] == "up")
                assert "give each sidecar a name of its own" in str(one.describe()["trouble"])
                for order in ("hangup", "capture"):
                    assert await client.post(f"/v1/calls/c1/{order}") == {"call": "c1", "sidecar": "edge-1"}
        assert (first.hung_up, second.hung_up) == ([], [("c1", "anonymous")])
        assert (first.captured, second.captured) == ([], [("c1", "anonymous")])


async def test_what_is_no_sidecar_is_told_so(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        url = client.url + "/v1/fleet"
        problem = await client.get("/v1/fleet", status=426)
        assert "WebSocket" in problem["detail"]
        for first, says in (
            ("{", "not understood"),
            (json.dumps({"type": "beat", "n": 1, "sent_us": 0, "state": {}}), "beat came before hello"),
            (
                json.dumps(
                    {"type": "hello", "version": 99, "sidecar": "x", "instance": "i", "software": "", "facts_version": 1, "state": {}}
                ),
                "version 1",
            ),
        ):
            async with client.http.ws_connect(url) as socket:
                await socket.send_str(first)
                farewell = json.loads((await socket.receive(timeout=5)).data)
                assert farewell["type"] == "farewell"
                assert says in farewell["reason"]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.http.ws_connect(url, origin="http://127.0.0.1")  # a page in a browser of this machine
        assert refused.value.status == 403


async def test_a_revoked_token_ends_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_REFRESH_S", 0.0)
    monkeypatch.setattr(fleet_module, "HEARTBEAT_S", 0.1)
    config = settings(tmp_path, NOWHERE)
    token, reader = await tokens.create(config, "edge", ["sidecar"]), await tokens.create(config, "people", ["read"])
    asks = {"headers": {"Authorization": f"Bearer {reader}"}}
    async with control(config) as client:
        async with sidecar(client.url, Host(), token=reader) as wrong:
            await until(lambda: wrong.describe()["link"] == "refused")
            assert "check control.token" in str(wrong.describe()["trouble"])
        async with sidecar(client.url, Host(), token=token) as right:
            await until(lambda: right.describe()["link"] == "up")
            await until(lambda: _shown(client, asks))
            await tokens.revoke(config, "edge")
            await until(lambda: right.describe()["link"] == "refused")


async def test_a_token_with_names_opens_nothing_to_another_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_REFRESH_S", 0.0)
    config = settings(tmp_path, NOWHERE, tokens=[{"name": "file", "token": "of-the-file", "scopes": ["sidecar"], "sidecars": ["edge-2"]}])
    pool = await tokens.create(config, "pool", ["sidecar"], sidecars=["pool-*", "odd[1]"])
    reader = await tokens.create(config, "people", ["read"])
    asks = {"headers": {"Authorization": f"Bearer {reader}"}}

    async def post(name: str, token: str, trace: Trace, status: int) -> Any:
        bearer = {"Authorization": f"Bearer {token}"}
        return await client.post("/v1/ingest/facts", {"version": 1, "sidecar": name, "facts": trace.facts}, status, headers=bearer)

    async with control(config) as client, sidecar(client.url, Host(), name="edge-2", token="of-the-file") as theirs:
        await until(lambda: theirs.describe()["link"] == "up")
        async with sidecar(client.url, Host(), name="edge-2", token=pool) as other:
            await until(lambda: other.describe()["link"] == "refused")
            assert "this token speaks for the sidecars pool-*, odd[1], not for edge-2" in str(other.describe()["trouble"])
            assert theirs.describe()["link"] == "up"  # whom it would have displaced
        async with sidecar(client.url, Host(), name="pool-7", token=pool) as one:
            await until(lambda: one.describe()["link"] == "up")
        async with sidecar(client.url, Host(), name="odd[1]", token=pool) as odd:
            await until(lambda: odd.describe()["link"] == "up")
        ours = Trace("c1", "SCL_abc")  # of edge-1
        for name in ("edge-1", "pool-7"):  # under its name, or within a batch of another's
            assert "not for edge-1" in (await post(name, pool, ours, 403))["detail"]
        assert (await client.get("/v1/calls", **asks))["calls"] == []
        ours.facts[0]["sidecar"] = "pool-8"
        assert (await post("pool-7", pool, ours, 200))["new"] == 1


async def _shown(client: Client, asks: dict[str, Any]) -> bool:
    return (await seen(client, **asks)).get("connected", False)


# -- clocks --------------------------------------------------------------------------------------------------------------------------------


async def test_every_time_of_a_call_that_is_shown_is_on_controls_clock(tmp_path: Path) -> None:
    """The sidecar's clock is an hour behind; durations, and what is stored, are as it told them."""
    behind = datetime(2026, 1, 31, 11, tzinfo=UTC)
    async with control(settings(tmp_path, NOWHERE, retention={"days": 0})) as client:
        trace = Trace("c1", "SCL_abc", started=behind, clock={"offset_ms": 3_600_000.0, "uncertainty_ms": 1.5})
        trace.message(0, "A", "in", "INVITE sip:a@b SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n")
        await client.facts(*trace.answered().ended().facts)
        call = await client.get("/v1/calls/c1")
        assert call["clock"] == {"offset_ms": 3_600_000.0, "uncertainty_ms": 1.5, "shifted": True}
        assert call["started_at"] == "2026-01-31T12:00:00Z"
        assert all(call[name].startswith("2026-01-31T12:00:") for name in ("answered_at", "ended_at"))
        assert (await client.get("/v1/calls/c1/messages"))["messages"][0]["at"] == "2026-01-31T12:00:00Z"
        assert [each["id"] for each in (await client.get("/v1/calls?since=2026-01-31T11:59:59Z"))["calls"]] == ["c1"]
        for form in ("ladder?format=text", "evidence"):
            assert "11:00:0" not in await client.get(f"/v1/calls/c1/{form}")


# -- orders --------------------------------------------------------------------------------------------------------------------------------


async def test_an_order_that_nobody_answers_ends_with_504_and_one_whose_connection_breaks_with_502(tmp_path: Path) -> None:
    class Stuck(Host):
        def hang_up(self, call: str, by: str) -> bool:
            raise RuntimeError("a fault of the sidecar")

    async with control(settings(tmp_path, NOWHERE)) as client:
        await client.facts(*Trace("c1", "SCL_abc").facts, *Trace("c2", "SCL_def", token=None, sidecar="edge-2").facts)
        async with sidecar(client.url, Stuck()):
            await until(lambda: is_connected(client))
            problem = await client.post("/v1/calls/c1/hangup", status=500)
            assert "its log" in problem["detail"]
            assert await is_connected(client)  # a fault in an order does not cost the connection
        async with client.http.ws_connect(client.url + "/v1/fleet") as socket:
            await socket.send_str(json.dumps(HELLO | {"sidecar": "edge-2"}))
            assert json.loads((await socket.receive()).data)["type"] == "welcome"
            asking = asyncio.create_task(client.post("/v1/calls/c2/hangup", status=502))
            while json.loads((await socket.receive()).data)["type"] != "command":
                pass
            await socket.close()
            assert "broke before it was done" in (await asking)["detail"]
        problem = await client.post("/v1/calls/c2/hangup", status=409)
        assert "is not connected, it was last heard of at" in problem["detail"]


@BOTH_ON_POSTGRESQL
async def test_an_order_reaches_a_sidecar_at_another_replica_and_so_does_a_new_version(tmp_path: Path) -> None:
    config, host = settings(tmp_path, NOWHERE), Host()
    async with control(config) as here, control(config) as there, sidecar(there.url, host):
        await until(lambda: is_connected(here))
        await put(here, {"routes": [ROUTE]})
        await until(lambda: configured(here, "applied", 1))
        await here.facts(*Trace("c1", "SCL_abc").facts, *Trace("c2", "SCL_def", token=None).facts)
        assert await here.post("/v1/calls/c1/hangup") == {"call": "c1", "sidecar": "edge-1"}
        assert host.hung_up == [("c1", "anonymous")]
        assert "not live" in (await here.post("/v1/calls/c2/hangup", status=409))["detail"]
        assert await here.post("/v1/sidecars/edge-1/drain") == {"sidecar": "edge-1", "live_calls": 3}
        report = await here.post("/v1/verify", {"uri": "agent", "username": "alice", "password": "planted-in-an-order"})
        assert (report["sidecar"], report["steps"][0]["step"]) == ("edge-1", "uri")
        async with here.http.post(here.url + "/v1/verify", json={"uri": "agent"}, headers={"Accept": "application/x-ndjson"}) as streamed:
            lines = [json.loads(line) for line in (await streamed.text()).splitlines()]
        assert [next(iter(line)) for line in lines] == ["step", "report"]
        store = Store(config.database)
        async with store.read() as conn:
            for table in (commands, answers):
                assert (await conn.execute(sa.select(table))).all() == []  # nothing is left behind
        await store.close()


@BOTH_ON_POSTGRESQL
async def test_a_replica_that_dies_leaves_no_sidecar_that_looks_connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "HEARTBEAT_S", 0.1)
    config = settings(tmp_path, NOWHERE)
    async with control(config) as here:
        store = Store(config.database)
        async with control(config) as there, sidecar(there.url, Host()):
            await until(lambda: is_connected(here))
            async with store.read() as conn:
                row = (await conn.execute(sa.text("SELECT * FROM fleet"))).mappings().one()
        async with store.write() as conn:  # as if the replica had been killed before it could say that the sidecar went
            await conn.execute(sa.text("UPDATE fleet SET replica = :replica"), {"replica": row["replica"]})
        await until(lambda: is_connected(here, connected=False))
        await store.close()


def test_an_order_never_shows_its_password() -> None:
    from control.contract.fleet import VerifyAsked, VerifyOrder

    order = VerifyOrder(uri="sip:a@b", username="a", password="planted", timeout_s=1)
    assert "planted" not in repr(order) + repr(VerifyAsked(uri="sip:a@b", username="a", password="planted"))
    assert HangUpOrder(call="c", by="x").name == "hang_up"
