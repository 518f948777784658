"""Which version of the software this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def software() -> str:
    """The installed version, 0 where it is not installed."""
    try:
        return version("trunkside")
    except PackageNotFoundError:
        return "0"
