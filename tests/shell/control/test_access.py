"""Tokens, what they open, what becomes of wrong ones, who changed what, TLS; and no secret anywhere it does not belong."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa
import structlog
import trustme

from control import tokens
from control.api import access
from control.api.limits import Allowance, Failures
from control.app import serving
from control.config import ControlConfig, Credentials, load
from control.errors import StartupError
from control.store.dialect import make_engine
from control.store.schema import metadata
from control.store.schema import tokens as tokens_table
from tests.core.control.traces import Trace, complete, report
from tests.shell.control.kit import Client, Evaluator, control, evaluator, settings, until

NOWHERE = "http://127.0.0.1:9"
READER = [{"name": "reader", "token": "a-token-of-the-configuration", "scopes": ["read"]}]


def bearer(token: str) -> dict[str, dict[str, str]]:
    return {"headers": {"Authorization": f"Bearer {token}"}}


async def status(client: Client, path: str, token: str | None = None, method: str = "GET") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    async with client.http.request(method, client.url + path, headers=headers) as answer:
        return answer.status


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored tokens are looked at before every request."""
    monkeypatch.setattr(access, "_REFRESH_S", 0.0)


async def test_a_token_made_while_control_runs_opens_what_its_scopes_say_until_it_is_revoked(tmp_path: Path, at_once: None) -> None:
    config = settings(tmp_path, NOWHERE)
    async with control(config) as client:
        assert await status(client, "/v1/calls") == 200  # no token anywhere: loopback is open
        token = await tokens.create(config, "people", ["read", "operate"])
        assert re.fullmatch(r"tsk_[A-Za-z0-9_-]{43}", token)
        assert await status(client, "/v1/calls") == 401
        assert await status(client, "/v1/calls", token) == 200
        assert await status(client, "/v1/ingest/facts", token, "POST") == 403
        async with client.http.get(client.url + "/v1/calls", headers={"X-API-Key": token}) as answer:
            assert answer.status == 200
        await tokens.revoke(config, "people")
        assert await status(client, "/v1/calls", token) == 401
        assert await status(client, "/v1/calls") == 401  # the last token went, the door stays shut
    [info] = await tokens.listed(config)
    assert (info.name, info.scopes, info.created_by, info.revoked_at is not None) == ("people", ("read", "operate"), "cli", True)


async def test_only_a_hash_of_a_token_is_stored_and_it_is_shown_once(tmp_path: Path) -> None:
    config = settings(tmp_path, NOWHERE)
    token = await tokens.create(config, "people", ["read"])
    dump = await dumped(config)
    assert token not in dump
    assert tokens.digest(token) in dump
    assert token not in repr(await tokens.listed(config))


async def test_a_token_expires(tmp_path: Path, at_once: None) -> None:
    config = settings(tmp_path, NOWHERE)
    token = await tokens.create(config, "guest", ["read"], expires_s=3600)
    short = await tokens.create(config, "short", ["read"], expires_s=0.05)
    await asyncio.sleep(0.06)
    async with control(config) as client:
        assert await status(client, "/v1/calls", token) == 200
        assert await status(client, "/v1/calls", short) == 401
    again = await tokens.create(config, "short", ["read"])  # a name that ran out may be used again
    assert again != short


