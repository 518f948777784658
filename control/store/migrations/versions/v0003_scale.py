"""Indexes for every filter alone and for all together, matching by index, order within a call, and what webhooks were told."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from control.matching.claim import read_claim
from control.store.linking import claimed

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BATCH = 500
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TELL = """
CREATE FUNCTION trunkside_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('trunkside_calls', NEW.id || ' ' || current_setting('application_name'));
    RETURN NULL;
END $$
"""
_ON_CHANGE = "CREATE TRIGGER trunkside_tell AFTER INSERT OR UPDATE ON calls FOR EACH ROW EXECUTE FUNCTION trunkside_tell()"
_FILTERS = ["started_us", "id", "kind", "outcome", "route", "sidecar", "status", "latency_ms"]


def upgrade() -> None:
    op.add_column("calls", sa.Column("told", sa.String(length=16), nullable=True))
    op.create_index("ix_calls_ended_us_started_us", "calls", ["ended_us", "started_us"], unique=False)
    op.create_index("ix_calls_all_filters", "calls", _FILTERS, unique=False)
    op.drop_index("ix_calls_started_us_id", table_name="calls")  # the one before begins with the same columns
    op.add_column("probe", sa.Column("pad", sa.LargeBinary(), nullable=True))
    op.create_table(
        "strays",
        sa.Column("call", sa.String(length=64), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("call", name=op.f("pk_strays")),
    )
    op.create_index(op.f("ix_strays_since_us"), "strays", ["since_us"], unique=False)
    _of_reports("claims", sa.Column("value", sa.String(length=512), nullable=False))
    _of_reports("conflicts", sa.Column("call", sa.String(length=64), nullable=False))
    _fill()
    op.drop_index("ix_reports_frozen_received_us", table_name="reports")
    op.create_index("ix_reports_received_us", "reports", ["received_us"], unique=False)
    _deliveries()
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_TELL)
        op.execute(_ON_CHANGE)


def _fill() -> None:
    """What is stored already: facts without their call, and what each report claims and is torn between."""
    connection = op.get_bind()
    connection.execute(
        sa.text("INSERT INTO strays SELECT call, MIN(at_us) FROM facts WHERE call NOT IN (SELECT id FROM calls) GROUP BY call")
    )
    reports = sa.table("reports", *map(sa.column, ("id", "body", "outcome", "candidates")))
    claims, conflicts = (sa.table(name, sa.column(key), sa.column("report")) for name, key in (("claims", "value"), ("conflicts", "call")))
    last = 0
    while found := connection.execute(sa.select(reports).where(reports.c.id > last).order_by(reports.c.id).limit(_BATCH)).all():
        last = found[-1].id
        claiming = [{"value": value, "report": row.id} for row in found for value in claimed(read_claim(row.body))]
        torn = [{"call": call, "report": row.id} for row in found if row.outcome == "conflict" for call in json.loads(row.candidates)]
        for table, values in ((claims, claiming), (conflicts, torn)):
            if values:
                connection.execute(sa.insert(table), values)


def _of_reports(table: str, key: sa.Column[str]) -> None:
    op.create_table(
        table,
        key,
        sa.Column("report", _ID, nullable=False),
        sa.ForeignKeyConstraint(["report"], ["reports.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint(key.name, "report", name=op.f(f"pk_{table}")),
    )
    op.create_index(op.f(f"ix_{table}_report"), table, ["report"], unique=False)


def _deliveries() -> None:
    if op.get_bind().dialect.name != "sqlite":  # SQLite holds no text to its length, and rebuilds a table to change a type
        op.alter_column("deliveries", "kind", type_=sa.String(length=32), existing_nullable=False)
    op.drop_index("ix_deliveries_state_next_at_us", table_name="deliveries")
    op.drop_index(op.f("ix_deliveries_call"), table_name="deliveries")
    pending = sa.text("state = 'pending'")
    for name, columns in (("due", ["destination", "next_at_us"]), ("ahead", ["call", "destination", "id"])):
        op.create_index(f"ix_deliveries_{name}", "deliveries", columns, unique=False, sqlite_where=pending, postgresql_where=pending)
    for column in ("state", "call", "label"):
        op.create_index(f"ix_deliveries_{column}_id", "deliveries", [column, "id"], unique=False)
    op.create_index("ix_deliveries_finished_us", "deliveries", ["finished_us"], unique=False)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER trunkside_tell ON calls")
        op.execute("DROP FUNCTION trunkside_tell()")
    for name in ("due", "ahead", "state_id", "call_id", "label_id", "finished_us"):
        op.drop_index(f"ix_deliveries_{name}", table_name="deliveries")
    op.create_index(op.f("ix_deliveries_call"), "deliveries", ["call"], unique=False)
    op.create_index("ix_deliveries_state_next_at_us", "deliveries", ["state", "next_at_us"], unique=False)
    op.drop_index("ix_reports_received_us", table_name="reports")
    op.create_index("ix_reports_frozen_received_us", "reports", ["frozen", "received_us"], unique=False)
    for table in ("conflicts", "claims", "strays"):
        op.drop_table(table)
    op.drop_column("probe", "pad")
    op.create_index("ix_calls_started_us_id", "calls", ["started_us", "id"], unique=False)
    op.drop_index("ix_calls_all_filters", table_name="calls")
    op.drop_index("ix_calls_ended_us_started_us", table_name="calls")
    op.drop_column("calls", "told")
