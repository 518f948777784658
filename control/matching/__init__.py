"""Which report belongs to which call, and what becomes of the link: pure functions over values."""

from __future__ import annotations