async def test_what_makes_no_token_is_said_in_one_line(tmp_path: Path) -> None:
    config = settings(tmp_path, NOWHERE, tokens=READER)
    await tokens.create(config, "people", ["read"])
    asked: list[tuple[str, list[str], dict[str, Any], str]] = [
        ("people", ["read"], {}, "in force already"),
        ("reader", ["read"], {}, "the configuration has a token named"),
        ("-x", ["read"], {}, "a name has"),
        ("x" * 129, ["read"], {}, "a name has"),
        ("new", [], {}, "scopes are one or more of sidecar, sync, read, operate"),
        ("new", ["read", "fly"], {}, "scopes are one or more of"),
        ("new", ["read"], {"expires_s": 0}, "expire"),
        ("new", ["sync"], {}, "needs evaluator credentials"),
        ("new", ["read"], {"sidecars": ["edge-1"]}, "belong to the scope sidecar"),
        ("new", ["sidecar"], {"sidecars": [""]}, "1 to 128 characters"),
        ("new", ["read"], {"evaluator": Credentials(api_key="k", workspace_id=1, agent_id="a")}, "scope sync alone"),
    ]
    for name, scopes, more, says in asked:
        with pytest.raises(tokens.TokenError, match=re.escape(says)):
            await tokens.create(config, name, scopes, **more)
    for name, says in (("nobody", "no token named 'nobody' is in force"), ("reader", "stands in the configuration")):
        with pytest.raises(tokens.TokenError, match=re.escape(says)):
            await tokens.revoke(config, name)
    assert [info.name for info in await tokens.listed(config)] == ["people"]


async def test_without_a_token_nothing_but_loopback_is_listened_on(tmp_path: Path) -> None:
    config = settings(tmp_path, NOWHERE, listen="0.0.0.0:0")
    with pytest.raises(StartupError, match=r"listen: 0\.0\.0\.0:0 is not a loopback address, so tokens must be set"):
        async with serving(config):
            pytest.fail("listens for everybody")
    token = await tokens.create(config, "people", ["read"])
    async with serving(config) as url, aiohttp.ClientSession() as http:
        client = Client(url.replace("0.0.0.0", "127.0.0.1"), http)
        assert (await status(client, "/v1/calls", token), await status(client, "/v1/calls")) == (200, 401)


async def test_after_many_wrong_tokens_a_source_waits_but_proven_ones_are_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "Failures", lambda: Failures(Allowance(burst=3, every_s=60.0)))
    own = {"base_url": NOWHERE, "api_key": "tr_own", "workspace_id": 1, "agent_id": "a"}
    more = [*READER, {"name": "other", "token": "another-token", "scopes": ["read"]}]
    async with control(settings(tmp_path, NOWHERE, tokens=more, evaluator=own)) as client:
        assert await status(client, "/v1/calls", "a-token-of-the-configuration") == 200
        assert [await status(client, "/v1/calls", f"guess-{n}") for n in range(5)] == [401, 401, 401, 429, 429]
        async with client.http.get(client.url + "/v1/calls", **bearer("another-token")) as answer:
            assert answer.status == 429  # right, but who guesses on must not learn of it
            assert 50 <= int(answer.headers["Retry-After"]) <= 60
        assert await status(client, "/api/v1/public/call", "tr_own", "POST") == 429
        assert await status(client, "/v1/calls", "a-token-of-the-configuration") == 200
        assert await status(client, "/v1/calls") == 401
        assert (await client.get("/readyz"))["access"]["refused"] >= 3


async def test_changes_are_written_down_with_who_what_and_when(tmp_path: Path, at_once: None) -> None:
    async with evaluator(known=Evaluator(script=[422])) as receiver:
        own = {"base_url": receiver.base_url, "api_key": "tr_own", "workspace_id": 1, "agent_id": "a"}
        config = settings(tmp_path, NOWHERE, evaluator=own)
        operator = await tokens.create(config, "ops", ["read", "operate"])
        agent = await tokens.create(config, "agent", ["sync"])
        async with control(config) as client:
            await client.report(report("r1"), **bearer(agent))
            await until(lambda: _state(client, operator, "dead"))
            headers = {"Authorization": f"Bearer {operator}", "X-Request-Id": "change-1"}
            [delivery] = (await client.get("/v1/deliveries", headers=headers))["deliveries"]
            await client.post(f"/v1/deliveries/{delivery['id']}/retry", headers=headers)
            await until(lambda: _state(client, operator, "delivered"))
            await client.post(f"/v1/deliveries/{delivery['id']}/retry", status=409, headers=headers)  # no change, no entry
            await tokens.revoke(config, "agent")
            page = await client.get("/v1/audit?limit=3", headers=headers)
            told = [(entry["actor"], entry["action"], entry["target"]) for entry in page["entries"]]
            assert told == [
                ("cli", "token.revoke", "agent"),
                ("token:ops", "delivery.retry", str(delivery["id"])),
                ("cli", "token.create", "agent"),
            ]
            entry = page["entries"][1]
            assert (entry["source"], entry["request_id"], entry["detail"]) == ("127.0.0.1", "change-1", {"call_id": "r1", "was": "dead"})
            rest = await client.get(f"/v1/audit?cursor={page['next']}", headers=headers)
            assert [(entry["target"], entry["detail"]) for entry in rest["entries"]] == [("ops", {"scopes": ["read", "operate"]})]
            assert len((await client.get("/v1/audit?actor=token:ops&action=delivery.retry", headers=headers))["entries"]) == 1
            assert (await client.get("/v1/audit?until=2020-01-01T00:00:00Z", headers=headers))["entries"] == []


