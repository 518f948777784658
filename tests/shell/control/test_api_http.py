"""What every answer has in common: names, problems, entity tags, compression; and the views of one call."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import signal
import zlib
from pathlib import Path

import aiohttp
import pytest
import structlog
from sqlalchemy.exc import OperationalError

from control.api import queries, summaries
from control.store import Store
from tests.bench.store_queries import fill
from tests.core.control.test_api_pure import Page, packets, unwrap
from tests.core.control.traces import TOKEN, Trace, complete
from tests.shell.control import kit
from tests.shell.control.kit import Client, control, settings

NOWHERE = "http://127.0.0.1:9"


async def raw(client: Client, text: bytes) -> tuple[int, dict[str, str], bytes]:
    """Bytes to the server, and its answer: status, headers in lower case, body."""
    host, port = client.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(text)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode()
        status, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return int(status.split()[1]), headers, body
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_request_is_named_by_its_client_or_by_us_in_answer_problem_and_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        async with client.http.get(client.url + "/v1/calls", headers={"X-Request-Id": "client-7:a.b_c"}) as answer:
            assert answer.headers["X-Request-Id"] == "client-7:a.b_c"
        for unusable in ("", "has a blank", "x" * 129, "semi;colon"):
            async with client.http.get(client.url + "/v1/calls/none", headers={"X-Request-Id": unusable}) as answer:
                made = answer.headers["X-Request-Id"]
                assert made != unusable
                assert (await answer.json(content_type=None))["request_id"] == made

        async def fails(*_: object) -> None:
            raise ZeroDivisionError("planted")

        monkeypatch.setattr(summaries, "summary", fails)
        with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logged:
            problem = await client.get("/v1/summary", status=500, headers={"X-Request-Id": "find-me"})
        assert (problem["title"], problem["status"], problem["request_id"]) == ("Internal Server Error", 500, "find-me")
        assert "planted" not in json.dumps(problem)
        [entry] = [line for line in logged if line["log_level"] == "error"]
        assert (entry["request_id"], entry["path"], entry["exc_info"]) == ("find-me", "/v1/summary", True)
        await client.get("/livez")


async def test_a_store_that_fails_is_a_503_that_says_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:

        async def fails(*_: object) -> None:
            raise OperationalError("SELECT planted", {}, OSError("disk gone"))

        monkeypatch.setattr(summaries, "summary", fails)
        async with client.http.get(client.url + "/v1/summary") as answer:
            assert (answer.status, answer.headers["Retry-After"], answer.content_type) == (503, "2", "application/problem+json")
            assert "planted" not in await answer.text()


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"BLAH\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer planted-secret\r\n\r\n", 400),
        (b"GET /v1/calls HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer planted-secret\x01\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404),
        (b"DELETE /v1/calls HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 405),
        (b"BREW /v1/calls HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"POST /v1/ingest/facts HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: miracles\r\nContent-Length: 2\r\n\r\n{}", 417),
        (b"POST /v1/ingest/facts HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"POST /v1/ingest/facts HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n[]", 422),
        (b"GET /v1/calls HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"POST /v1/deliveries/1/retry HTTP/1.1\r\nHost: 127.0.0.1:1\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n\r\n", 403),
    ],
)
async def test_every_failure_is_a_problem_that_says_what_to_do(
    tmp_path: Path, text: bytes, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        got, headers, body = await raw(client, text)
        assert (got, headers["content-type"].split(";")[0]) == (status, "application/problem+json")
        problem = json.loads(body)
        assert problem["status"] == status
        assert len(problem["detail"]) > 10
    out, err = capfd.readouterr()
    assert "planted-secret" not in body.decode() + out + err


async def test_a_405_names_the_methods_that_are_taken(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        _, headers, _ = await raw(client, b"DELETE /v1/calls HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert headers["allow"] == "GET,HEAD"


@pytest.mark.parametrize(
    "path", ["/v1/calls", "/v1/calls/c1", "/v1/calls/c1/ladder", "/v1/calls/c1/ladder?format=svg", "/v1/calls/c1/evidence"]
)
async def test_a_state_that_the_client_has_is_not_sent_again(tmp_path: Path, path: str) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        trace = complete("c1", "SCL_abc")
        await client.facts(*trace.facts[:-3])

        async def ask(tag: str) -> tuple[int, str, bytes]:
            async with client.http.get(client.url + path, headers={"If-None-Match": tag}) as answer:
                return answer.status, answer.headers["ETag"], await answer.read()

        status, tag, body = await ask('"other"')
        assert status == 200
        assert body
        for known in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
            assert await ask(known) == (304, tag, b"")
        await client.facts(*trace.facts[-3:])
        status, fresh, body = await ask(tag)
        assert (status, fresh != tag) == (200, True)


async def test_large_answers_are_compressed_for_those_who_take_it(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client, aiohttp.ClientSession(auto_decompress=False) as http:
        await client.facts(*complete("c1", "SCL_abc").facts, *complete("c2", "SCL_def", token=None).facts)
        plain = json.dumps(await client.get("/v1/calls"))
        for coding, wbits in (("gzip", 31), ("deflate", 15)):
            for path in ("/v1/calls", "/v1/export"):
                async with http.get(client.url + path, headers={"Accept-Encoding": coding}) as answer:
                    assert answer.headers["Content-Encoding"] == coding
                    assert answer.headers["Vary"] == "Accept-Encoding"
                    assert "SCL_def" in zlib.decompress(await answer.read(), wbits).decode()
        async with http.get(client.url + "/v1/calls", headers={"Accept-Encoding": "identity"}) as answer:
            assert "Content-Encoding" not in answer.headers
            assert json.dumps(json.loads(await answer.read())) == plain
        async with http.get(client.url + "/livez", headers={"Accept-Encoding": "gzip"}) as answer:
            assert "Content-Encoding" not in answer.headers


async def test_an_export_is_whole_over_many_pages_and_breaks_off_rather_than_end_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "_EXPORT_PAGE", 3)
    async with control(settings(tmp_path, NOWHERE)) as client:
        await client.facts(*(fact for n in range(10) for fact in complete(f"c{n}", f"id-{n}", token=None).facts))

        async def export() -> list[str]:
            async with client.http.get(client.url + "/v1/export") as answer:
                assert answer.content_type == "application/x-ndjson"
                return [json.loads(line)["id"] for line in (await answer.text()).splitlines()]

        assert sorted(await export()) == [f"c{n}" for n in range(10)]
        pages, ask = 0, queries._newest_first

        def fails_later(*asked: object) -> object:
            nonlocal pages
            pages += 1
            if pages > 2:
                raise OperationalError("SELECT", {}, OSError("disk gone"))
            return ask(*asked)  # type: ignore[arg-type]

        monkeypatch.setattr(queries, "_newest_first", fails_later)
        with pytest.raises(aiohttp.ClientPayloadError):
            await export()


async def test_the_views_of_a_call(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        invite = f"INVITE sip:a@b SIP/2.0\r\nX-Correlation-Id: {TOKEN}\r\nCSeq: 1 INVITE\r\n\r\n"
        trace = Trace("c1", "SCL_abc").message(0, "A", "in", invite).answered().ended()
        await client.facts(*trace.facts)
        async with client.http.get(client.url + "/v1/calls/c1/pcap") as answer:
            assert answer.content_type == "application/vnd.tcpdump.pcap"
            assert answer.headers["Content-Disposition"] == 'attachment; filename="c1.pcap"'
            [(_, packet)] = packets(await answer.read())
            assert unwrap(packet)[4].startswith("INVITE sip:a@b SIP/2.0\r\nX-Correlation-Id: sha256:")
        async with client.http.get(client.url + "/v1/calls/c1/evidence") as answer:
            assert answer.content_type == "text/html"
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
            page = Page(await answer.text())
            assert "SCL_abc" in page.words
            assert TOKEN not in page.words
        async with client.http.get(client.url + "/v1/calls/c1/ladder?format=svg") as answer:
            assert answer.content_type == "image/svg+xml"
            assert (await answer.text()).startswith("<svg ")
        assert (await client.get("/v1/calls/c1/ladder?format=mermaid")).startswith("sequenceDiagram\n")
        for view in ("pcap", "evidence", "ladder", "messages"):
            assert (await client.get(f"/v1/calls/none/{view}", status=404))["detail"].startswith("no call has this id")


async def test_what_no_database_can_hold_is_just_not_found(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        assert (await client.get("/v1/calls?route=%00&sidecar=%ff&sip_call_id=%F0%9F%98%80"))["calls"] == []
        await client.get("/v1/calls/%00", status=404)
        await client.get("/v1/current-call?to=%00", status=404)
        await client.post(f"/v1/deliveries/{'9' * 40}/retry", status=404)
        await client.get(f"/v1/deliveries?cursor={'9' * 40}", status=400)
        fact = Trace("c1", "SCL_abc").facts[0]
        for wrong in ({"seq": 2**40}, {"call": "x" * 65}, {"call": "\x00"}):
            assert "facts.0" in (await client.facts(fact | wrong, status=422))["detail"]


async def test_an_export_for_a_spreadsheet_has_a_line_a_call_and_runs_nothing(tmp_path: Path) -> None:
    async with control(settings(tmp_path, NOWHERE)) as client:
        evil = {"from": '=HYPERLINK("http://evil.example","x"),\r\nmore'}
        await client.facts(*complete("c1", "SCL_1", **evil).facts, *complete("c2", "-2+3", token=None).facts)
        async with client.http.get(client.url + "/v1/export?format=csv") as answer:
            assert answer.headers["Content-Type"].startswith("text/csv")
            shown = list(csv.DictReader(io.StringIO(await answer.text(), newline="")))
        assert {row["id"] for row in shown} == {"c1", "c2"}
        first = next(row for row in shown if row["id"] == "c1")
        assert (first["from"], first["turns"], first["outcome"], first["greeting_ms"]) == ("'" + evil["from"], "2", "pending", "300.0")
        assert next(row for row in shown if row["id"] == "c2")["sip_call_id"] == "'-2+3"
        async with client.http.get(client.url + "/v1/export?format=csv&route=none") as answer:
            assert (await answer.text()).startswith("id,sip_call_id,")  # the names alone
        await client.get("/v1/export?format=xlsx", status=400)


@pytest.mark.peer
async def test_an_export_needs_no_more_memory_however_long_it_is(tmp_path: Path) -> None:
    database = kit.ENGINE.file(tmp_path)
    store = Store(database["database"])
    await fill(store, 3000)  # fifteen times what a page holds
    await store.close()
    config = tmp_path / "control.yaml"
    config.write_text(json.dumps({"listen": "127.0.0.1:0", "retention": {"days": 0}, "wire_only": {"grace_s": 1e9}} | database))
    async with kit.process(config) as running:
        client = running.client

        async def export(query: str) -> int:
            size = 0
            async with client.http.get(f"{client.url}/v1/export{query}") as answer:
                async for piece in answer.content.iter_chunked(65536):
                    size += len(piece)
            return size

        for _ in range(4):  # what reading so much needs in any case: above all the page cache of each of the database's connections
            cursor = ""
            while cursor is not None:
                cursor = (await client.get(f"/v1/calls?limit=500{cursor and '&cursor='}{cursor}"))["next"]
        for form in ("ndjson", "csv"):
            await export(f"?format={form}&route=route-7")
        before = peak_kib(running.process.pid)
        sizes = [await export(""), await export("?format=csv")]
        assert sizes[0] > 6_000_000
        assert peak_kib(running.process.pid) - before < 16_000  # KiB: all calls at once would be six times that
        assert await running.end(signal.SIGTERM) == 0


def peak_kib(pid: int) -> int:
    """The most memory that a process ever held."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
