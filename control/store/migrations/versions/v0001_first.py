"""Calls, facts, reports, the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "calls",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("sip_call_id", sa.String(length=512), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("route", sa.String(length=128), nullable=False),
        sa.Column("sidecar", sa.String(length=128), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("held", sa.Integer(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calls")),
    )
    op.create_index("ix_calls_kind_started_us_id", "calls", ["kind", "started_us", "id"], unique=False)
    op.create_index("ix_calls_outcome_started_us_id", "calls", ["outcome", "started_us", "id"], unique=False)
    op.create_index("ix_calls_route_started_us_id", "calls", ["route", "started_us", "id"], unique=False)
    op.create_index("ix_calls_settled_ended_us", "calls", ["settled", "ended_us"], unique=False)
    op.create_index("ix_calls_sidecar_started_us_id", "calls", ["sidecar", "started_us", "id"], unique=False)
    op.create_index(op.f("ix_calls_sip_call_id"), "calls", ["sip_call_id"], unique=False)
    op.create_index("ix_calls_started_us_id", "calls", ["started_us", "id"], unique=False)
    op.create_index("ix_calls_status_started_us_id", "calls", ["status", "started_us", "id"], unique=False)
    op.create_table(
        "facts",
        sa.Column("call", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("call", "seq", name=op.f("pk_facts")),
    )
    op.create_table(
        "probe",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_probe")),
    )
    op.create_table(
        "reports",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("provider_call_id", sa.String(length=200), nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("agent", sa.String(length=256), nullable=False),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("credential", sa.LargeBinary(), nullable=True),
        sa.Column("sip_call_id", sa.String(length=512), nullable=True),
        sa.Column("correlation_sha256", sa.String(length=64), nullable=True),
        sa.Column("call", sa.String(length=64), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("rule", sa.String(length=32), nullable=True),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("exact", sa.Boolean(), nullable=False),
        sa.Column("candidates", sa.Text(), nullable=False),
        sa.Column("frozen", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reports")),
        sa.UniqueConstraint("provider_call_id", "workspace", "agent", name=op.f("uq_reports_provider_call_id_workspace_agent")),
    )
    op.create_index(op.f("ix_reports_call"), "reports", ["call"], unique=False)
    op.create_index(op.f("ix_reports_correlation_sha256"), "reports", ["correlation_sha256"], unique=False)
    op.create_index("ix_reports_frozen_received_us", "reports", ["frozen", "received_us"], unique=False)
    op.create_index(op.f("ix_reports_sip_call_id"), "reports", ["sip_call_id"], unique=False)
    op.create_table(
        "sidecars",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("first_seen_us", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_us", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sidecars")),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("destination", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("report", _ID, nullable=True),
        sa.Column("call", sa.String(length=64), nullable=True),
        sa.Column("label", sa.String(length=256), nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("agent", sa.String(length=256), nullable=False),
        sa.Column("credential", sa.LargeBinary(), nullable=True),
        sa.Column("content_type", sa.String(length=128), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at_us", sa.BigInteger(), nullable=False),
        sa.Column("lease", sa.String(length=64), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("finished_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["report"], ["reports.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("destination", "report", name=op.f("uq_deliveries_destination_report")),
    )
    op.create_index(op.f("ix_deliveries_call"), "deliveries", ["call"], unique=False)
    op.create_index(op.f("ix_deliveries_report"), "deliveries", ["report"], unique=False)
    op.create_index("ix_deliveries_state_next_at_us", "deliveries", ["state", "next_at_us"], unique=False)
    op.create_table(
        "identifiers",
        sa.Column("call", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("value", sa.String(length=512), nullable=False),
        sa.ForeignKeyConstraint(["call"], ["calls.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call", "kind", "value", name=op.f("pk_identifiers")),
    )
    op.create_index("ix_identifiers_value_kind", "identifiers", ["value", "kind"], unique=False)


def downgrade() -> None:
    for table in ("probe", "sidecars", "identifiers", "deliveries", "reports", "facts", "calls"):
        op.drop_table(table)