async def _state(client: Client, token: str, wanted: str) -> bool:
    listed = (await client.get("/v1/deliveries", **bearer(token)))["deliveries"]
    return [delivery["state"] for delivery in listed] == [wanted]


async def test_an_agents_token_stands_for_evaluator_credentials_that_it_never_sees(tmp_path: Path, at_once: None) -> None:
    """Two agents, two workspaces, neither with the evaluator's key: one token from the configuration, one from the store."""
    async with evaluator() as receiver:
        first = {"api_key": "tr_first", "workspace_id": 11, "agent_id": "one"}
        configured = [{"name": "one", "token": "token-of-agent-one", "scopes": ["sync"], "evaluator": first}]
        config = settings(tmp_path, receiver.base_url, tokens=configured)
        second = await tokens.create(config, "two", ["sync"], evaluator=Credentials(api_key="tr_second", workspace_id=22, agent_id="two"))
        async with control(config) as client:
            await client.post("/api/v1/public/call", report("r1"), **bearer("token-of-agent-one"))
            await client.report(report("r2"), **bearer(second))  # what its request names does not count
            await client.report(report("r3"), **bearer("tr_theirs"))  # an agent with a key of its own
            await until(lambda: len(receiver.received) == 3)
        got = {}
        for (call_id, _), headers in zip(receiver.received, receiver.headers, strict=True):
            got[call_id] = (headers["Authorization"], headers["path"].partition("?")[2])
        assert got == {
            "r1": ("Bearer tr_first", "workspace_id=11&agent_remote_identifier=one"),
            "r2": ("Bearer tr_second", "workspace_id=22&agent_remote_identifier=two"),
            "r3": ("Bearer tr_theirs", "workspace_id=7&agent_remote_identifier=agent-1"),
        }
        dump = await dumped(config)
        assert "tr_first" not in dump
        assert "tr_second" not in dump


