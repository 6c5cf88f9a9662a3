"""The queue: its tables, the view job_status, and the functions that other programs call."""

from migrations import helpers

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    helpers.up("0001_queue", "0001_functions")


def downgrade() -> None:
    """Drop them with everything in them."""
    helpers.down("0001_queue", "0001_functions")
