"""`trunkside calls` as a process of its own, against a running control."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from control.contract.call import Call
from tests.core.control.traces import Trace, complete, report
from tests.shell.control.kit import Client, control, evaluator, settings, until

ENGINES = ("sqlite",)  # the API is tested on both; here it is only asked
INVITE = "INVITE sip:agent@edge SIP/2.0\r\nCSeq: 1 INVITE\r\nX-Correlation-Id: corr-7\r\n\r\nv=0\r\nm=audio 4000 RTP/AVP 0\r\n"
BUSY = "SIP/2.0 486 Busy Here\r\nCSeq: 1 INVITE\r\n\r\n"


@dataclass
class Ran:
    """What a command left behind."""

    status: int
    out: str
    err: str


async def start(url: str, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
    known = {name: value for name, value in os.environ.items() if not name.startswith("TRUNKSIDE_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sidecar.cli",
        "calls",
        *arguments,
        env={**known, "TRUNKSIDE_CONTROL__URL": url, "PYTHONUNBUFFERED": "1", "TZ": "UTC", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(url: str, *arguments: str, **environment: str) -> Ran:
    process = await start(url, *arguments, **environment)
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def known(folder: Path, **changes: object) -> AsyncIterator[Client]:
    """A control that knows two calls: c1, linked and answered, and c2, newer, refused with 486."""
    async with evaluator() as evaluates, control(settings(folder, evaluates.base_url, **changes)) as client:
        first = Trace("c1", "SCL_one").message(0, "A", "in", INVITE).message(1, "A", "in", INVITE, retransmission=True).answered().ended()
        await client.facts(*first.facts)
        await client.report(report("p1", sip_call_id="SCL_one"))
        await until(lambda: evaluates.calls() == ["p1"])

        async def accepted() -> bool:
            return (await client.get("/v1/calls/c1"))["verdict"]["outcome"] == "linked"

        await until(accepted)
        busy = Trace("c2-busy", "SCL_two", started=first.started.replace(year=first.started.year + 1))
        await client.facts(*busy.message(0, "A", "in", INVITE).message(3, "A", "out", BUSY).ended(5, 486).facts)
        yield client


async def test_list_shows_the_newest_first_and_filters(tmp_path: Path) -> None:
    async with known(tmp_path) as client:
        every, busy, none = (
            await run(client.url, "list"),
            await run(client.url, "list", "--status", "486", "--json"),
            await run(client.url, "list", "--route", "elsewhere"),
        )
        assert every.status == 0
        lines = every.out.splitlines()
        assert [line.split()[0] for line in lines[1:]] == ["c2-busy", "c1"]
        assert lines[2].rstrip().endswith("✔ linked")
        assert "\x1b" not in every.out  # nobody looks: no colour
        assert [Call.model_validate_json(line).id for line in busy.out.splitlines()] == ["c2-busy"]
        assert none.out.strip() == "no call fits"


async def test_show_tells_the_whole_call_by_id_call_id_prefix_or_as_the_last(tmp_path: Path) -> None:
    async with known(tmp_path) as client:
        shown = [await run(client.url, "show", name) for name in ("c1", "SCL_one")]
        assert shown[0] == shown[1]
        text = shown[0].out
        assert "✔ linked  c1  simulation, inbound" in text
        assert "│ INVITE [sdp] (x2) ─" in text
        assert "✔ accepted" in text
        assert ["1", "1.00", "–", "2.00", "2.60", "600", "±20"] in [line.split()[:7] for line in text.splitlines()]
        prefix, last = await run(client.url, "show", "c2-"), await run(client.url, "show", "last", "--messages")
        assert "486 Busy Here" in prefix.out
        assert last.out.startswith(prefix.out)
        assert "corr-7" not in last.out  # tokens are hashed
        assert "X-Correlation-Id: sha256:" in last.out
        as_json = json.loads((await run(client.url, "show", "c1", "--json")).out)
        assert as_json == await client.get("/v1/calls/c1")


async def test_a_terminal_without_unicode_gets_plain_signs_and_no_traceback(tmp_path: Path) -> None:
    async with known(tmp_path) as client:
        ran = await run(client.url, "show", "c1", PYTHONIOENCODING="ascii")
        assert (ran.status, ran.err) == (0, "")
        assert ran.out.isascii()
        assert ran.out.startswith("+ linked  c1  ")
        assert "| INVITE [sdp] (x2) -" in ran.out
        assert "600 +-20" in ran.out


async def test_an_unknown_or_ambiguous_call_is_one_line(tmp_path: Path) -> None:
    async with known(tmp_path) as client:
        nothing, several = await run(client.url, "show", "zz"), await run(client.url, "show", "c")
        assert (nothing.status, nothing.out) == (2, "")
        assert (
            nothing.err == "trunkside: no call has the id or Call-ID zz, and none of the last 500 begins so: see `trunkside calls list`\n"
        )
        assert several.err == "trunkside: 2 calls begin with c: give more of the id\n"


ERRORS = [
    (["--control", "http://127.0.0.1:1", "list"], "control at http://127.0.0.1:1 cannot be reached: Connection refused; "),
    (["list", "--control", "ftp://x"], "--control ftp://x: is no URL of the form http://127.0.0.1:8080"),
    (["list", "--token-file", "/nowhere"], "--token-file /nowhere: cannot be read: No such file or directory"),
    (["list", "--since", "soon"], "--since soon: give a span such as 30m, 1h or 2d, or a time such as 2026-01-31T12:00:00Z"),
    (["export", "-f", "pcap"], "--format pcap makes a file for each call: give --to FOLDER"),
    (["export", "--to", "/proc/none/x"], "/proc/none/x: cannot be written: "),
]


async def test_each_error_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    async with known(tmp_path) as client:
        for arguments, told in ERRORS:
            ran = await run(client.url, *arguments)
            assert (ran.status, ran.out) == (2, "")
            assert ran.err.startswith(f"trunkside: {told}")
            assert len(ran.err.splitlines()) == 1


async def test_a_token_opens_what_is_closed_and_is_asked_for(tmp_path: Path) -> None:
    token = "t" * 40
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    tokens = [{"name": "reader", "token": token, "scopes": ["read"]}]
    async with control(settings(tmp_path, "http://127.0.0.1:9", tokens=tokens)) as client:
        without = await run(client.url, "list")
        assert without.status == 2
        assert without.err.startswith("trunkside: control wants a token of scope read: give --token-file FILE (")
        for ran in (
            await run(client.url, "list", "--token-file", str(file)),
            await run(client.url, "list", TRUNKSIDE_CONTROL__TOKEN=token),
            await run(client.url, "list", TRUNKSIDE_CONTROL__TOKEN_FILE=str(file)),
        ):
            assert (ran.status, ran.out) == (0, "no call fits\n")


async def test_tail_tells_changes_goes_on_after_control_was_away_and_tells_nothing_twice(tmp_path: Path) -> None:
    config = settings(tmp_path, "http://127.0.0.1:9")
    async with control(config) as client:
        port = int(client.url.rpartition(":")[2])
        process = await start(client.url, "tail", "--json", "--count", "3")
        assert process.stdout is not None
        assert process.stderr is not None

        async def watched() -> bool:
            return (await client.get("/readyz"))["events"]["watchers"] == 1

        await until(watched)
        await client.facts(*Trace("c1", "SCL_one").facts)
        first = json.loads(await process.stdout.readline())
    warned = (await process.stderr.readline()).decode()
    assert warned.startswith("trunkside: control ended the stream; trying again in ")
    async with control(config.model_copy(update={"listen": f"127.0.0.1:{port}"})) as client:
        # This one comes while nobody listens, or just after: the stream is resumed behind the last event either way.
        second = complete("c2", "SCL_two").facts
        await client.facts(second[0])
        resumed = json.loads(await process.stdout.readline())
        await client.facts(*second[1:])
        async with asyncio.timeout(30):
            last = json.loads(await process.stdout.readline())
            assert await process.wait() == 0
    assert [(each["id"], each["ended"], each["turns"]) for each in (first, resumed, last)] == [
        ("c1", False, 0),
        ("c2", False, 0),
        ("c2", True, 2),
    ]


async def test_tail_of_one_call_ends_with_it(tmp_path: Path) -> None:
    async with known(tmp_path) as client:
        ran = await run(client.url, "tail", "--call", "c1")
        assert ran.status == 0
        assert "ended 200" in ran.out
        assert "✔ linked" in ran.out


async def test_export_writes_rows_for_programs_and_spreadsheets(tmp_path: Path) -> None:
    async with known(tmp_path) as client:
        whole = {call: await client.get(f"/v1/calls/{call}") for call in ("c2-busy", "c1")}
        lines = [json.loads(line) for line in (await run(client.url, "export")).out.splitlines()]
        assert lines == [whole["c2-busy"], whole["c1"]]
        assert json.loads((await run(client.url, "export", "c1", "--format", "json")).out) == [whole["c1"]]
        assert json.loads((await run(client.url, "export", "-f", "json", "--route", "none")).out) == []
        table = tmp_path / "new" / "calls.csv"
        ran = await run(client.url, "export", "-f", "csv", "--to", str(table))
        assert ran.err.startswith("2 calls, ")
        rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
        assert [(row["id"], row["outcome"], row["status"], row["turns"], row["greeting_ms"]) for row in rows] == [
            ("c2-busy", whole["c2-busy"]["verdict"]["outcome"], "486", "0", ""),
            ("c1", "linked", "200", "2", "300.0"),
        ]
        assert sorted(os.listdir(table.parent)) == ["calls.csv"]


async def test_export_writes_a_file_for_each_call_as_control_gives_it(tmp_path: Path) -> None:
    views = {"pcap": ("pcap", ".pcap"), "evidence": ("evidence", ".html"), "svg": ("ladder?format=svg", ".svg"),
             "mermaid": ("ladder?format=mermaid", ".mmd"), "ladder": ("ladder", ".txt")}  # fmt: skip
    async with known(tmp_path) as client:
        for form, (view, ending) in views.items():
            folder = tmp_path / form
            assert (await run(client.url, "export", "-f", form, "--to", str(folder))).status == 0
            for call in ("c1", "c2-busy"):
                async with client.http.get(f"{client.url}/v1/calls/{call}/{view}") as answer:
                    assert (folder / f"{call}{ending}").read_bytes() == await answer.read()
        one = tmp_path / "the call.html"
        await run(client.url, "export", "last", "-f", "evidence", "-o", str(one))
        assert one.read_bytes() == (tmp_path / "evidence" / "c2-busy.html").read_bytes()


async def test_assert_ends_with_what_it_found(tmp_path: Path) -> None:
    async with known(tmp_path) as client:
        kept = await run(client.url, "assert", "--max-response", "900", "--max-failed", "1", "--all-linked", "--min-calls", "2")
        assert (kept.status, kept.err) == (0, "")
        assert kept.out.splitlines() == [
            "✔ calls: 2 calls", "✔ max response: 900 ms (n 2)", "✔ failed calls: 1", "✔ linked: 1 of 1 simulations",
        ]  # fmt: skip
        file = tmp_path / "junit.xml"
        broken = await run(client.url, "assert", "--p90-response", "800", "--max-failed", "0", "--junit", str(file))
        assert broken.status == 1
        assert [line for line in broken.out.splitlines() if line.startswith("✗")] == [
            "✗ p90 response 900 ms (n 2) is over 800 ms",
            "✗ call c2-busy: not answered: the caller hung up",
        ]
        suites = ET.parse(file).getroot()
        assert (suites.get("tests"), suites.get("failures")) == ("3", "2")
        nothing = await run(client.url, "assert", "--since", "1s", "--until", "2025-01-01", "--json")
        assert nothing.status == 1
        assert json.loads(nothing.out)["checks"][0]["breaches"] == ["0 calls, at least 1 expected"]
        away = await run("http://127.0.0.1:1", "assert", "--all-linked")
        assert away.status == 2


async def test_assert_waits_for_reports_that_are_still_to_come(tmp_path: Path) -> None:
    async with evaluator() as evaluates, control(settings(tmp_path, evaluates.base_url)) as client:
        await client.facts(*complete("c1", "SCL_one").facts)
        early = await run(client.url, "assert", "--all-linked")
        assert (early.status, early.out.splitlines()[-1]) == (
            1,
            "✗ call c1: pending: its report has not come yet; give --wait SECONDS",
        )
        waiting = await start(client.url, "assert", "--all-linked", "--wait", "25")
        await client.report(report("p1", sip_call_id="SCL_one"))
        async with asyncio.timeout(25):
            out, _ = await waiting.communicate()
        assert (waiting.returncode, out.decode().splitlines()[-1]) == (0, "✔ linked: 1 of 1 simulations")
