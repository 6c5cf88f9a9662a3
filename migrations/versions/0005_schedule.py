"""Cron schedules, dependencies, progress, start deadlines, service rates."""

from migrations import helpers

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    helpers.up("0005_schedule")


def downgrade() -> None:
    """Drop them."""
    helpers.down("0005_schedule")
