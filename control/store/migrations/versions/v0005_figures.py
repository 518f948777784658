"""Figures of calls in a narrow table, from which summaries are made; spans of agents' own traces; a retention of messages alone."""

from __future__ import annotations

import json
from array import array

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BATCH = 500


def upgrade() -> None:
    op.add_column("calls", sa.Column("messages_gone", sa.Boolean(), server_default=sa.false(), nullable=False))
    kept = sa.text("NOT messages_gone")
    op.create_index("ix_calls_messages_kept", "calls", ["ended_us"], unique=False, sqlite_where=kept, postgresql_where=kept)
    op.create_table(
        "figures",
        sa.Column("call", sa.String(length=64), nullable=False),
        sa.Column("sip_call_id", sa.String(length=512), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("route", sa.String(length=128), nullable=False),
        sa.Column("sidecar", sa.String(length=128), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("latency_ms", sa.Float(), nullable=True),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("responses", sa.LargeBinary(), nullable=True),
        sa.Column("greeting", sa.LargeBinary(), nullable=True),
        sa.Column("differences", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["call"], ["calls.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call", name=op.f("pk_figures")),
    )
    op.create_index("ix_figures_started_us", "figures", ["started_us"], unique=False)
    _fill()
    op.create_table(
        "spans",
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.Column("span_id", sa.String(length=16), nullable=False),
        sa.Column("workspace", sa.String(length=64), nullable=False),
        sa.Column("provider_call_id", sa.String(length=200), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("trace_id", "span_id", "workspace", name=op.f("pk_spans")),
    )
    op.create_index("ix_spans_provider_call_id_started_us", "spans", ["provider_call_id", "started_us"], unique=False)
    op.create_index("ix_spans_received_us", "spans", ["received_us"], unique=False)


_SHARED = ("sip_call_id", "kind", "outcome", "route", "sidecar", "status", "started_us", "latency_ms")


def _fill() -> None:
    """The figures of the calls that are stored, from their documents."""
    packed = [sa.column(name, sa.LargeBinary) for name in ("responses", "greeting", "differences")]
    figures = sa.table("figures", *map(sa.column, ("call", *_SHARED, "reason")), *packed)
    calls = sa.table("calls", *map(sa.column, ("id", *_SHARED, "doc")))
    connection = op.get_bind()
    last = ""
    while True:
        wanted = sa.select(calls).where(calls.c.id > last).order_by(calls.c.id).limit(_BATCH)
        found = connection.execute(wanted).all()
        if not found:
            return
        connection.execute(sa.insert(figures), [_figures(row) for row in found])
        last = found[-1].id


def _figures(row: sa.Row[tuple[object, ...]]) -> dict[str, object]:
    told = json.loads(row.doc)
    greeting = told.get("timings_ms", {}).get("greeting")
    return {
        "call": row.id,
        **{name: getattr(row, name) for name in _SHARED},
        "reason": told.get("reason"),
        "responses": _packed([turn["response_latency_ms"] for turn in told.get("turns", []) if turn["kind"] == "response"]),
        "greeting": _packed([greeting] if greeting is not None else []),
        "differences": _packed(told.get("reported", {}).get("difference_ms", [])),
    }


def _packed(values: list[float]) -> bytes | None:
    return array("d", values).tobytes() or None


def downgrade() -> None:
    op.drop_table("spans")
    op.drop_table("figures")
    op.drop_index("ix_calls_messages_kept", table_name="calls")
    op.drop_column("calls", "messages_gone")
