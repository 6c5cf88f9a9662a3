"""Topics: messages, groups, deliveries, audit."""

from migrations import helpers

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    helpers.up("0007_topics")


def downgrade() -> None:
    """Drop them."""
    helpers.down("0007_topics")
