"""A wake-up tells two of a queue's sleepers instead of all."""

from migrations import helpers

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    helpers.up("0009_wake_up")


def downgrade() -> None:
    """Drop them."""
    helpers.down("0009_wake_up")
