"""Tokens, the audit log, and the columns of calls that the API's filter on latency and the resuming of event streams need."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BATCH = 500


def upgrade() -> None:
    op.add_column("calls", sa.Column("latency_ms", sa.Float(), nullable=True))
    _fill_latency()
    op.create_index("ix_calls_latency_ms_started_us_id", "calls", ["latency_ms", "started_us", "id"], unique=False)
    op.create_index("ix_calls_updated_us_id", "calls", ["updated_us", "id"], unique=False)
    op.create_table(
        "tokens",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.String(length=128), nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=True),
        sa.Column("agent", sa.String(length=256), nullable=True),
        sa.Column("credential", sa.LargeBinary(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=256), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=True),
        sa.Column("revoked_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
    )
    in_force = sa.text("revoked_us IS NULL")
    op.create_index("uq_tokens_name_in_force", "tokens", ["name"], unique=True, sqlite_where=in_force, postgresql_where=in_force)
    op.create_table(
        "audit",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=256), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=256), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=True),
        sa.Column("request_id", sa.String(length=128), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_action_id", "audit", ["action", "id"], unique=False)
    op.create_index("ix_audit_actor_id", "audit", ["actor", "id"], unique=False)


def _fill_latency() -> None:
    """The new column of the calls that are stored, from their documents."""
    calls = sa.table("calls", sa.column("id", sa.String), sa.column("doc", sa.Text), sa.column("latency_ms", sa.Float))
    connection = op.get_bind()
    last = ""
    while True:
        wanted = sa.select(calls.c.id, calls.c.doc).where(calls.c.id > last).order_by(calls.c.id).limit(_BATCH)
        found = connection.execute(wanted).all()
        if not found:
            return
        for row in found:
            turns = json.loads(row.doc).get("turns", [])
            slowest = max((turn["response_latency_ms"] for turn in turns if turn["kind"] == "response"), default=None)
            if slowest is not None:
                connection.execute(sa.update(calls).where(calls.c.id == row.id).values(latency_ms=slowest))
        last = found[-1].id


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_table("tokens")
    op.drop_index("ix_calls_updated_us_id", table_name="calls")
    op.drop_index("ix_calls_latency_ms_started_us_id", table_name="calls")
    op.drop_column("calls", "latency_ms")
