"""Alembic's environment and the versions of the schema."""

HEAD = "0006"
"""The newest version: a database that has it needs nothing."""
