"""The reporter brings every fact to control, in order, whatever control does meanwhile."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from control.contract import VERSION
from sidecar.reporter import spool
from sidecar.reporter.pace import Pace
from sidecar.reporter.reporter import Reporter
from sidecar.reporter.spool import Spool
from tests.support.ingest import ingest
from tests.support.trace_lines import CALL_A, CALL_B, NOW, closed, line

QUICK = Pace(gather=0.01, timeout=2.0, first_retry=0.02, last_retry=0.1, refused_retry=0.1, disk_retry=0.05)


@asynccontextmanager
async def reporting(path: Path, url: str, *, token: str | None = None, pace: Pace = QUICK, run: bool = True) -> AsyncIterator[Reporter]:
    reporter = Reporter(Spool.open(path, now=NOW), url=url, token=token, sidecar="edge-1", pace=pace)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(reporter.run()) if run else None
        try:
            yield reporter
        finally:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
            await reporter.aclose()


async def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """For what leaves no event behind, such as a file that goes."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def traces(path: Path) -> list[str]:
    return sorted(file.stem for file in path.glob("*.jsonl"))


async def test_facts_arrive_while_the_call_lives_and_the_file_goes_after_its_end(tmp_path: Path) -> None:
    async with ingest() as control, reporting(tmp_path, control.url, token="s3cret") as reporter:
        reporter.append(CALL_A, [line(CALL_A, 1)])
        await control.until(lambda: (CALL_A, 1) in control.facts)
        assert traces(tmp_path) == [CALL_A]
        reporter.append(CALL_A, [line(CALL_A, 2), closed(CALL_A, 3)])
        reporter.close(CALL_A)
        await eventually(lambda: not traces(tmp_path))
    assert control.order == [(CALL_A, 1), (CALL_A, 2), (CALL_A, 3)]
    assert control.authorization == {"Bearer s3cret"}
    assert control.bodies[0] == {"version": VERSION, "sidecar": "edge-1"}


async def test_a_live_fact_waits_less_than_a_quarter_second(tmp_path: Path) -> None:
    async with ingest() as control, reporting(tmp_path, control.url, pace=Pace()) as reporter:
        reporter.append(CALL_A, [line(CALL_A, 1)])
        begun = asyncio.get_running_loop().time()
        await control.until(lambda: bool(control.facts))
    assert Pace().gather <= 0.25
    assert control.times[0] - begun < 2.0, "the first post waited for something else than its batch"


async def test_facts_of_many_calls_share_a_post(tmp_path: Path) -> None:
    calls = [f"{n:032x}" for n in range(50)]
    async with ingest() as control, reporting(tmp_path, control.url) as reporter:
        for call in calls:
            reporter.append(call, [line(call, 1), closed(call, 2)])
            reporter.close(call)
        await eventually(lambda: not traces(tmp_path))
    assert len(control.facts) == 100
    assert len(control.posts) <= 3


async def test_a_large_backlog_leaves_in_bounded_posts_in_order(tmp_path: Path) -> None:
    pace = Pace(gather=0.0, max_facts=40, max_bytes=10_000)
    async with ingest() as control, reporting(tmp_path, control.url, pace=pace) as reporter:
        reporter.append(CALL_A, [line(CALL_A, seq) for seq in range(1, 301)])
        reporter.append(CALL_B, [line(CALL_B, 1, detail="x" * 30_000), line(CALL_B, 2)])
        await control.until(lambda: len(control.facts) == 302)
    assert max(control.posts) <= 40
    assert [key for key in control.order if key[0] == CALL_A] == [(CALL_A, seq) for seq in range(1, 301)]


async def test_control_may_be_away_at_start_and_is_told_of_once(tmp_path: Path) -> None:
    async with ingest() as control:
        port = control.port
    with capture_logs() as logs:
        async with reporting(tmp_path, f"http://127.0.0.1:{port}") as reporter:
            reporter.append(CALL_A, [line(CALL_A, 1)])
            await asyncio.sleep(0.4)
            reporter.append(CALL_A, [closed(CALL_A, 2)])
            reporter.close(CALL_A)
            assert reporter.describe()["uploader"]["link"] == "away"
            assert reporter.describe()["uploader"]["failed_posts"] >= 3
            async with ingest(port, control):
                await eventually(lambda: not traces(tmp_path))
    assert control.order == [(CALL_A, 1), (CALL_A, 2)]
    assert [entry["event"] for entry in logs if entry["event"].startswith("control")] == ["control unreachable", "control takes facts"]


