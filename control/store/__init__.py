"""Durable state: calls, their facts, reports and the outbox, on SQLite or PostgreSQL through one code."""

from __future__ import annotations

from control.store.database import Store, migrate, open_store

__all__ = ["Store", "migrate", "open_store"]
