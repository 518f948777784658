"""What is kept of calls on disk: whole or unfinished, in its form, and never more than there is room for."""

from __future__ import annotations

import hashlib
import os
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from structlog.testing import capture_logs

from control.contract import capture as pcap
from control.contract.call import RecordingFormat
from sidecar.analysis.recordings import Recordings
from sidecar.analysis.work import Captured
from sidecar.clocks import Mono
from sidecar.media.wire import Flow

SECOND = bytes(32_000)
CALLER, AGENT = ("10.0.0.1", 4000), ("10.0.0.2", 5000)
FLOW = Flow("A", CALLER, ("10.0.0.9", 30_000), ("10.0.0.9", 30_002), AGENT)


def seconds(path: Path) -> float:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        return file.getnframes() / 8000


def decoded(path: Path) -> np.ndarray:
    """Both channels at 48 kHz, as a player hears them."""
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def abandon(kept: Recordings) -> None:
    """As a process that is killed leaves its files."""
    for growing in kept._folder._open.values():
        growing.file.flush()
        growing.file.close()


@pytest.mark.parametrize("form", ["wav", "ogg"])
def test_a_recording_grows_under_another_name_and_is_sealed(tmp_path: Path, form: RecordingFormat) -> None:
    kept = Recordings(tmp_path / "made", 10_000_000)
    for _ in range(3):
        kept.append("c1", form, SECOND)
    assert names(tmp_path / "made") == [f"c1.{form}.part"]
    told = kept.finish("c1", form)
    whole = tmp_path / "made" / f"c1.{form}"
    assert told is not None
    assert (told.format, told.seconds, told.bytes, told.cut) == (form, 3.0, whole.stat().st_size, False)
    assert told.sha256 == hashlib.sha256(whole.read_bytes()).hexdigest()
    assert (seconds(whole) if form == "wav" else decoded(whole).shape[1] / 48_000) == 3.0
    assert kept.finish("c1", form) is None


def test_opus_takes_a_tenth_and_keeps_the_parties_apart(tmp_path: Path) -> None:
    """Each says something while the other is silent: nothing of it is in the other's channel."""
    kept, rng = Recordings(tmp_path, 10_000_000), np.random.default_rng(1)
    frames = np.zeros((160_000, 2), "<i2")
    frames[:80_000, 0] = rng.normal(0, 3000, 80_000)
    frames[80_000:, 1] = rng.normal(0, 3000, 80_000)
    for start in range(0, 160_000, 12_345):
        kept.append("c1", "ogg", frames[start : start + 12_345].tobytes())
    told = kept.finish("c1", "ogg")
    assert told is not None
    assert told.bytes < frames.nbytes / 4  # white noise is the worst there is
    left, right = np.abs(decoded(tmp_path / "c1.ogg"))
    assert left[:470_000].mean() > 0.02 > 1e-4 > right[:470_000].max()
    assert right[490_000:].mean() > 0.02 > 1e-4 > left[490_000:].max()


def test_what_a_dead_process_left_is_finished(tmp_path: Path) -> None:
    kept = Recordings(tmp_path, 10_000_000)
    kept.append("c1", "wav", SECOND * 2)
    noise = np.random.default_rng(2).normal(0, 3000, (80_000, 2)).astype("<i2").tobytes()
    kept.append("c2", "ogg", noise)
    kept.capture("c3", Captured([(FLOW, b"\x80packet", Mono(5.0))], 1e9))
    abandon(kept)
    with (tmp_path / "c3.pcap.part").open("ab") as file:
        file.write(pcap.record(1, b"half a packet")[:-4])
    Recordings(tmp_path, 10_000_000)
    assert names(tmp_path) == ["c1.wav", "c2.ogg", "c3.pcap"]
    assert seconds(tmp_path / "c1.wav") == 2.0
    assert decoded(tmp_path / "c2.ogg").shape[1] / 48_000 > 7.0  # a second or two were in pages that were not written yet
    with (tmp_path / "c3.pcap").open("rb") as file:
        assert len(list(pcap.records(file))) == 2


def test_what_cannot_be_finished_keeps_no_new_call_from_being_recorded(tmp_path: Path) -> None:
    (tmp_path / "c1.wav.part").mkdir()  # as little a file as one on a disk that fails
    with capture_logs() as lines:
        kept = Recordings(tmp_path, 1_000_000)
    assert [(said["event"], said["file"]) for said in lines] == [("recording left unfinished", "c1.wav.part")]
    kept.append("c2", "wav", SECOND)
    assert kept.finish("c2", "wav") is not None


def test_the_oldest_goes_for_a_new_one(tmp_path: Path) -> None:
    kept = Recordings(tmp_path, 100_000)
    for age, call in ((30, "c1"), (20, "c2")):
        kept.append(call, "wav", SECOND)
        kept.finish(call, "wav")
        os.utime(tmp_path / f"{call}.wav", (1e9 - age,) * 2)
    kept.append("c3", "wav", SECOND * 2)
    assert names(tmp_path) == ["c2.wav", "c3.wav.part"]
    kept.finish("c3", "wav")


def test_a_recording_that_finds_no_room_is_cut_and_says_so(tmp_path: Path) -> None:
    kept = Recordings(tmp_path, 80_000)
    kept.append("c1", "wav", SECOND * 2)
    kept.append("c1", "wav", SECOND * 2)
    kept.append("c1", "wav", SECOND)
    told = kept.finish("c1", "wav")
    assert told is not None
    assert (told.seconds, told.cut) == (2.0, True)
    assert seconds(tmp_path / "c1.wav") == 2.0


def test_captures_and_recordings_share_the_room(tmp_path: Path) -> None:
    kept = Recordings(tmp_path, 100_000)
    packets = [(FLOW, bytes([0x80, *bytes(171)]), Mono(i / 50)) for i in range(150)]
    kept.capture("c1", Captured(packets, 1e9, frozenset("B"), 3))
    told = kept.captured("c1")
    assert told is not None
    assert (told.packets, told.cut, told.dropped, told.decrypted) == (150, False, 3, ["agent"])
    assert told.bytes == (tmp_path / "c1.pcap").stat().st_size == 24 + 150 * 2 * (16 + 20 + 8 + 172)
    kept.append("c2", "wav", SECOND * 2)
    assert names(tmp_path) == ["c2.wav.part"]
    kept.capture("c3", Captured(packets * 2, 1e9))
    cut = kept.captured("c3")
    assert cut is not None
    assert (cut.packets, cut.cut) == (0, True)
    kept.finish("c2", "wav")


def test_a_disk_that_fails_costs_the_recording_alone(tmp_path: Path) -> None:
    kept = Recordings(tmp_path / "made", 1_000_000)
    (tmp_path / "made").write_bytes(b"in the way of the folder")
    kept.append("c1", "wav", SECOND)
    (tmp_path / "made").unlink()
    kept.append("c1", "wav", SECOND)  # what is heard now would be taken for the call's first second
    assert kept.finish("c1", "wav") is None
    assert not (tmp_path / "made").exists()
    kept.append("c2", "wav", SECOND)
    assert kept.finish("c2", "wav") is not None


def test_a_full_disk_ends_an_encoded_recording_and_nothing_else(tmp_path: Path) -> None:
    """The encoder's own errors are the disk's."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    kept = Recordings(tmp_path, 10_000_000)
    (tmp_path / "c1.ogg.part").symlink_to(full)
    noise = np.random.default_rng(2).normal(0, 3000, (80_000, 2)).astype("<i2").tobytes()
    for _ in range(3):
        kept.append("c1", "ogg", noise)
    assert kept.finish("c1", "ogg") is None
