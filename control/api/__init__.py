"""The HTTP surface: what agents, sidecars and people ask of control."""

from __future__ import annotations
