"""The outbox: what was accepted leaves here, at least once, under one call_id, with one body."""

from __future__ import annotations