async def test_a_report_that_waits_leaves_with_the_key_that_its_token_has_now(tmp_path: Path) -> None:
    async with evaluator(known=Evaluator(script=[401])) as receiver:

        def config(key: str) -> ControlConfig:
            mapped = {"api_key": key, "workspace_id": 11, "agent_id": "one"}
            agent = {"name": "one", "token": "token-of-agent-one", "scopes": ["sync"], "evaluator": mapped}
            operator = {"name": "ops", "token": "token-of-the-operator", "scopes": ["operate"]}
            return settings(tmp_path, receiver.base_url, tokens=[agent, operator])

        async with control(config("tr_expired")) as client:
            await client.post("/api/v1/public/call", report("r1"), **bearer("token-of-agent-one"))
            await until(lambda: _state(client, "token-of-the-operator", "dead"))
        async with control(config("tr_renewed")) as client:
            operator = bearer("token-of-the-operator")
            [delivery] = (await client.get("/v1/deliveries", **operator))["deliveries"]
            await client.post(f"/v1/deliveries/{delivery['id']}/retry", **operator)
            await until(lambda: len(receiver.received) == 1)
        assert [headers["Authorization"] for headers in receiver.headers] == ["Bearer tr_expired", "Bearer tr_renewed"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tokens: [{name: a, token: t, scopes: [read], evaluator: {api_key: k, workspace_id: 1, agent_id: a}}]", "but not the scope sync"),
        ("tokens: [{name: a, token: t, scopes: [read], sidecars: [edge-1]}]", "names sidecars but has not the scope sidecar"),
        ("tokens: [{name: a, token: t, scopes: [sync], evaluator: {workspace_id: 1, agent_id: a}}]", "needs api_key or api_key_file"),
        ("tokens: [{name: a, token: t, scopes: [sync], evaluator: {api_key: k}}]", "workspace_id' is missing"),
        ("tokens: [{name: a, token: t, scopes: [read]}, {name: a, token: u, scopes: [read]}]", "two tokens have the same name"),
        (
            "tls: {certificate: /nowhere/cert.pem, key: /nowhere/key.pem}",
            "/nowhere/cert.pem and key /nowhere/key.pem cannot be used: No such file",
        ),
        ("tls: {certificate: cert.pem}", "'tls.key' is missing"),
    ],
)
def test_a_configuration_of_access_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    config = tmp_path / "control.yaml"
    config.write_text(text + "\n")
    with pytest.raises(StartupError) as caught:
        load(config)
    assert says in caught.value.message
    assert "\n" not in caught.value.message


# ---- TLS


