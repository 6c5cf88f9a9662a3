"""The customers application: tiers, usage, invoices, notifications."""

from migrations import helpers

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    helpers.up("0006_customers")


def downgrade() -> None:
    """Drop them."""
    helpers.down("0006_customers")