async def test_a_restart_brings_what_the_last_run_did_not(tmp_path: Path) -> None:
    async with reporting(tmp_path, "http://127.0.0.1:1", run=False) as reporter:
        reporter.append(CALL_A, [line(CALL_A, 1)])
        reporter.append(CALL_B, [line(CALL_B, 1), closed(CALL_B, 2)])
        reporter.close(CALL_B)
    async with ingest() as control, reporting(tmp_path, control.url):
        await eventually(lambda: not traces(tmp_path))
    assert control.facts[CALL_A, 2]["kind"] == "call_interrupted"
    assert control.facts[CALL_B, 2]["kind"] == "call_closed"


@pytest.mark.parametrize("status", [429, 503, 500, 408])
async def test_an_answer_that_asks_for_patience_is_retried(tmp_path: Path, status: int) -> None:
    answers = [web.Response(status=status), web.Response(status=status)]
    async with ingest() as control, reporting(tmp_path, control.url) as reporter:
        control.trouble = lambda _: answers.pop() if answers else None
        reporter.append(CALL_A, [line(CALL_A, 1)])
        await control.until(lambda: bool(control.facts))
    assert control.posts == [1, 1, 1]


async def test_retry_after_is_honoured(tmp_path: Path) -> None:
    answers = [web.Response(status=503, headers={"Retry-After": "1"})]
    async with ingest() as control, reporting(tmp_path, control.url) as reporter:
        control.trouble = lambda _: answers.pop() if answers else None
        reporter.append(CALL_A, [line(CALL_A, 1)])
        await control.until(lambda: bool(control.facts))
    assert control.times[1] - control.times[0] >= 0.99


@pytest.mark.parametrize("status", [401, 403, 404, 409])
async def test_a_control_that_refuses_us_keeps_nothing_and_loses_nothing(tmp_path: Path, status: int) -> None:
    with capture_logs() as logs:
        async with ingest() as control, reporting(tmp_path, control.url) as reporter:
            control.trouble = lambda _: web.Response(status=status, text="no")
            reporter.append(CALL_A, [line(CALL_A, 1)])
            await control.until(lambda: len(control.posts) >= 3)
            assert reporter.describe()["uploader"]["link"] == "refused"
            control.trouble = None
            await control.until(lambda: bool(control.facts))
    refusals = [entry for entry in logs if entry["event"] == "control refuses facts"]
    assert len(refusals) == 1
    assert f"HTTP {status}" in refusals[0]["detail"]
    assert ("control.token" in refusals[0]["detail"]) is (status in (401, 403))


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_one_unfit_fact_is_set_aside_with_the_answer_and_holds_up_nothing(tmp_path: Path, status: int) -> None:
    def choke(body: dict[str, Any]) -> web.Response | None:
        unfit = any(fact["seq"] == 7 and fact["call"] == CALL_A for fact in body["facts"])
        return web.Response(status=status, text="fact 7 is not acceptable") if unfit else None

    async with ingest() as control, reporting(tmp_path, control.url) as reporter:
        control.trouble = choke
        reporter.append(CALL_A, [line(CALL_A, seq) for seq in range(1, 20)] + [closed(CALL_A, 20)])
        reporter.append(CALL_B, [line(CALL_B, 1), closed(CALL_B, 2)])
        reporter.close(CALL_A)
        reporter.close(CALL_B)
        await eventually(lambda: not traces(tmp_path))
    assert [seq for call, seq in control.order if call == CALL_A] == [*range(1, 7), *range(8, 21)]
    assert (CALL_B, 2) in control.facts
    assert (tmp_path / "rejected" / f"{CALL_A}-7.json").read_bytes() == line(CALL_A, 7)
    assert (tmp_path / "rejected" / f"{CALL_A}-7.answer").read_text() == "fact 7 is not acceptable"


async def test_a_control_that_finds_every_batch_unfit_makes_us_wait_not_discard(tmp_path: Path) -> None:
    """For example a control of another version: the fault is in the envelope, not in any fact."""
    async with ingest() as control, reporting(tmp_path, control.url) as reporter:
        control.trouble = lambda _: web.json_response({"detail": "version 1 is not known here"}, status=422)
        reporter.append(CALL_A, [line(CALL_A, 1), line(CALL_A, 2)])
        await control.until(lambda: control.posts.count(0) >= 2)
        assert reporter.describe()["uploader"]["link"] == "refused"
        assert not (tmp_path / "rejected").exists()
        control.trouble = None
        await control.until(lambda: len(control.facts) == 2)


