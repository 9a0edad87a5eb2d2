"""What a downstream refused lately is found by an index that has just that."""

from migrations.tables_in_use import create_index

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds an index that nothing but a refusal writes: by it a limit is found that is more than a downstream takes."""
    create_index("ix_attempts_refused", "attempts", ["ended_at"], where="outcome = 'refused'")
