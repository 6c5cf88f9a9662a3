"""Conversations: events, friendships, agents with their seed data, candidates, and the view of events and jobs."""

from migrations import helpers

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    helpers.up("0002_conversations", "0002_agents")


def downgrade() -> None:
    """Drop them with everything in them."""
    helpers.down("0002_conversations", "0002_agents")