async def test_a_success_without_a_receipt_acknowledges_nothing(tmp_path: Path) -> None:
    async with ingest() as control, reporting(tmp_path, control.url) as reporter:
        control.trouble = lambda _: web.Response(text="<html>It works!</html>", content_type="text/html")
        reporter.append(CALL_A, [closed(CALL_A, 1)])
        reporter.close(CALL_A)
        await control.until(lambda: len(control.posts) >= 2)
        assert traces(tmp_path) == [CALL_A]
        control.trouble = None
        await eventually(lambda: not traces(tmp_path))


async def test_an_answer_that_never_comes_is_given_up_and_tried_again(tmp_path: Path) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    pace = Pace(gather=0.0, timeout=0.2, first_retry=0.02)
    async with reporting(tmp_path, f"http://127.0.0.1:{port}", pace=pace) as reporter:
        reporter.append(CALL_A, [line(CALL_A, 1)])
        await eventually(lambda: reporter.describe()["uploader"]["failed_posts"] >= 1)
        assert "no answer within" in reporter.describe()["uploader"]["trouble"]
        silent.close()
        await silent.wait_closed()
        async with ingest(port) as control:
            await control.until(lambda: bool(control.facts))


async def test_a_trace_that_was_removed_by_hand_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async with ingest() as control:
        async with reporting(tmp_path, control.url, run=False) as earlier:
            for call in (CALL_A, CALL_B):
                earlier.append(call, [closed(call, 1)])
                earlier.close(call)
        async with reporting(tmp_path, control.url, run=False) as reporter:
            (tmp_path / f"{CALL_A}.jsonl").unlink()
            assert await reporter.flush(3.0) == 0
            assert list(control.facts) == [(CALL_B, 1)]
            assert CALL_A in str(reporter.spool.problem())


async def test_what_this_run_wrote_is_told_without_the_disk(tmp_path: Path) -> None:
    async with ingest() as control, reporting(tmp_path, control.url, run=False) as reporter:
        reporter.append(CALL_A, [line(CALL_A, 1), line(CALL_A, 2)])
        (tmp_path / f"{CALL_A}.jsonl").write_bytes(b"")
        assert await reporter.flush(3.0) == 0
        assert list(control.facts) == [(CALL_A, 1), (CALL_A, 2)]


async def test_what_is_too_much_for_memory_is_read_back_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_MAX_RECENT", 300)
    async with ingest() as control, reporting(tmp_path, control.url, run=False) as reporter:
        for number in range(1, 30):
            for call in (CALL_A, CALL_B):
                reporter.append(call, [line(call, number)])
        assert await reporter.flush(5.0) == 0
        for call in (CALL_A, CALL_B):
            assert [seq for found, seq in control.facts if found == call] == list(range(1, 30))


async def test_flush_ends_with_everything_at_control(tmp_path: Path) -> None:
    async with ingest() as control, reporting(tmp_path, control.url, run=False) as reporter:
        for n in range(30):
            call = f"{n:032x}"
            reporter.append(call, [closed(call, 1)])
            reporter.close(call)
        assert await reporter.flush(5.0) == 0
        assert traces(tmp_path) == []
    assert len(control.facts) == 30


async def test_flush_ends_at_its_deadline_and_says_what_stays(tmp_path: Path) -> None:
    async with ingest() as control:
        url = control.url
    async with reporting(tmp_path, url, run=False) as reporter:
        reporter.append(CALL_A, [closed(CALL_A, 1)])
        reporter.close(CALL_A)
        begun = asyncio.get_running_loop().time()
        assert await reporter.flush(0.3) == 1
        assert asyncio.get_running_loop().time() - begun < 1.5
    assert traces(tmp_path) == [CALL_A]


async def _closed_trace(reporter: Reporter) -> None:
    reporter.append(CALL_A, [closed(CALL_A, 1)])
    reporter.close(CALL_A)


async def test_a_closed_trace_is_synced_with_its_directory_off_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    real = os.fsync

    def slow_fsync(fd: int) -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        real(fd)
        synced.append(stat.S_ISDIR(os.fstat(fd).st_mode))

    monkeypatch.setattr(os, "fsync", slow_fsync)
    async with ingest() as control:
        url = control.url
    async with reporting(tmp_path, url) as reporter:
        await _closed_trace(reporter)
        await eventually(lambda: len(synced) >= 2)
    assert synced[:2] == [False, True], "the file, then its directory"


async def test_what_was_closed_in_the_last_moment_is_synced_on_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    ways_out: list[Callable[[Reporter], Awaitable[object]]] = [lambda reporter: reporter.flush(0.1), lambda reporter: reporter.aclose()]
    for n, way_out in enumerate(ways_out):
        async with reporting(tmp_path / str(n), "http://127.0.0.1:1", run=False) as reporter:
            await _closed_trace(reporter)
            synced.clear()
            await way_out(reporter)
            assert len(synced) == 2
