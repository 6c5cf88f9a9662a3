"""Least-privilege roles and API keys."""

from migrations import helpers

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    helpers.up("0008_roles")


def downgrade() -> None:
    """Drop them."""
    helpers.down("0008_roles")
