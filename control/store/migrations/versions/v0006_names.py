"""The sidecars that a token speaks for; the log of changes by time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tokens", sa.Column("sidecars", sa.Text(), server_default="[]", nullable=False))
    op.create_index("ix_audit_at_us", "audit", ["at_us"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_audit_at_us", table_name="audit")
    op.drop_column("tokens", "sidecars")
