"""The sidecars that a token speaks for; the log of changes in the order of time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tokens", sa.Column("sidecars", sa.Text(), server_default="[]", nullable=False))
    for name in ("action", "actor"):
        op.drop_index(f"ix_audit_{name}_id", table_name="audit")
        op.create_index(f"ix_audit_{name}_at_us_id", "audit", [name, "at_us", "id"], unique=False)
    op.create_index("ix_audit_at_us_id", "audit", ["at_us", "id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_audit_at_us_id", table_name="audit")
    for name in ("action", "actor"):
        op.drop_index(f"ix_audit_{name}_at_us_id", table_name="audit")
        op.create_index(f"ix_audit_{name}_id", "audit", [name, "id"], unique=False)
    op.drop_column("tokens", "sidecars")
