"""The bench of the two legs' tests serves here too."""

from tests.core.b2bua.conftest import bench, make

__all__ = ["bench", "make"]
