"""The neural detector's network, by way of the extra `trunkside[accurate]`: loaded with the first call that asks for it, not before."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from sidecar.analysis.extra import network_file
from sidecar.speech.neural import Floats

_RATE: Final = np.array(16000, np.int64)
_ERRORS_ONLY: Final = 3


class Silero:
    """The network in one thread: one core of a sidecar's machine is not the analysis's to take more of."""

    def __init__(self) -> None:
        """Raises ImportError where the extra is not installed."""
        import onnxruntime  # type: ignore[import-untyped]

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        self._session: Any = onnxruntime.InferenceSession(str(network_file()), options, providers=["CPUExecutionProvider"])

    def __call__(self, windows: Floats, states: Floats) -> tuple[Floats, Floats]:
        """One step for several streams."""
        probabilities, after = self._session.run(None, {"input": windows, "state": states, "sr": _RATE})
        return probabilities[:, 0], after
