"""tandem.explain(job): why a job does not run, for any SQL client."""

from migrations import helpers

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make it."""
    helpers.up("0003_explain")


def downgrade() -> None:
    """Drop it."""
    helpers.down("0003_explain")
