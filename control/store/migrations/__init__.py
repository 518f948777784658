"""Alembic's environment and the versions of the schema."""

HEAD = "0005"
"""The newest version: a database that has it needs nothing."""