async def test_the_listener_speaks_tls_and_asks_for_a_certificate_when_told_to(tmp_path: Path) -> None:
    authority, strangers = trustme.CA(), trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    files = {name: tmp_path / f"{name}.pem" for name in ("certificate", "key", "client_ca")}
    server.cert_chain_pems[0].write_to_path(files["certificate"])
    server.private_key_pem.write_to_path(files["key"])
    authority.cert_pem.write_to_path(files["client_ca"])

    def client_context(issuer: trustme.CA | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        if issuer is not None:
            issuer.issue_cert("sidecar.example").configure_cert(context)
        return context

    async def livez(url: str, issuer: trustme.CA | None) -> int:
        connector = aiohttp.TCPConnector(ssl=client_context(issuer))
        async with aiohttp.ClientSession(connector=connector) as http, http.get(url + "/livez") as answer:
            return answer.status

    async with serving(settings(tmp_path, NOWHERE, tls={"certificate": files["certificate"], "key": files["key"]})) as url:
        assert url.startswith("https://127.0.0.1:")
        assert await livez(url, None) == 200
    async with serving(settings(tmp_path, NOWHERE, tls=files)) as url:
        assert await livez(url, authority) == 200
        for issuer in (None, strangers):
            with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
                await livez(url, issuer)


# ---- secrets


async def dumped(config: ControlConfig) -> str:
    """Every value of every table as text."""
    engine = make_engine(config.database)
    try:
        async with engine.connect() as conn:
            found = [str(tuple(row)) for table in metadata.sorted_tables for row in await conn.execute(sa.select(table))]
            assert tokens_table.name in metadata.tables
            return "\n".join(found)
    finally:
        await engine.dispose()


async def test_no_planted_secret_shows_in_any_answer_log_or_dump(tmp_path: Path, at_once: None, capfd: pytest.CaptureFixture[str]) -> None:
    planted = {
        "configured token": "planted-configured-token",
        "evaluator key": "planted-evaluator-key",
        "mapped key": "planted-mapped-key",
        "sender key": "planted-sender-key",
        "wrong token": "planted-wrong-token",
        "webhook secret": "cGxhbnRlZC13ZWJob29rLXNlY3JldC0wMTIzNDU2Nzg5",
        "digest response": "planted-digest-response",
        "correlation token": "planted-correlation-token",
    }
    mapped = {"api_key": planted["mapped key"], "workspace_id": 11, "agent_id": "one"}
    configured = [
        {"name": "all", "token": planted["configured token"], "scopes": ["sidecar", "read", "operate"]},
        {"name": "one", "token": "token-of-agent-one", "scopes": ["sync"], "evaluator": mapped},
    ]
    async with evaluator(known=Evaluator(script=[401, 500, 422])) as receiver:
        own = {"base_url": receiver.base_url, "api_key": planted["evaluator key"], "workspace_id": 1, "agent_id": "a"}
        hooks = [
            {
                "url": f"{receiver.base_url}/hook",
                "secret": "whsec_" + planted["webhook secret"],
                "events": ["call.ended"],
                "allow_private": True,
            }
        ]
        config = settings(tmp_path, NOWHERE, tokens=configured, evaluator=own, webhooks=hooks)
        made = await tokens.create(config, "made", ["read", "operate"])
        planted["made token"] = made
        with structlog.testing.capture_logs() as logged:
            async with control(config) as client:
                seen = await _everything(client, planted)
    dump = await dumped(config)
    out, err = capfd.readouterr()
    places = {"answers": seen, "log": str(logged) + out + err, "configuration": repr(config), "dump": dump}
    for place, text in places.items():
        for what, secret in planted.items():
            if (place, what) in {("dump", "digest response"), ("dump", "correlation token")}:
                continue  # the trace itself: what a sidecar sent is kept whole, and shown without them
            assert secret not in text, (what, place)
    assert {line["event"] for line in logged} >= {"unknown token", "delivery refused"}
    assert len(seen) > 10_000


async def _everything(client: Client, planted: dict[str, str]) -> str:
    """All that the API says to a token that may see everything, in a control to which something of every kind has happened."""
    boss = bearer(planted["configured token"])
    trace = Trace("c1", "SCL_abc", token=planted["correlation token"])
    invite = "INVITE sip:a@b SIP/2.0\r\nX-Correlation-Id: {}\r\nCSeq: 1 INVITE\r\n\r\n".format(planted["correlation token"])
    trace.message(0, "A", "in", invite).answered().ended()
    batch = {"version": 1, "sidecar": "edge-1", "facts": [*trace.facts, *complete("c2", "SCL_def", token=None).facts]}
    seen = [json.dumps(await client.post("/v1/ingest/facts", batch, **boss))]
    for number, sender in enumerate(("token-of-agent-one", planted["evaluator key"], planted["evaluator key"])):
        headers = {"headers": {"Authorization": f"Bearer {sender}"}}
        seen.append(json.dumps(await client.report(report(f"r{number}", trace), **headers)))
    await client.report(report("r9"), status=401, **bearer(planted["sender key"]))
    await client.get("/v1/calls", status=401, **bearer(planted["wrong token"]))
    await client.get("/v1/calls?cursor=!", status=400, **boss)
    await until(lambda: _none_pending(client, boss))
    views = (
        "",
        "/messages",
        "/ladder",
        "/ladder?format=svg",
        "/ladder?format=mermaid",
        "/ladder?format=json",
        "/pcap",
        "/evidence",
        "/vcon",
    )
    paths = ["/v1/calls", "/v1/export", "/v1/summary", "/v1/deliveries", "/v1/sidecars", "/v1/audit", "/readyz", "/livez", "/metrics"]
    paths += [f"/v1/calls/c1{view}" for view in views]
    paths += ["/openapi.json", "/v1/calls/none", "/v1/calls?kind=x", "/v1/current-call?to=x"]
    for path in paths:
        async with client.http.get(client.url + path, **boss) as answer:
            seen.append(f"{answer.headers} {(await answer.read()).decode('utf-8', 'replace')}")
    async with client.http.get(client.url + "/v1/events", headers=boss["headers"] | {"Last-Event-ID": "1"}) as stream:
        seen.extend([(await stream.content.readuntil(b"\n\n")).decode() for _ in range(3)])
    return "\n".join(seen)


async def _none_pending(client: Client, boss: dict[str, dict[str, str]]) -> bool:
    listed = (await client.get("/v1/deliveries", **boss))["deliveries"]
    return all(delivery["state"] != "pending" or delivery["last_error"] is not None for delivery in listed)
