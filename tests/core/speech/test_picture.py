"""What is kept of a direction to draw it: levels a tenth of a second each, and where audio never arrived."""

from __future__ import annotations

import numpy as np

from sidecar.speech.picture import STEP, Picture


def of(*levels: float) -> np.ndarray:
    return np.array(levels, np.float32)


def test_a_step_has_the_loudest_of_its_ten_frames_however_they_come() -> None:
    whole, piecewise = Picture(), Picture()
    frames = of(*[-60.0] * 9, -20.4, *[-50.0] * 10, *[-70.0] * 5)
    whole.frames(frames)
    for start in range(0, len(frames), 4):
        piecewise.frames(frames[start : start + 4])
    assert whole.levels(100) == (STEP, [-20, -50])
    assert piecewise.levels(100) == whole.levels(100)


def test_levels_stay_within_what_a_drawing_knows() -> None:
    picture = Picture()
    picture.frames(of(*[3.0] * 10, *[-200.0] * 10))
    assert picture.levels(10) == (STEP, [0, -96])


def test_many_steps_become_few_and_the_loudest_is_among_them() -> None:
    picture = Picture()
    levels = np.full(10 * 1003, -80.0, np.float32)
    levels[10 * 500] = -7.0
    picture.frames(levels)
    width, steps = picture.levels(100)
    assert width == 11 * STEP
    assert len(steps) == 92
    assert (max(steps), steps.index(-7)) == (-7, 500 // 11)


def test_nothing_heard_is_nothing_drawn() -> None:
    assert Picture().levels(100) == (STEP, [])


def test_losses_that_are_close_are_one_and_their_number_is_bounded() -> None:
    picture = Picture()
    picture.lost(0, 160)
    picture.lost(800, 160)
    picture.lost(80_000, 160)
    assert picture.losses == [(0, 960), (80_000, 80_160)]
    for i in range(5000):
        picture.lost(100_000 + i * 8000, 160)
    assert len(picture.losses) <= 500
    assert picture.losses[-1][1] == 100_000 + 4999 * 8000 + 160
    assert all(end < start for (_, end), (start, _) in zip(picture.losses, picture.losses[1:], strict=False))
