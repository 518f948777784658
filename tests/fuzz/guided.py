"""One decoder under libFuzzer: `python -m tests.fuzz.guided DECODER CORPUS… -flags`. Ends its process."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["sidecar", "control"]):
    from tests.fuzz.decoders import DECODERS


def main() -> None:
    """Fuzz until told to stop."""
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, DECODERS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
