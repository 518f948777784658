"""Recordings as sidecars bring them and people fetch them."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import time
from pathlib import Path

import pytest

from control.clock import now_us
from control.contract import capture
from control.store.recordings import Recordings
from sidecar.analysis.wav import header
from tests.core.control.traces import Trace, complete
from tests.shell.control.kit import ON_SQLITE, control, settings

pytestmark = ON_SQLITE
WAV = header(400_000) + bytes(range(250)) * 1600


def folder(tmp_path: Path) -> dict[str, object]:
    return {"recordings": {"path": tmp_path / "kept", "max_mb_each": 1}}


async def test_a_recording_comes_back_whole_and_in_parts(tmp_path: Path) -> None:
    async with control(settings(tmp_path, "http://127.0.0.1:1", **folder(tmp_path))) as client:
        await client.facts(*complete("c1", "SCL_abc").facts)
        missing = await client.get("/v1/calls/c1/recording", status=404)
        assert "no recording of this call" in str(missing)
        assert await client.post("/v1/ingest/recordings/c1", WAV) == {"bytes": len(WAV)}
        async with client.http.get(f"{client.url}/v1/calls/c1/recording") as answer:
            assert (answer.status, answer.content_type) == (200, "audio/wav")
            assert await answer.read() == WAV
            tag = answer.headers["ETag"]
        async with client.http.get(f"{client.url}/v1/calls/c1/recording", headers={"Range": "bytes=44-1043"}) as answer:
            assert (answer.status, answer.headers["Content-Range"]) == (206, f"bytes 44-1043/{len(WAV)}")
            assert await answer.read() == WAV[44:1044]
        async with client.http.get(f"{client.url}/v1/calls/c1/recording", headers={"Range": "bytes=9999999-"}) as answer:
            assert answer.status == 416
        async with client.http.get(f"{client.url}/v1/calls/c1/recording", headers={"If-None-Match": tag}) as answer:
            assert answer.status == 304


async def test_what_is_too_large_or_has_no_proper_name_leaves_nothing(tmp_path: Path) -> None:
    async with control(settings(tmp_path, "http://127.0.0.1:1", **folder(tmp_path))) as client:
        await client.post("/v1/ingest/recordings/c1", bytes(1_000_001), status=413)
        await client.post("/v1/ingest/recordings/..%2F..%2Fetc", b"x", status=400)
        await client.get("/v1/calls/unknown/recording", status=404)
    assert list((tmp_path / "kept").glob("*")) == []


async def test_only_a_sidecar_brings_and_only_a_reader_fetches(tmp_path: Path) -> None:
    tokens = [{"name": name, "token": f"{name}-secret-token", "scopes": [name]} for name in ("sidecar", "read")]
    async with control(settings(tmp_path, "http://127.0.0.1:1", tokens=tokens, **folder(tmp_path))) as client:
        reader, bringer = ({"Authorization": f"Bearer {name}-secret-token"} for name in ("read", "sidecar"))
        await client.post("/v1/ingest/recordings/c1", WAV, status=401)
        await client.post("/v1/ingest/recordings/c1", WAV, status=403, headers=reader)
        await client.post("/v1/ingest/recordings/c1", WAV, headers=bringer)
        await client.get("/v1/calls/c1/recording", status=403, headers=bringer)


@pytest.mark.parametrize("age_days", [6.9, 7.1])
def test_old_recordings_and_broken_off_uploads_go(tmp_path: Path, age_days: float) -> None:
    kept = Recordings(tmp_path, 10_000)
    day = 86_400
    for name, age in (("old.wav", age_days * day), ("new.wav", 0.0), ("a.0.part", 2 * 3600.0), ("b.0.part", 60.0)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    dropped = kept.drop_old(now_us() - 7 * day * 1_000_000, now_us())
    assert dropped == (age_days > 7)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"new.wav", "b.0.part"} | ({"old.wav"} if age_days < 7 else set())


async def test_a_vcon_has_the_recording_inside_or_by_reference(tmp_path: Path) -> None:
    async with control(settings(tmp_path, "http://127.0.0.1:1", **folder(tmp_path))) as client:
        await client.facts(*complete("c1", "SCL_abc").facts)
        assert len((await client.get("/v1/calls/c1/vcon"))["dialog"]) == 1
        await client.post("/v1/ingest/recordings/c1", WAV)
        inside = (await client.get("/v1/calls/c1/vcon"))["dialog"][1]
        assert base64.urlsafe_b64decode(inside["body"] + "==") == WAV
        outside = (await client.get("/v1/calls/c1/vcon?recording=reference"))["dialog"][1]
        async with client.http.get(outside["url"]) as answer:
            assert hashlib.sha512(await answer.read()).digest() == base64.urlsafe_b64decode(outside["content_hash"][7:] + "==")
        assert len((await client.get("/v1/calls/c1/vcon?recording=none"))["dialog"]) == 1


async def test_an_opus_recording_and_a_capture_come_as_what_they_are(tmp_path: Path) -> None:
    """One recording a call, whatever its form; the packets stand with the messages, in order of time."""
    trace = (
        Trace("c1", "SCL_abc")
        .message(0, "A", "in", "INVITE sip:a@b SIP/2.0\r\n\r\n")
        .answered()
        .message(900, "A", "out", "BYE\r\n")
        .ended()
    )
    zero = int(trace.started.timestamp() * 1e9)
    way = capture.Way(capture.end("10.0.0.1:4000"), capture.end("10.0.0.9:30000"))
    order = (600, 200, 400, 1000)  # packets of two sockets are not always read in order
    packets = b"".join(capture.record(zero + ms * 1_000_000, way.datagram(b"\x80%d" % ms)) for ms in order)
    async with control(settings(tmp_path, "http://127.0.0.1:1", **folder(tmp_path))) as client:
        await client.facts(*trace.facts)
        await client.post("/v1/ingest/recordings/c1", WAV)
        await client.post("/v1/ingest/recordings/c1", b"OggS", headers={"Content-Type": "audio/ogg"})
        async with client.http.get(f"{client.url}/v1/calls/c1/recording") as answer:
            assert (answer.content_type, await answer.read()) == ("audio/ogg", b"OggS")
            assert answer.headers["Content-Disposition"] == 'attachment; filename="c1.ogg"'
        await client.post("/v1/ingest/captures/c1", capture.HEADER + packets + b"half")
        async with client.http.get(f"{client.url}/v1/calls/c1/pcap") as answer:
            whole = io.BytesIO(await answer.read())
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["c1.ogg", "c1.pcap"]
    told = list(capture.records(whole))
    assert [round((at - zero) / 1e6) for at, _ in told] == [0, 200, 400, 600, 900, 1000]
    assert [packet[28:30] for _, packet in told] == [b"IN", b"\x802", b"\x804", b"\x806", b"BY", b"\x801"]
