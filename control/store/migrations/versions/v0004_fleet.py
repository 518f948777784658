"""The fleet: its configuration in versions, the sidecars that connected, and commands between replicas."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "snapshots",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=256), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.Column("secrets", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_snapshots")),
        sa.UniqueConstraint("id", name=op.f("uq_snapshots_id")),
    )
    op.create_table(
        "fleet",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("instance", sa.String(length=64), nullable=False),
        sa.Column("software", sa.String(length=64), nullable=False),
        sa.Column("facts_version", sa.Integer(), nullable=False),
        sa.Column("replica", sa.String(length=64), nullable=True),
        sa.Column("first_seen_us", sa.BigInteger(), nullable=False),
        sa.Column("connected_us", sa.BigInteger(), nullable=False),
        sa.Column("heard_us", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_fleet")),
    )
    op.create_table(
        "commands",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("sidecar", sa.String(length=128), nullable=False),
        sa.Column("asked_by", sa.String(length=64), nullable=False),
        sa.Column("meant_for", sa.String(length=64), nullable=False),
        sa.Column("deadline_us", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commands")),
    )
    op.create_index(op.f("ix_commands_deadline_us"), "commands", ["deadline_us"], unique=False)
    op.create_table(
        "answers",
        sa.Column("command", sa.String(length=32), nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["command"], ["commands.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("command", "n", name=op.f("pk_answers")),
    )


def downgrade() -> None:
    for table in ("answers", "commands", "fleet", "snapshots"):
        op.drop_table(table)
