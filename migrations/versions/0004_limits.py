"""Managed queues: keys, limits, rates, order and fairness."""

from migrations import helpers

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    helpers.up("0004_limits")


def downgrade() -> None:
    """Drop them."""
    helpers.down("0004_limits")
