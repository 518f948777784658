"""Recordings on disk: whole or unfinished, and never more than there is room for."""

from __future__ import annotations

import hashlib
import os
import wave
from pathlib import Path

from sidecar.analysis.wav import WavFolder

SECOND = bytes(32_000)


def seconds(path: Path) -> float:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        return file.getnframes() / 8000


def test_a_recording_grows_under_another_name_and_is_sealed(tmp_path: Path) -> None:
    folder = WavFolder(tmp_path / "made", 10_000_000)
    for _ in range(3):
        folder.append("c1", SECOND)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["c1.wav.part"]
    told = folder.finish("c1")
    whole = tmp_path / "made" / "c1.wav"
    assert told is not None
    assert (told.seconds, told.bytes, told.cut) == (3.0, whole.stat().st_size, False)
    assert told.sha256 == hashlib.sha256(whole.read_bytes()).hexdigest()
    assert seconds(whole) == 3.0
    assert folder.finish("c1") is None


def test_what_a_dead_process_left_is_finished(tmp_path: Path) -> None:
    folder = WavFolder(tmp_path, 10_000_000)
    folder.append("c1", SECOND * 2)
    folder._open["c1"].file.flush()
    folder._open["c1"].file.close()
    WavFolder(tmp_path, 10_000_000)
    assert [path.name for path in tmp_path.iterdir()] == ["c1.wav"]
    assert seconds(tmp_path / "c1.wav") == 2.0


def test_the_oldest_goes_for_a_new_one(tmp_path: Path) -> None:
    folder = WavFolder(tmp_path, 100_000)
    for age, call in ((30, "c1"), (20, "c2")):
        folder.append(call, SECOND)
        folder.finish(call)
        os.utime(tmp_path / f"{call}.wav", (1e9 - age,) * 2)
    folder.append("c3", SECOND * 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c2.wav", "c3.wav.part"]
    folder.finish("c3")


def test_a_recording_that_finds_no_room_is_cut_and_says_so(tmp_path: Path) -> None:
    folder = WavFolder(tmp_path, 80_000)
    folder.append("c1", SECOND * 2)
    folder._open["c1"].file.flush()
    folder.append("c1", SECOND * 2)
    folder.append("c1", SECOND)
    told = folder.finish("c1")
    assert told is not None
    assert (told.seconds, told.cut) == (2.0, True)
    assert seconds(tmp_path / "c1.wav") == 2.0


def test_a_disk_that_fails_costs_the_recording_alone(tmp_path: Path) -> None:
    folder = WavFolder(tmp_path / "made", 1_000_000)
    (tmp_path / "made").write_bytes(b"in the way of the folder")
    folder.append("c1", SECOND)
    (tmp_path / "made").unlink()
    folder.append("c1", SECOND)  # what is heard now would be taken for the call's first second
    assert folder.finish("c1") is None
    assert not (tmp_path / "made").exists()
    folder.append("c2", SECOND)
    assert folder.finish("c2") is not None
