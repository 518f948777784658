"""A recording as Opus is as well aligned as the frames that it was made of: against the sources, by cross-correlation on the true clock."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from sidecar.analysis.recordings import Recordings
from tests.core.turns.test_stereo import RATE, lag_ms, packets, recorded, speech
from tests.support.speech_call import Network


def opus(frames: np.ndarray, folder: Path) -> np.ndarray:
    """Encoded piece by piece as a call goes on, and decoded at 8 kHz."""
    kept = Recordings(folder, 1 << 30)
    octets = np.rint(frames * 32768).astype("<i2").tobytes()
    for start in range(0, len(octets), 4 * RATE):
        kept.append("c1", "ogg", octets[start : start + 4 * RATE])
    assert kept.finish("c1", "ogg") is not None
    with av.open(str(folder / "c1.ogg")) as container:
        resampler = av.AudioResampler("flt", "stereo", RATE)
        pieces = [out.to_ndarray() for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        pieces += [out.to_ndarray() for out in resampler.resample(None)]
    return np.concatenate(pieces, axis=1).reshape(-1, 2)


@pytest.mark.parametrize(("minutes", "drift"), [pytest.param(30, 100.0, marks=pytest.mark.load), (2, 100.0)])
def test_opus_stays_within_5_ms_of_the_source(tmp_path: Path, minutes: int, drift: float) -> None:
    """As `test_thirty_minutes_stay_within_5_ms_of_the_source`: two clocks that drift apart, a wire that loses, delays and reorders."""
    left, right = speech(60 * minutes, 1), speech(60 * minutes, 9)
    network = {"jitter_ms": 20.0, "loss": 0.01}
    frames = recorded(packets(left, right, Network(drift_ppm=drift, **network), Network(drift_ppm=-drift, **network)), 60.0 * minutes - 1)
    heard = opus(frames, tmp_path)
    assert abs(len(heard) - len(frames)) <= 8
    for side, (source, ppm) in enumerate(((left, drift), (right, -drift))):
        for second in (2, 20 * minutes, 40 * minutes, 60 * minutes - 14):
            window = slice(second * RATE, (second + 10) * RATE)
            true_time = np.arange(window.start, window.stop) / (1 + ppm * 1e-6)
            expected = np.interp(true_time, np.arange(len(source)), source)
            assert abs(lag_ms(heard[window, side], expected)) < 5.0, (side, second)
